"use strict";
// Filters of the flipped examples, and tables opened for print. No data comes from here: the page holds it all.
(function () {
  const form = document.getElementById("flip-filters");
  if (form) {
    const rows = Array.from(document.querySelectorAll("#flip-rows > tr"));
    const count = document.getElementById("flip-count");
    const none = document.getElementById("flip-none");
    const filter = function () {
      const words = form.elements.words.value.trim().toLocaleLowerCase();
      const kind = form.elements.kind.value;
      const label = form.elements.label.value;
      let shown = 0;
      for (const row of rows) {
        const fits =
          (!kind || row.dataset.kind === kind) &&
          (!label || row.dataset.label === label) &&
          (!words || row.textContent.toLocaleLowerCase().includes(words));
        row.hidden = !fits;
        shown += fits ? 1 : 0;
      }
      count.textContent = shown + " of " + rows.length + " shown";
      none.hidden = shown > 0;
    };
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(filter, 0));
    form.hidden = false;
    filter();
  }
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
})();
