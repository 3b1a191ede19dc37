"""report.html: read as a document, and opened in a real browser where there is one."""

import json
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from compressor.report import document, write_report
from compressor.report.figures import Axis
from compressor.report.html import confusions, html, matrix
from tests.report_inputs import LABELS, SCRIPT, findings

VOID = {"meta", "link", "input", "br", "img"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass
class Page(HTMLParser):
    """A page as its tags; a tag that is closed in the wrong order is an error."""

    open: list[str] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def read(**changes: Any) -> Page:
    page = Page()
    page.feed(html(document(findings(**changes))))
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def page() -> Page:
    return read()


# --- as a document ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "Cannot tell yet"),
        ({"drop": 0.05}, "Do not ship"),
        ({"rows": 6000, "drop": -0.004}, "Ship it"),
        ({"sparsity": 0.0, "quantized": None, "benchmark": None, "layer_map": (), "rows": 1}, "Cannot tell yet"),
    ],
)
def test_every_kind_of_run_gives_a_well_formed_page_that_leads_with_its_verdict(changes: dict, verdict: str) -> None:
    found = read(**changes)
    headings = [text for text in found.texts if text.strip() in ("Ship it", "Do not ship", "Cannot tell yet")]
    assert headings == [verdict]


def test_a_script_in_a_text_or_a_label_stays_text(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert any(text.startswith(SCRIPT) for text in page.texts)
    assert "transfer <fee>" in page.texts


def test_hostile_names_stay_text_in_every_place() -> None:
    hostile = '"><script>alert(1)</script>'
    found = read(
        teacher=hostile, notes=(hostile,), warnings=(hostile,), environment={hostile: hostile}, stages={hostile: 1.0}
    )
    assert len(found.all("script")) == 1
    assert sum(hostile in text for text in found.texts) >= 5


def test_no_element_points_outside_the_page_and_none_has_a_handler(page: Page) -> None:
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "action", "data", "srcset"):
                assert value is not None
                assert value.startswith(("#", "data:")), (tag, value)


def test_the_policy_forbids_every_request(page: Page) -> None:
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


