/** The picture of a case with its layers, and the hands of a person on it. */

import { Contours } from "./contours.js";
import { KINDS } from "./colours.js";
import { Viewport } from "./viewport.js";
import { make, setAria } from "./elements.js";

/**
 * Draws, zooms and pans; tools get `down`, `move`, `up`, `cancel`, `key` and `paint`.
 * Emits "look" when the view changed, "slice" with a step, "hover" with a [row, column] or null.
 */
export class Stage extends EventTarget {
  constructor(palette, layers) {
    super();
    Object.assign(this, { palette, layers });
    this.view = new Viewport();
    this.contours = new Contours();
    this.pictures = new WeakMap();
    this.borders = new WeakMap();
    this.backdrop = make("canvas", {});
    this.behind = [];
    this.labels = { label: null, prediction: null, moved: null };
    this.image = null;
    this.tool = null;
    this.pointers = new Map();
    this.held = null;
    this.ready = false;
    this.space = false;
    this.cursor = null;
    this.crosshair = null;
    this.canvas = make("canvas", { class: "stage", tabindex: 0, role: "application", id: "stage" });
    setAria(this.canvas, { label: "Image with label", describedby: "stage-help" });
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(this.canvas);
    this.listen();
  }

  close() {
    this.watcher.disconnect();
  }

  listen() {
    const on = (name, act, options) => this.canvas.addEventListener(name, act, options);
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", (event) => this.up(event, true));
    on("pointerleave", () => this.leave());
    on("wheel", (event) => this.wheel(event), { passive: false });
    on("dblclick", (event) => event.preventDefault());
    on("contextmenu", (event) => event.preventDefault());
    on("blur", () => this.setCrosshair(null));
  }

  /** What is to be seen: the image, and labels by name (null: not to be had). */
  show(image, labels, spacing) {
    this.image = image;
    this.labels = labels;
    const size = labels.label ?? (image && { rows: image.height, columns: image.width });
    if (size) this.view.show(size.rows, size.columns, spacing);
    this.draw();
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    if (!box.width) return;
    this.density = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(box.width * this.density);
    this.canvas.height = Math.round(box.height * this.density);
    this.view.resize(box.width, box.height);
    this.paint();
  }

