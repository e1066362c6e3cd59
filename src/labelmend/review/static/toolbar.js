/** Tools at the side, and what they draw with: class, size, undo. */

import { make, setAria } from "./elements.js";
import { iconButton } from "./icons.js";
import { keyOf } from "./keys.js";

const TOOLS = {
  brush: "Brush", erase: "Eraser", polygon: "Polygon", ellipse: "Ellipse", box: "Box",
  move: "Move and turn the label", interval: "Intervals",
};
const LARGEST = 200;

/** What the hands of this person hold; kept while the page is open, from case to case. */
export class Kit {
  constructor(session) {
    this.session = session;
    this.class = session.classes.length > 1 ? 1 : 0;
    this.radius = 4;
    this.tool = "brush";
  }

  /** The classes one can draw with: `[[index, name, colour], …]`. */
  choices() {
    const { classes, ignore } = this.session;
    const found = classes.map((one, index) => [index, one.name, index ? one.colour : null]);
    return ignore ? [...found, [-1, "unknown", null]] : found;
  }
}

/** The bar of tools, and the bar of options over the image. `page` does what they say. */
export class Toolbar {
  constructor(page, kit, tools) {
    Object.assign(this, { page, kit, tools });
    this.buttons = new Map(tools.map((name) => [name, this.tool(name)]));
    this.element = make("div", { class: "tools", role: "toolbar", "aria-label": "Tools", "aria-orientation": "vertical" },
      ...this.buttons.values());
    this.undo = iconButton("undo", "Undo", { key: "Ctrl+Z", onclick: () => page.do("undo") });
    this.redo = iconButton("redo", "Redo", { key: "Ctrl+Y", onclick: () => page.do("redo") });
    this.classes = make("div", { class: "classes", role: "radiogroup", "aria-label": "Class to draw" });
    this.options = make("div", { class: "options" }, tools.length ? this.classes : null,
      tools.includes("brush") ? this.size() : null,
      make("div", { class: "group" }, tools.length ? this.undo : null, tools.length ? this.redo : null,
        iconButton("smaller", "Zoom out", { key: "-", onclick: () => page.do("smaller") }),
        iconButton("fit", "Fit to the window", { key: "F", onclick: () => page.do("fit") }),
        iconButton("larger", "Zoom in", { key: "+", onclick: () => page.do("larger") })));
    this.drawClasses();
    this.draw();
  }

  tool(name) {
    return iconButton(name, TOOLS[name], { key: keyOf(name), data: { tool: name }, onclick: () => this.page.choose(name) });
  }

  size() {
    this.slider = make("input", {
      type: "range", min: 0, max: 100, step: 1, "aria-label": "Brush size",
      oninput: () => this.setRadius(LARGEST ** (this.slider.value / 100) / 2),
    });
    this.number = make("output", {});
    this.sizer = make("label", { class: "size", title: "Brush size ([ and ])" }, this.slider, this.number);
    return this.sizer;
  }

  setRadius(radius) {
    const limit = Math.max(1, ...this.page.size);
    this.kit.radius = Math.round(Math.min(limit, LARGEST / 2, Math.max(0.5, radius)) * 2) / 2;
    this.draw();
    this.page.screen?.draw();
  }

  /** Thicker or thinner by about a fifth, by half a position at least. */
  stepRadius(way) {
    this.setRadius(this.kit.radius + way * Math.max(0.5, this.kit.radius * 0.2));
  }

  setClass(index) {
    if (!this.kit.choices().some(([choice]) => choice === index)) return false;
    this.kit.class = index;
    this.draw();
    this.page.screen?.draw();
    return true;
  }

  drawClasses() {
    this.classes.replaceChildren(...this.kit.choices().map(([index, name, colour]) => {
      const swatch = make("span", { class: `swatch ${index < 0 ? "unknown" : index ? "" : "background"}` });
      if (colour) swatch.style.backgroundColor = colour;
      const button = make("button", {
        type: "button", role: "radio", class: "class", data: { class: index },
        title: `${name} (${index < 0 ? "U" : index})`, onclick: () => this.setClass(index),
        onkeydown: (event) => this.walk(event),
      }, swatch, make("span", { text: name }));
      return button;
    }));
  }

  /** Arrows go from class to class, as in any group of choices. */
  walk(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const all = [...this.classes.children];
    const next = all[(all.indexOf(event.currentTarget) + step + all.length) % all.length];
    this.setClass(Number(next.dataset.class));
    next.focus();
    event.preventDefault();
    event.stopPropagation();
  }

  draw() {
    for (const [name, button] of this.buttons) setAria(button, { pressed: name === this.kit.tool });
    for (const button of this.classes.children) {
      const chosen = Number(button.dataset.class) === this.kit.class;
      setAria(button, { checked: chosen });
      button.tabIndex = chosen ? 0 : -1;
    }
    if (!this.sizer) return;
    this.sizer.hidden = !["brush", "erase"].includes(this.kit.tool);
    this.slider.value = (100 * Math.log(this.kit.radius * 2)) / Math.log(LARGEST);
    this.number.textContent = `${this.kit.radius * 2} px`;
  }

  /** What can be taken back or brought again. */
  drawSteps({ undo, redo }, waiting) {
    this.undo.disabled = undo <= 0 && !waiting;
    this.redo.disabled = redo <= 0;
  }
}
