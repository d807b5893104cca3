"use strict";
const board = document.getElementById("board");
const form = document.getElementById("filters");
const heads = [...board.tHead.rows[0].cells];
const columns = heads.map((head, at) => ({ at, head, key: head.dataset.key, kind: head.dataset.kind ?? "text" }));
const column = (key) => columns.find((one) => one.key === key);
const AT_ONCE = Number(board.dataset.atOnce);

// --- rows: those of the table, and the others, which a browser with scripts leaves unread at first ---

const rows = [...board.tBodies[0].rows];
let rest = document.getElementById("rest");

function readRest() {
  if (!rest) return;
  rows.push(...new DOMParser().parseFromString(rest.textContent, "text/html").querySelectorAll("tbody tr"));
  rest = null;
}

// A cell's own text, without the interval below it.
const text = (row, at) => (row.cells[at].firstChild?.textContent ?? "").trim();
const interval = (row, at) => row.cells[at].querySelector("small")?.textContent.split("–") ?? [];
const standing = (row, at) => row.cells[at].dataset.r?.split(" ").map(Number);
const name = (row) => [...row.cells[1].children].map((one) => one.textContent).join(", ");

function value(row, { at, kind }) {
  if (kind === "metric") return standing(row, at)?.[0] ?? null; // its exact place, where the text is rounded
  if (kind === "text") return row.cells[at].textContent.trim().toLowerCase();
  const number = Number(text(row, at).replaceAll(",", ""));
  return Number.isNaN(number) ? null : number;
}

// --- what is asked for, which is also what the address says ---

const first = column(form.elements.rank.value);
const start = () => ({
  sort: first?.key ?? "model", worst: false, rank: first?.key ?? "", kind: "", model: "", page: 0,
  columns: columns.filter((one) => !("more" in one.head.dataset)).map((one) => one.key),
  x: (columns.find((one) => one.key.startsWith("clean_")) ?? column("parameters")).key,
  y: first?.key ?? "parameters", scatter: false,
});
let view = start();

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const asked = start();
  for (const key of ["sort", "rank", "x", "y"]) if (column(given.get(key))) asked[key] = given.get(key);
  for (const key of ["kind", "model"]) asked[key] = given.get(key) ?? "";
  for (const key of ["worst", "scatter"]) asked[key] = given.has(key);
  asked.page = Math.max(0, Math.trunc(Number(given.get("page") ?? 1)) - 1 || 0);
  if (given.has("columns")) asked.columns = given.get("columns").split(",").filter(column);
  return asked;
}

function toAddress() {
  const usual = start();
  const told = new URLSearchParams();
  for (const key of ["sort", "rank", "kind", "model", "x", "y"]) if (view[key] !== usual[key]) told.set(key, view[key]);
  for (const key of ["worst", "scatter"]) if (view[key]) told.set(key, "");
  if (view.page) told.set("page", view.page + 1);
  if (String(view.columns) !== String(usual.columns)) told.set("columns", view.columns.join(","));
  const address = `#${told}`;
  history.replaceState(null, "", address);
  document.getElementById("permalink").href = address;
  for (const link of document.querySelectorAll(".draws a")) link.hash = address;
}

// --- the table ---

const sheet = new CSSStyleSheet();
document.adoptedStyleSheets = [sheet];
let found = [];

function order(a, b) {
  if (a === null || b === null) return (a === null) - (b === null); // the unknown are last, whichever way
  const difference = typeof a === "number" ? a - b : a.localeCompare(b, "en");
  return view.worst ? -difference : difference;
}