  /** Draws before the next picture of the screen. */
  draw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
    });
  }

  paint() {
    this.renewBackdrop();
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (this.backdrop.width && this.backdrop.height) context.drawImage(this.backdrop, 0, 0);
    context.setTransform(this.density, 0, 0, this.density, 0, 0);
    this.tool?.paint?.(context, this);
    if (this.crosshair) this.paintCrosshair(context);
    const { left, top, scale } = this.view;
    this.canvas.dataset.view = JSON.stringify({ left, top, ...scale });
    this.dispatchEvent(new Event("look"));
  }

  /** Image and labels are drawn when they or the view change, not for every move of a hand. */
  renewBackdrop() {
    const { view, labels, layers, canvas } = this;
    const now = [this.image, ...Object.values(labels).map((label) => label?.values), ...Object.values(layers),
      this.tool?.hides, view.left, view.top, view.scale.down, view.scale.right, canvas.width, canvas.height];
    if (now.length === this.behind.length && now.every((one, i) => one === this.behind[i])) return;
    this.behind = now;
    this.backdrop.width = canvas.width; // which clears it, too
    this.backdrop.height = canvas.height;
    this.paintBackdrop(this.backdrop.getContext("2d"));
  }

  paintBackdrop(context) {
    this.view.apply(context, this.density);
    const { rows, columns } = this.view.picture;
    if (this.image) {
      context.imageSmoothingEnabled = this.view.zoom < 1;
      context.drawImage(this.image, 0, 0, columns, rows);
    }
    context.imageSmoothingEnabled = false;
    if (this.palette.continuous) this.paintValues(context, rows, columns);
    else {
      this.paintFills(context, rows, columns);
      for (const kind of ["moved", "prediction", "label"]) this.paintLines(context, kind);
    }
  }

  /** Continuous labels have no borders: each is a grey picture over those before it. */
  paintValues(context, rows, columns) {
    context.globalAlpha = this.layers.opacity;
    for (const kind of ["label", "moved", "prediction"]) {
      const label = this.labels[kind];
      if (label && this.layers[kind]) context.drawImage(this.picture(label), 0, 0, columns, rows);
    }
    context.globalAlpha = 1;
  }

  paintFills(context, rows, columns) {
    const { label, prediction } = this.labels;
    const differs = prediction && this.layers.difference;
    if (label && this.layers.label && !differs && this.tool?.hides !== "label") {
      context.globalAlpha = this.layers.opacity;
      context.drawImage(this.picture(label), 0, 0, columns, rows);
    }
    if (label && differs) {
      context.globalAlpha = Math.max(0.55, this.layers.opacity);
      context.drawImage(this.palette.difference(label, prediction), 0, 0, columns, rows);
    }
    context.globalAlpha = 1;
  }

  picture(label) {
    if (!this.pictures.has(label.values)) this.pictures.set(label.values, this.palette.fill(label));
    return this.pictures.get(label.values);
  }

  paintLines(context, kind) {
    const label = this.labels[kind];
    if (!label || !this.layers[kind] || (kind === "label" && this.tool?.hides === "label")) return;
    const lines = this.contours.of(label);
    if (lines === null) {
      this.paintBorders(context, kind, label);
      return;
    }
    const { down, right } = this.view.scale;
    const thick = Math.sqrt(down * right);
    context.save();
    context.lineJoin = "round";
    for (const [value, paths] of lines) {
      context.setLineDash([]);
      context.strokeStyle = "rgba(0, 0, 0, 0.55)";
      context.lineWidth = (kind === "label" ? 3 : 3.4) / thick;
      for (const path of paths) context.stroke(path);
      context.setLineDash(KINDS[kind].dash.map((length) => length / thick));
      context.strokeStyle = this.palette.line(kind, value);
      context.lineWidth = (kind === "label" ? 1.5 : 1.8) / thick;
      for (const path of paths) context.stroke(path);
    }
    context.restore();
  }

  /** Borders without end: a picture of them, which takes the same time however many there are. */
  paintBorders(context, kind, label) {
    if (!this.borders.has(label.values)) this.borders.set(label.values, this.palette.borders(label, kind));
    context.imageSmoothingEnabled = this.view.zoom < 1;
    context.drawImage(this.borders.get(label.values), 0, 0, label.columns, label.rows);
    context.imageSmoothingEnabled = false;
  }

  paintCrosshair(context) {
    const [x, y] = this.view.toScreen(this.crosshair);
    for (const [width, colour] of [[3, "rgba(0,0,0,.6)"], [1.2, "#fff"]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.beginPath();
      for (const [a, b] of [[4, 16], [-16, -4]]) {
        context.moveTo(x + a, y);
        context.lineTo(x + b, y);
        context.moveTo(x, y + a);
        context.lineTo(x, y + b);
      }
      context.stroke();
    }
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    return { x, y, point: this.view.toPicture(x, y), shift: event.shiftKey, touch: event.pointerType === "touch" };
  }

  down(event) {
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.place(event);
    this.pointers.set(event.pointerId, at);
    this.setCrosshair(null);
    if (this.pointers.size === 2) {
      this.tool?.cancelStroke?.();
      this.held = "pinch";
    } else if (this.pointers.size === 1) {
      const pans = event.button === 1 || this.space || event.button === 2;
      this.held = pans ? "pan" : this.ready ? "tool" : "nothing";
      this.panned = false;
      if (this.held === "tool") this.tool?.down?.(at, event, this);
    }
    event.preventDefault();
    this.point();
  }

  move(event) {
    const at = this.place(event);
    const before = this.pointers.get(event.pointerId);
    this.cursor = event.pointerType === "touch" ? null : at;
    this.hover(at.point);
    if (this.held === "pan" && before) {
      this.view.pan(at.x - before.x, at.y - before.y);
      this.panned = true;
    } else if (this.held === "pinch" && before) this.pinch(event.pointerId, before, at);
    else if (this.held === "tool" || !before) {
      const all = event.getCoalescedEvents?.() ?? [];
      for (const one of all.length ? all : [event]) this.tool?.move?.(this.place(one), one, this);
    }
    if (before) this.pointers.set(event.pointerId, at);
    this.draw();
  }

  pinch(id, before, at) {
    const other = [...this.pointers].find(([name]) => name !== id)?.[1];
    if (!other) return;
    const far = (a) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
    this.view.zoomAt((at.x + other.x) / 2, (at.y + other.y) / 2, far(at) / far(before));
    this.view.pan((at.x - before.x) / 2, (at.y - before.y) / 2);
  }

  up(event, cancelled = false) {
    const at = this.place(event);
    this.pointers.delete(event.pointerId);
    if (this.held === "tool") {
      if (cancelled) this.tool?.cancelStroke?.();
      else this.tool?.up?.(at, event, this);
    }
    if (this.pointers.size === 0) this.held = null;
    this.point();
    this.draw();
  }

  leave() {
    this.cursor = null;
    this.hover(null);
    this.draw();
  }

  wheel(event) {
    event.preventDefault();
    if (event.altKey) {
      this.dispatchEvent(new CustomEvent("slice", { detail: Math.sign(event.deltaY || event.deltaX) }));
      return;
    }
    const { x, y } = this.place(event);
    const lines = event.deltaMode === 1 ? 24 : 1;
    this.view.zoomAt(x, y, Math.exp(-Math.max(-240, Math.min(240, event.deltaY * lines)) / 400));
    this.draw();
  }

  /** Zooms about the crosshair, or the middle. */
  zoom(factor) {
    const { width, height } = this.view.size;
    const [x, y] = this.crosshair ? this.view.toScreen(this.crosshair) : [width / 2, height / 2];
    if (factor === null) this.view.fit();
    else this.view.zoomAt(x, y, factor);
    this.draw();
  }

  /** Whether image and label in view are those that are drawn on; until then no tool takes hold. */
  setReady(ready) {
    this.ready = ready;
    this.canvas.classList.toggle("waits", !ready);
  }

  setSpace(held) {
    this.space = held;
    this.point();
  }

  point() {
    const holds = this.space || this.held === "pan";
    this.canvas.classList.toggle("pans", holds);
    this.canvas.classList.toggle("panning", this.held === "pan");
  }

  /** Moves the crosshair by whole positions; it begins in the middle of what is in sight. */
  step(down, right) {
    const { width, height } = this.view.size;
    const { rows, columns } = this.view.picture;
    const from = this.crosshair ?? this.view.toPicture(width / 2, height / 2).map(Math.round);
    const next = this.crosshair ? [from[0] + down, from[1] + right] : from;
    const within = (at, length) => Math.min(length - 1, Math.max(0, at));
    this.setCrosshair([within(next[0], rows), within(next[1], columns)]);
    this.view.reveal(this.crosshair);
    return this.crosshair;
  }

  setCrosshair(point) {
    this.crosshair = point;
    this.hover(point);
    this.draw();
  }

  hover(point) {
    this.dispatchEvent(new CustomEvent("hover", { detail: point }));
  }
}
