
// --- any column against any other ---

const plot = document.getElementById("scatter");
const axes = plot.querySelector("form");
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [720, 420, 70, 20, 20, 50];
const COLOURS = 8;
const FEW = 60; // points that have room for their intervals
const MOST_NAMES = 12; // that are written beside their points; the others when they are pointed at

function element(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, given] of Object.entries(attributes)) made.setAttribute(key, given);
  made.append(...children);
  return made;
}

function number(row, { at }) {
  const shown = text(row, at);
  return shown === "–" || shown === "" ? NaN : Number(shown.replaceAll(",", ""));
}

function title({ head, key }) {
  const unit = head.querySelector(".of")?.textContent ?? "";
  return unit ? `${key} (${unit})` : key;
}

// A scale from values to pixels with its ticks: logarithmic where the values are of several orders of magnitude.
function scale(values, from, to) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (low > 0 && high / low > 50) {
    const [a, b] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const place = (one) => from + ((Math.log10(one) - a) / (b - a)) * (to - from);
    return [place, Array.from({ length: b - a + 1 }, (_, i) => 10 ** (a + i))];
  }
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  [low, high] = [low - room, high + room];
  const power = 10 ** Math.floor(Math.log10((high - low) / 4));
  const step = [1, 2, 5, 10].map((k) => k * power).find((one) => (high - low) / one <= 6);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) ticks.push(Number((k * step).toPrecision(12)));
  return [(one) => from + ((one - low) / (high - low)) * (to - from), ticks];
}

function scatter() {
  if (!plot.open) return;
  const [across, up] = [column(view.x), column(view.y)];
  const points = found
    .map((row) => ({ row, x: number(row, across), y: number(row, up) }))
    .filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y));
  const svg = plot.querySelector("svg");
  const told = `${title(up)} against ${title(across)}, ${points.length} result${points.length === 1 ? "" : "s"}`;
  const drawn = [element("title", { id: "scatter-title" }, told)];
  const kinds = [...new Set(points.map(({ row }) => row.dataset.kind))];
  if (points.length) {
    const ends = points.length <= FEW;
    const held = (one) => points.flatMap(({ row, x, y }) =>
      [one === across ? x : y, ...(ends ? interval(row, one.at).map(Number) : [])]);
    const [toX, ticksX] = scale(held(across), LEFT, WIDTH - RIGHT);
    const [toY, ticksY] = scale(held(up), HEIGHT - BOTTOM, TOP);
    for (const at of ticksX) {
      drawn.push(element("line", { class: "grid", x1: toX(at), x2: toX(at), y1: TOP, y2: HEIGHT - BOTTOM }));
      drawn.push(element("text", { class: "across", x: toX(at), y: HEIGHT - BOTTOM + 18 }, at.toLocaleString("en")));
    }
    for (const at of ticksY) {
      drawn.push(element("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: toY(at), y2: toY(at) }));
      drawn.push(element("text", { class: "up", x: LEFT - 8, y: toY(at) + 4 }, at.toLocaleString("en")));
    }
    drawn.push(element("text", { class: "across", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8 }, title(across)));
    drawn.push(element("text", { class: "upward", x: LEFT, y: TOP - 6 }, title(up)));
    const names = [];
    for (const one of points) {
      drawn.push(point(one, toX, toY, kinds.indexOf(one.row.dataset.kind) % COLOURS, ends));
      const [left, top] = [toX(one.x), toY(one.y)];
      const room = names.every(([x, y]) => Math.abs(top - y) > 20 || Math.abs(left - x) > 200);
      if (room && names.length < MOST_NAMES) names.push([left, top, name(one.row)]);
    }
    drawn.push(...names.map((one) => beside(...one)), element("g", { id: "pointed" }));
  }
  svg.replaceChildren(...drawn);
  document.getElementById("legend").replaceChildren(...kinds.map((kind, i) => {
    const mark = element("svg", { viewBox: "0 0 10 10", "aria-hidden": "true", class: `line line-${i % COLOURS}` },
      element("circle", { cx: 5, cy: 5, r: 4 }));
    const item = document.createElement("li");
    item.append(mark, ` ${kind}`);
    return item;
  }));

  function point({ row, x, y }, toX, toY, colour, ends) {
    const link = row.cells[1].querySelector("a").getAttribute("href");
    const label = `${name(row)}: ${title(across)} ${text(row, across.at)}, ${title(up)} ${text(row, up.at)}`;
    const [lowX, highX] = ends ? interval(row, across.at).map(Number).map(toX) : [];
    const [lowY, highY] = ends ? interval(row, up.at).map(Number).map(toY) : [];
    return element("a", { href: link, class: `line line-${colour}`, "aria-label": label },
      ...(highX ? [element("line", { x1: lowX, x2: highX, y1: toY(y), y2: toY(y) })] : []),
      ...(highY ? [element("line", { x1: toX(x), x2: toX(x), y1: lowY, y2: highY })] : []),
      element("circle", { cx: toX(x), cy: toY(y), r: ends ? 5 : 3.5 }));
  }
}

function beside(x, y, told) {
  const end = x > WIDTH / 2;
  return element("text", { class: "beside", x: x + (end ? -9 : 9), y: y - 8, "text-anchor": end ? "end" : "start" }, told);
}

function pointOut({ target }) {
  const mark = target.closest("#scatter a") ?? document.activeElement.closest("#scatter a");
  const circle = mark?.querySelector("circle");
  const told = mark ? [beside(Number(circle.getAttribute("cx")), Number(circle.getAttribute("cy")), mark.getAttribute("aria-label"))] : [];
  document.getElementById("pointed")?.replaceChildren(...told);
}

for (const kind of ["pointerover", "focusin"]) plot.querySelector("svg").addEventListener(kind, pointOut);

function replot(changes) {
  Object.assign(view, changes);
  if (rest) {
    readRest();
    show();
  }
  scatter();
  toAddress();
}

for (const axis of ["x", "y"]) {
  const options = columns.filter((one) => one.kind === "metric" || one.kind === "number");
  axes.elements[axis].append(...options.map((one) => new Option(one.key)));
  axes.elements[axis].addEventListener("change", ({ target }) => replot({ [axis]: target.value }));
}
plot.addEventListener("toggle", () => replot({ scatter: plot.open }));

// --- the start ---

view = fromAddress();
fill();
document.getElementById("controls").hidden = false;
plot.hidden = false;
if (matchMedia("(max-width: 40rem)").matches) // where they would push the table out of sight
  for (const id of ["contents", "controls"]) document.getElementById(id).open = false;
if (location.hash.length > 1) readRest();
show();
toAddress();
addEventListener("hashchange", () => { view = fromAddress(); fill(); readRest(); show(); scatter(); });
