/** Elements of the page, made without markup strings: nothing that a server says can become code. */

/**
 * An element. `on*` are listeners and `text` is its text; any other property that is not null,
 * false or undefined becomes an attribute.
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
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

/** Gives a file to the person. */
export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