def test_ids_are_unique_and_every_anchor_has_its_target(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [link["href"].removeprefix("#") for link in page.all("a")]
    targets += [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert set(targets) <= set(ids)


def test_figures_are_told_in_words_and_what_scrolls_can_be_reached_by_keyboard(page: Page) -> None:
    assert all(figure["role"] == "img" and len(figure["aria-label"]) > 20 for figure in page.all("svg"))
    regions = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert regions
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)


def test_a_place_where_the_student_is_slower_says_so_in_words(page: Page) -> None:
    assert page.texts.count("slower here") == 1


def test_the_matrix_of_few_labels_holds_the_change_of_every_cell() -> None:
    found = document(findings())
    rows = matrix(found, "student_int8")
    assert [row["label"] for row in rows] == list(LABELS)
    cells = {
        (row["label"], name): cell["change"]
        for row in rows
        for name, cell in zip(LABELS, row["cells"], strict=True)
        if cell
    }
    comparison = found["comparisons"][-1]
    assert cells == {
        (cell["label"], cell["predicted"]): cell["student"] - cell["teacher"] for cell in comparison["confusion"]
    }
    # Rows keep their number: what leaves one cell of a true label arrives in another.
    assert sum(cells.values()) == 0


def test_more_on_the_diagonal_is_good_and_more_beside_it_is_bad() -> None:
    found = document(findings())
    for row in matrix(found, "student_int8"):
        for cell in filter(None, row["cells"]):
            better = cell["change"] > 0 if cell["label"] == cell["predicted"] else cell["change"] < 0
            assert cell["tone"] == ("good" if better else "bad")
            assert cell["shade"] in (1, 2, 3)


def test_many_labels_are_ranked_instead_largest_first(page: Page) -> None:
    found = document(findings())
    many = {**found, "data": {**found["data"], "labels": [f"label {index}" for index in range(150)]}}
    assert matrix(many, "student_int8") is None
    assert any(attributes.get("class") == "matrix" for attributes in page.all("table"))
    reading = Page()
    reading.feed(html(many))
    assert not any(attributes.get("class") == "matrix" for attributes in reading.all("table"))
    changes = [abs(cell["change"]) for cell in confusions(many, "student_int8")]
    assert changes == sorted(changes, reverse=True)
    assert all(cell["label"] != cell["predicted"] for cell in confusions(many, "student_int8"))


def test_a_report_of_before_bounds_and_company_can_still_be_drawn() -> None:
    found = document(findings())
    del found["company"]
    for row in found["latency"]:
        del row["floor_ms"], row["share_of_bound"]
    assert "Of bound" in html(found)


def test_ticks_lie_on_the_axis_and_are_round() -> None:
    assert Axis(4.9, 48, 0, 1, log=True).ticks() == pytest.approx([5, 10, 20])
    assert Axis(0.9, 0.95, 0, 1).ticks() == pytest.approx([0.9, 0.91, 0.92, 0.93, 0.94, 0.95])


def test_a_value_outside_the_axis_is_held_at_its_end() -> None:
    assert Axis(0, 1, 10, 20).at(5) == 20
    # Two noisy rounds give an interval that is rounded to 0 at its lower end.
    assert Axis(1, 10, 10, 20, log=True).at(0.0) == 10


# --- in a browser -----------------------------------------------------------------------------

DRIVER = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<iframe id="page" src="report.html" style="width:390px;height:800px"></iframe><pre id="found">nothing</pre>
<script>
document.getElementById("page").addEventListener("load", function () {
  const page = this.contentDocument, form = page.getElementById("flip-filters"), found = {};
  const set = function (values) {
    form.reset();
    for (const name in values) form.elements[name].value = values[name];
    form.dispatchEvent(new Event("input", { bubbles: true }));
    const rows = Array.from(page.querySelectorAll("#flip-rows > tr")).filter((row) => row.offsetParent !== null);
    return {
      kinds: rows.map((row) => row.dataset.kind), labels: rows.map((row) => row.dataset.label),
      texts: rows.map((row) => row.querySelector(".text").textContent),
      count: page.getElementById("flip-count").textContent, none: !page.getElementById("flip-none").hidden,
    };
  };
  found.title = page.title;
  found.width = page.documentElement.scrollWidth;
  found.matrix = Array.from(page.querySelectorAll(".matrix tbody th")).map((cell) => cell.getBoundingClientRect().width);
  found.all = set({});
  found.broken = set({ kind: "broken" });
  found.label = set({ label: "退款" });
  found.words = set({ words: "  CHEQUE " });
  found.nothing = set({ words: "no such words" });
  found.again = set({});
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>
"""


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, and as a proxy sees every request that the browser makes."""

    seen: list[str]

    def log_message(self, format: str, *arguments: Any) -> None:
        self.seen.append(self.requestline)


@dataclass(frozen=True)
class Visit:
    """What a browser did with the report."""

    found: dict[str, Any]
    log: str
    requests: list[str]


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    if BROWSER is None:
        pytest.skip("no chromium on this machine: the page is only read, not opened")
    folder = tmp_path_factory.mktemp("site")
    write_report(folder, findings())
    (folder / "driver.html").write_text(DRIVER, encoding="utf-8")
    handler = type("Seeing", (Handler,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        dom, log = browse(f"http://127.0.0.1:{server.server_port}/driver.html", tmp_path_factory.mktemp("profile"))
        server.shutdown()
    parser = Page()
    parser.feed(dom)
    found = next((text for text in parser.texts if text.startswith("{")), None)
    assert found, f"the driver did not finish:\n{log}"
    return Visit(json.loads(found), log, list(handler.seen))


def browse(address: str, profile: Path) -> tuple[str, str]:
    """Open a page in a browser that reaches nothing but this machine; give the DOM and the log."""
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        f"--user-data-dir={profile}", "--enable-logging=stderr", "--virtual-time-budget=5000",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--dump-dom", address,
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=120, check=True, env={**os.environ, "LANG": "C.UTF-8"}
    )
    return done.stdout, done.stderr


def test_the_console_stays_silent(visit: Visit) -> None:
    assert [line for line in visit.log.splitlines() if "CONSOLE" in line] == []


def test_the_page_asks_for_nothing_but_itself(visit: Visit) -> None:
    assert sorted(visit.requests) == ["GET /driver.html HTTP/1.1", "GET /report.html HTTP/1.1"]


def test_the_script_in_a_text_did_not_run(visit: Visit) -> None:
    assert visit.found["title"] == "Cannot tell yet: ./finetuned-bert, 12 to 6 layers"
    assert any(text.startswith(SCRIPT) for text in visit.found["all"]["texts"])


def test_the_page_fits_a_phone(visit: Visit) -> None:
    assert visit.found["width"] <= 390


def test_the_labels_of_the_matrix_can_be_read_on_a_phone(visit: Visit) -> None:
    assert len(visit.found["matrix"]) == len(LABELS)
    assert min(visit.found["matrix"]) >= 90


def test_the_filters_show_what_fits_and_count_it(visit: Visit) -> None:
    found = visit.found
    rows = len(found["all"]["texts"])
    assert found["all"]["count"] == f"{rows} of {rows} shown"
    assert set(found["broken"]["kinds"]) == {"broken"}
    assert len(found["broken"]["kinds"]) == found["all"]["kinds"].count("broken") < rows
    assert found["broken"]["count"] == f"{len(found['broken']['kinds'])} of {rows} shown"
    assert set(found["label"]["labels"]) == {LABELS[3]}
    assert found["words"]["texts"]
    assert all("cheque" in text for text in found["words"]["texts"])


def test_filters_that_nothing_fits_say_so_and_can_be_cleared(visit: Visit) -> None:
    assert visit.found["nothing"]["none"]
    assert visit.found["nothing"]["texts"] == []
    assert visit.found["again"] == visit.found["all"]


def test_the_browser_would_report_a_page_that_is_not_silent(tmp_path: Path) -> None:
    if BROWSER is None:
        pytest.skip("no chromium on this machine")
    (tmp_path / "bad.html").write_text("<meta charset=utf-8><script>console.error('loud')</script>", encoding="utf-8")
    assert "loud" in browse((tmp_path / "bad.html").as_uri(), tmp_path / "profile")[1]
