/** Elements of a page, made without markup strings: nothing that a server says can become code. */

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

/** A button that says what it does. */
export function button(text, press) {
  return make("button", { type: "button", class: "button", text, onclick: press });
}

/** A number in few signs: 0.123, 12.3, 1234. */
export function brief(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
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

/** Gives a file to the person. */
export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
