"""Folders of the cache appear whole or not at all, whatever happens to the process that writes them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from compressor import kept
from compressor.artifacts import TrainingCurve
from compressor.aside import beside, one_at_a_time, read_seal, seal, write_aside
from compressor.errors import OutputError
from compressor.events import ignore

CURVE = TrainingCurve((1, 2), (0.5, 0.25), ({"step": 2.0, "accuracy": 0.75},))

KILLED = """
import sys, time
from pathlib import Path
from compressor.aside import write_aside
with write_aside(Path(sys.argv[1])) as aside:
    (aside / "half").write_text("half")
    print(aside, flush=True)
    time.sleep(60)
"""


def write(folder: Path, text: str = "whole") -> None:
    with write_aside(folder) as aside:
        (aside / "file").write_text(text)
        seal(aside, {"text": text})


def write_weights(folder: Path) -> None:
    (folder / "model").write_text("weights")


def test_a_folder_appears_at_the_end_of_the_block_and_is_as_open_as_any(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with write_aside(tmp_path / "cache/key") as aside:
        (aside / "file").write_text("whole")
        assert not (tmp_path / "cache/key").exists()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key"]
    assert (tmp_path / "cache/key").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    def fail(aside: Path) -> None:
        (aside / "file").write_text("half")
        raise error

    with pytest.raises(error), write_aside(tmp_path / "key") as aside:
        fail(aside)
    assert list(tmp_path.iterdir()) == []


def test_two_that_make_the_same_place_take_turns_and_leave_no_lock(tmp_path: Path) -> None:
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        with one_at_a_time(tmp_path / "cache/key", lambda event: waits.set()):
            order.append("second")

    thread = threading.Thread(target=second)
    with one_at_a_time(tmp_path / "cache/key", ignore):
        thread.start()
        assert waits.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_place_that_cannot_be_locked_is_the_users_matter(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError) as caught, one_at_a_time(tmp_path / "cache/key", ignore):
        raise AssertionError("the block must not run")
    assert str(caught.value) == f"Folder {tmp_path}/cache cannot be written: File exists.\nChoose another --cache-dir."


def test_what_another_process_finished_meanwhile_stays(tmp_path: Path) -> None:
    with write_aside(tmp_path / "key") as aside:
        seal(aside, {"text": "mine"})
        write(tmp_path / "key", "theirs")
    assert read_seal(tmp_path / "key") == {"text": "theirs"}
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_damaged_folder_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "key")
    (tmp_path / "key/file").write_text("wh0le")
    write(tmp_path / "key")
    assert (tmp_path / "key/file").read_text() == "whole"


def test_what_a_killed_process_left_is_cleared_and_a_living_one_is_spared(tmp_path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "key")], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        left, spared = (Path(process.stdout.readline().strip()) for process in started if process.stdout)
        started[0].send_signal(signal.SIGKILL)
        started[0].wait()
        assert (left / "half").is_file()
        with beside(tmp_path / "key", "--cache-dir"):
            assert not left.exists()
            assert (spared / "half").is_file()
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_a_parent_that_cannot_be_written_is_an_error_with_its_flag(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught, beside(tmp_path / "file/key", "--cache-dir"):
        pass
    assert str(caught.value) == (
        f"Folder {tmp_path / 'file'} cannot be written: File exists.\nChoose another --cache-dir."
    )


def test_a_finished_training_is_kept_with_its_curve_and_its_checkpoints_go(tmp_path: Path) -> None:
    place = kept.place(tmp_path, "students", {"seed": 1})
    (kept.training_folder(place) / "checkpoint-1").mkdir(parents=True)
    assert not kept.is_kept(place)
    kept.keep(place, write_weights, CURVE)
    assert kept.is_kept(place)
    assert kept.read_curve(place) == CURVE
    assert list((tmp_path / "students").iterdir()) == [place]


def test_a_training_that_was_damaged_is_not_kept(tmp_path: Path) -> None:
    place = kept.place(tmp_path, "students", {"seed": 1})
    kept.keep(place, write_weights, CURVE)
    (place / "model").write_text("we1ghts")
    assert not kept.is_kept(place)


def test_other_content_is_another_place(tmp_path: Path) -> None:
    assert kept.place(tmp_path, "students", {"seed": 1}) != kept.place(tmp_path, "students", {"seed": 2})
    assert kept.place(tmp_path, "students", {"a": 1, "b": 2}) == kept.place(tmp_path, "students", {"b": 2, "a": 1})
