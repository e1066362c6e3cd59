/** Elements of the page, made without markup strings: nothing that a server says can become code. */

import { PATHS } from "./icons.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `on*` are listeners, `class`, `text`, `data` and `aria` say what they are; any other
 * property that is not null, false or undefined becomes an attribute.
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "aria") setAria(element, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** aria-* attributes by their short names; null removes one. */
export function setAria(element, values) {
  for (const [name, value] of Object.entries(values)) {
    if (value === null) element.removeAttribute(`aria-${name}`);
    else element.setAttribute(`aria-${name}`, String(value));
  }
}

/** A picture out of icons.js, hidden from those who listen. */
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

/** A number in few signs: 0.123, 12.3, 1234. */
export function brief(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  return String(Number(value.toFixed(size < 1 ? 3 : size < 100 ? 1 : 0)));
}

/** The last part of a path. */
export function tail(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** "1 stroke", "3 strokes". */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Whether keys belong to the element that has the focus: text is being written there. */
export function isWriting(target) {
  if (target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement) return true;
  return target instanceof HTMLInputElement && ["text", "search", "number"].includes(target.type);
}
