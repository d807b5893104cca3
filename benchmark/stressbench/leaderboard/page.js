"use strict";
const form = document.getElementById("filters");
const status_ = document.getElementById("status");

// --- sorting: each column's name becomes a button ---

function value(row, column, numeric) {
  const cell = row.cells[column];
  if (!numeric) return cell.textContent.trim().toLowerCase();
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function sort(table, column, ascending) {
  const header = table.tHead.rows[0].cells[column];
  const numeric = header.dataset.kind === "number";
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [value(row, column, numeric), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // the unknown are last, whichever way
    const order = numeric ? a - b : a.localeCompare(b, "en");
    return ascending ? order : -order;
  });
  body.append(...rows.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
}

for (const table of document.querySelectorAll(".view table")) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const now = header.getAttribute("aria-sort");
      const best = header.dataset.better !== "higher"; // the first click puts the best first
      sort(table, column, now ? now !== "ascending" : best);
    });
  });
  table.tHead.rows[0].cells[0].setAttribute("aria-sort", "ascending");
}

// --- filtering ---

function filter() {
  const asked = Object.fromEntries(new FormData(form));
  const part = asked.model.trim().toLowerCase();
  let shown = 0;
  for (const group of document.querySelectorAll(".group")) {
    let here = 0;
    for (const view of group.querySelectorAll(".view")) {
      view.hidden = !("any" in view.dataset) && view.dataset.draws !== asked.draws;
      let rows = 0;
      for (const row of view.querySelectorAll("tbody tr")) {
        row.hidden =
          (asked.kind && row.dataset.kind !== asked.kind) || !row.dataset.model.toLowerCase().includes(part);
        rows += !row.hidden;
      }
      if (!view.hidden) here += rows;
    }
    group.hidden =
      here === 0 ||
      (asked.suite && group.dataset.suite !== asked.suite) ||
      (asked.dataset && group.dataset.dataset !== asked.dataset);
    if (!group.hidden) shown += here;
  }
  const all = document.querySelectorAll('.view[data-draws="own"] tbody tr').length;
  status_.textContent = `${shown} of ${all} result${all === 1 ? "" : "s"}`;
}

form.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter)); // the fields are empty after this event
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
filter();
