/** What a prediction means: a table of classes and one of objects. */

import { brief, make } from "./elements.js";

const MOST = 500;
const HIDDEN = /^(begin|end|mean|centroid)_|^(class|number|extent|perimeter)$/;
const SIZES = ["area", "volume", "length"];

function words(name) {
  return name.replace(/_/g, " ").replace(/mm2$/, "mm²").replace(/mm3$/, "mm³");
}

function swatch(colour) {
  const mark = make("span", { class: "swatch" });
  mark.style.background = colour;
  return mark;
}

function head(names) {
  const cells = names.map((name) => make("th", { scope: "col", text: words(name) }));
  return make("thead", {}, make("tr", {}, ...cells));
}

/** Columns in which anything is known; sizes in positions only where no others are. */
function known(rows, names) {
  const found = names.filter((name) => rows.some((row) => row[name] !== null && row[name] !== undefined));
  return found.filter((name) => !SIZES.includes(name) || !found.some((other) => other.startsWith(`${name}_`)));
}

/** Per class: how many objects, which share of all, how large, how many per area. */
export function classTable(conclusions, colours) {
  const entries = Object.entries(conclusions.classes);
  const names = known(entries.map(([, row]) => row), Object.keys(entries[0]?.[1] ?? {}));
  const rows = entries.map(([name, row]) => {
    const cells = names.map((key) => {
      const text = key === "burden" ? `${(100 * row[key]).toFixed(2)} %` : brief(row[key]);
      return make("td", { text });
    });
    const title = make("td", {}, swatch(colours[name]), name);
    return make("tr", { "data-class": name }, title, ...cells);
  });
  const table = make("table", { id: "classes" }, head(["class", ...names]), make("tbody", {}, ...rows));
  return make("div", { class: "card" }, make("div", { class: "scroll" }, table));
}

/** Per object, the largest first, events in their order; `choose` hears which one is pointed at. */
export function objectTable(conclusions, colours, choose) {
  const size = SIZES.find((name) => name in (conclusions.objects[0] ?? {}));
  const objects = [...conclusions.objects].sort((a, b) => (size === "length" ? 0 : b[size] - a[size]));
  const names = known(objects.slice(0, MOST), Object.keys(objects[0] ?? {}).filter((name) => !HIDDEN.test(name)));
  const body = make("tbody", {});
  for (const row of objects.slice(0, MOST)) {
    const title = make("td", {}, swatch(colours[row.class]), `${row.class} ${row.number}`);
    const line = make("tr", { tabindex: 0 }, title, ...names.map((name) => make("td", { text: brief(row[name]) })));
    const take = () => {
      body.querySelector(".chosen")?.classList.remove("chosen");
      line.classList.add("chosen");
      choose(row);
    };
    line.addEventListener("click", take);
    line.addEventListener("keydown", (event) => { if (event.key === "Enter") take(); });
    body.append(line);
  }
  const table = make("table", { id: "objects" }, head(["object", ...names]), body);
  const more = objects.length > MOST ? `${MOST} of ${objects.length} objects; the CSV has them all.` : null;
  const note = objects.length ? more : "No objects: everything is background.";
  return make("div", { class: "card" }, make("div", { class: "scroll" }, objects.length ? table : ""), note && make("p", { class: "note", text: note }));
}

function cell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

/** All objects as labelmend predict --conclusions lists them. */
export function toCsv(conclusions) {
  const { file, objects } = conclusions;
  const names = Object.keys(objects[0] ?? { class: 0, number: 0 });
  const lines = objects.map((row) => [file, ...names.map((name) => row[name])].map(cell).join(","));
  return `${[["file", ...names].join(","), ...lines].join("\n")}\n`;
}
