"use strict";
(() => {
  const form = document.getElementById("filter");
  if (form) {
    const rows = [...document.querySelectorAll("#table tbody tr")];
    const words = rows.map((row) => row.textContent.toLowerCase());
    const text = document.getElementById("filter-text");
    const bad = document.getElementById("filter-bad");
    const count = document.getElementById("filter-count");
    const apply = () => {
      const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, i) => {
        const fits = wanted.every((word) => words[i].includes(word)) && (!bad.checked || row.classList.contains("bad"));
        row.hidden = !fits;
        shown += fits;
      });
      count.textContent = `${shown} of ${rows.length} cells`;
    };
    form.hidden = false;
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
    // A link to a cell that is filtered away shows it.
    addEventListener("click", (event) => {
      const link = event.target.closest('a[href^="#c"]');
      const target = link && document.getElementById(link.getAttribute("href").slice(1));
      if (target && target.hidden) {
        text.value = "";
        bad.checked = false;
        apply();
      }
    });
  }
  if (navigator.clipboard) {
    for (const command of document.querySelectorAll(".command")) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Copy";
      button.setAttribute("aria-label", "Copy the command");
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(command.textContent);
          button.textContent = "Copied";
        } catch {
          button.textContent = "Not allowed";
        }
      });
      command.after(button);
    }
  }
})();
