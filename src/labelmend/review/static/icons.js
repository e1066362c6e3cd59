/** The pictures of the page: one stroked path each, on 24 by 24. */

import { make, setAria } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";

const PATHS = {
  accept: "M5 12.5l4.5 4.5L19 7.5",
  reject: "M6.5 6.5l11 11M17.5 6.5l-11 11",
  strong: "M12 3.5l2.6 5.4 5.9.8-4.3 4.1 1.1 5.9-5.3-2.9-5.3 2.9 1.1-5.9L3.5 9.7l5.9-.8z",
  back: "M4 4h6.5v6.5H4zM13.5 4H20v6.5h-6.5zM4 13.5h6.5V20H4zM13.5 13.5H20V20h-6.5z",
  previous: "M14.5 5.5L8 12l6.5 6.5",
  next: "M9.5 5.5L16 12l-6.5 6.5",
  brush: "M20 4c-4 1.5-8 5-10 8.5M10 12.5l2 2c3-2 6.5-6.5 8-10.5M10 12.5c-3 0-3.5 2-3.5 4 0 1.5-1 2.5-2.5 2.5 3 1.5 8 .5 8-4.5",
  erase: "M9 19.5h11M13.5 5l6 6-8.5 8.5H8l-3.5-3.5a1.5 1.5 0 0 1 0-2zM9 9.5l6 6",
  polygon: "M12 4l8 6-3 9.5H7L4 10zM12 4h.01M20 10h.01M17 19.5h.01M7 19.5h.01M4 10h.01",
  ellipse: "M3.5 12c0-3.6 3.8-6.5 8.5-6.5s8.5 2.9 8.5 6.5-3.8 6.5-8.5 6.5S3.5 15.6 3.5 12z",
  box: "M4 6h16v12H4z",
  move: "M12 3v18M3 12h18M12 3l-2.5 2.5M12 3l2.5 2.5M12 21l-2.5-2.5M12 21l2.5-2.5M3 12l2.5-2.5M3 12l2.5 2.5M21 12l-2.5-2.5M21 12l-2.5 2.5",
  interval: "M5 5v14M19 5v14M5 12h14M8.5 8.5L5 12l3.5 3.5M15.5 8.5L19 12l-3.5 3.5",
  undo: "M8 5L4 9l4 4M4 9h9.5a6 6 0 0 1 0 12H9",
  redo: "M16 5l4 4-4 4M20 9h-9.5a6 6 0 0 0 0 12H15",
  larger: "M12 5.5v13M5.5 12h13",
  smaller: "M5.5 12h13",
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  help: "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 17.5v.01",
  export: "M12 3.5v11M8 10.5l4 4 4-4M4.5 16v4h15v-4",
  comment: "M4.5 5h15v11H11l-4 3.5V16H4.5z",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.5c.5-4 3.5-6 7.5-6s7 2 7.5 6",
  panel: "M4 5h16v14H4zM14.5 5v14",
  edited: "M4.5 19.5l1-4L16 5l3 3L8.5 18.5z",
};

/** A picture out of PATHS, hidden from those who listen. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button with a picture, a name for everyone, and its key in the tip. */
export function iconButton(name, words, { key = "", ...properties } = {}) {
  const tip = key ? `${words} (${key})` : words;
  const about = { type: "button", class: "icon-button", title: tip, ...properties };
  const button = make("button", about, icon(name));
  setAria(button, { label: words, keyshortcuts: key ? shortcut(key) : null });
  return button;
}

/** A key as aria-keyshortcuts writes it. */
export function shortcut(key) {
  return key.replace("Ctrl", "Control").replace(/ /g, "");
}