function show() {
  const part = view.model.trim().toLowerCase();
  const by = column(view.sort);
  found = rows
    .filter((row) => (!view.kind || row.dataset.kind === view.kind) && name(row).toLowerCase().includes(part))
    .map((row) => [value(row, by), row])
    .sort(([a], [b]) => order(a, b))
    .map(([, row]) => row);
  const all = Number(board.dataset.results);
  const count = rest ? all : found.length;
  const pages = Math.max(1, Math.ceil(count / AT_ONCE));
  view.page = Math.min(view.page, pages - 1);
  const seen = found.slice(AT_ONCE * view.page, AT_ONCE * (view.page + 1));
  const ranking = column(view.rank);
  if (ranking) seen.forEach((row) => rank(row, ranking.at));
  board.tBodies[0].replaceChildren(...seen);

  for (const { head, key, kind } of columns) {
    const falling = kind === "metric" && head.dataset.better === "higher" ? !view.worst : view.worst;
    if (key === view.sort) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  sheet.replaceSync(
    columns.filter((one) => !view.columns.includes(one.key))
      .map((one) => `#board tr > :nth-child(${one.at + 1}) { display: none }`).join("\n"));
  document.getElementById("status").textContent = `${count} of ${all} result${all === 1 ? "" : "s"}`;
  if (ranking) {
    board.caption.querySelector("b").textContent = view.rank;
    document.getElementById("better").textContent = `${ranking.head.dataset.better} is better`;
  }
  turnable(pages, count);
}

function rank(row, at) {
  const [, best, last] = standing(row, at) ?? [];
  const cell = row.cells[0];
  cell.textContent = best ?? "–";
  if (best !== last) cell.append(Object.assign(document.createElement("small"), { textContent: `${best}–${last}` }));
}

const turn = document.getElementById("pages");

function turnable(pages, count) {
  turn.hidden = pages === 1;
  turn.children[0].disabled = view.page === 0;
  turn.children[2].disabled = view.page === pages - 1;
  turn.children[1].textContent =
    `${AT_ONCE * view.page + 1}–${Math.min(count, AT_ONCE * (view.page + 1))} of ${count}`;
}

// --- controls ---

function update(changes) {
  Object.assign(view, { page: 0 }, changes);
  readRest();
  show();
  scatter();
  toAddress();
}

function fill() {
  for (const key of ["rank", "kind", "model"]) form.elements[key].value = view[key];
  for (const box of form.querySelectorAll("[type=checkbox]")) box.checked = view.columns.includes(box.value);
  axes.elements.x.value = view.x;
  axes.elements.y.value = view.y;
  plot.open = view.scatter;
}

for (const one of columns) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "sort";
  const label = one.head.querySelector(".name");
  button.append(...(label ? label.childNodes : one.head.childNodes));
  if (label) label.replaceWith(button);
  else one.head.append(button);
  button.addEventListener("click", () => {
    if (one.kind === "rank") update({ sort: view.rank || "model", worst: false });
    else {
      const ranks = one.kind === "metric" ? { rank: one.key } : {};
      update({ sort: one.key, worst: view.sort === one.key && !view.worst, ...ranks }); // the best first
      if (ranks.rank) form.elements.rank.value = one.key;
    }
  });
  if (one.at < 2) continue;
  const box = Object.assign(document.createElement("input"), { type: "checkbox", value: one.key });
  const choice = document.createElement("label");
  choice.append(box, ` ${one.key}`);
  document.getElementById("chooser").append(choice);
}

form.addEventListener("input", ({ target }) => {
  if (target.type === "checkbox") {
    const chosen = new Set([...form.querySelectorAll(":checked[type=checkbox]")].map((box) => box.value));
    update({ page: view.page, columns: columns.filter((one) => one.at < 2 || chosen.has(one.key)).map((one) => one.key) });
  } else if (target.name === "rank") update({ rank: target.value, sort: target.value, worst: false });
  else update({ [target.name]: target.value });
});
form.addEventListener("reset", (event) => {
  event.preventDefault();
  update({ ...start(), scatter: view.scatter, x: view.x, y: view.y });
  fill();
});
form.addEventListener("submit", (event) => event.preventDefault());
turn.children[0].addEventListener("click", () => update({ page: view.page - 1 }));
turn.children[2].addEventListener("click", () => update({ page: view.page + 1 }));

// --- what is shown, as a file ---

function records() {
  const ranking = column(view.rank);
  if (ranking) found.forEach((row) => rank(row, ranking.at));
  const told = columns.filter((one) => view.columns.includes(one.key));
  return found.map((row) => Object.fromEntries(told.flatMap((one) => {
    const unit = one.head.querySelector(".of")?.textContent ?? "";
    const title = unit ? `${one.key} [${unit}]` : one.key;
    const shown = one.key === "model" ? name(row) : text(row, one.at);
    const number = Number(shown.replaceAll(",", ""));
    const plain = shown === "–" ? null : one.kind === "text" || Number.isNaN(number) ? shown : number;
    if (one.kind === "text" || !rows.some((other) => other.cells[one.at].querySelector("small"))) return [[title, plain]];
    const [low, high] = interval(row, one.at);
    const ends = one.kind === "rank" ? ["first rank", "last rank"] : [`${one.key} low`, `${one.key} high`];
    return [[title, plain], [ends[0], low ? Number(low) : plain && one.kind === "rank" ? plain : null],
      [ends[1], high ? Number(high) : plain && one.kind === "rank" ? plain : null]];
  })));
}

function csv(lines) {
  const quoted = (one) => (one === null ? "" : /[",\n]/.test(one) ? `"${String(one).replaceAll('"', '""')}"` : one);
  const titles = Object.keys(lines[0] ?? {});
  return [titles, ...lines.map((line) => titles.map((title) => line[title]))].map((line) => line.map(quoted).join(",") + "\n").join("");
}

function save(kind, type, content) {
  update({ page: view.page });
  const address = URL.createObjectURL(new Blob([content()], { type }));
  const page = location.pathname.split("/").pop().replace(".html", "");
  Object.assign(document.createElement("a"), { href: address, download: `${page}.${kind}` }).click();
  setTimeout(() => URL.revokeObjectURL(address));
}

document.getElementById("csv").addEventListener("click", () => save("csv", "text/csv", () => csv(records())));
document.getElementById("json").addEventListener("click", () =>
  save("json", "application/json", () => JSON.stringify({ page: location.href, results: records() }, null, 2)));
