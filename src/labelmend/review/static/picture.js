/** The screen of a picture or a volume: stage, tools, slices, contrast. */

import { Figure, Mover } from "./handles.js";
import { make, setAria } from "./elements.js";
import { Silence, withQuery } from "./server.js";
import { Stage } from "./stage.js";
import { Brush, Polygon } from "./strokes.js";

/** Keys that belong to the hands on a picture; they do nothing before it is there. */
const HANDS = new Set(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Enter", "Backspace", ",", "."]);
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

export class PictureScreen {
  constructor(page) {
    this.page = page;
    this.tools = ["brush", "erase", "polygon", "ellipse", "box", "move"];
    this.stage = new Stage(page.palette, page.layers);
    this.readout = make("output", { class: "readout", "aria-hidden": "true" });
    this.help = make("p", { class: "unseen", id: "stage-help", text: "Arrow keys move a crosshair; Enter puts points and takes shapes; Space paints; question mark lists all keys." });
    this.slices = make("div", { class: "slices", hidden: true });
    this.confirm = make("div", { class: "confirm", hidden: true },
      make("button", { type: "button", class: "button main", text: "Take", title: "Enter", onclick: () => this.end("commit") }),
      make("button", { type: "button", class: "button", text: "Cancel", title: "Esc", onclick: () => this.end("cancel") }));
    const box = make("div", { class: "view" }, this.stage.canvas, this.readout, this.confirm);
    this.element = make("div", { class: "screen" }, box, this.slices, this.help);
    this.stage.addEventListener("look", () => this.offer());
    this.stage.addEventListener("hover", ({ detail }) => this.tellPoint(detail));
    this.stage.addEventListener("slice", ({ detail }) => this.stepSlice(detail));
    this.handlers = this.makeTools();
    this.asked = 0;
  }

  makeTools() {
    const { page } = this;
    const desk = {
      get class() { return page.kit.class; },
      get radius() { return page.kit.radius; },
      paint: (index) => page.colour(index),
      draw: (op) => page.edit(this.slice ? { ...op, slice: this.slice } : op),
      moveBy: (by, turn) => page.edit(this.moveOp(by, turn)),
    };
    return { brush: new Brush(desk, false), erase: new Brush(desk, true), polygon: new Polygon(desk),
      ellipse: new Figure(desk, "ellipse"), box: new Figure(desk, "box"), move: new Mover(desk) };
  }

  moveOp(by, turn) {
    if (!this.slice) return { kind: "move", displacement: by, ...turn };
    const displacement = [...by];
    displacement.splice(this.slice.axis, 0, 0);
    return { kind: "move", displacement, ...turn, slice: this.slice };
  }

  /** Opens the image of a case; a volume in the middle of its coarsest axis. */
  async open(entry) {
    this.size = entry.size;
    this.spacing = entry.spacing;
    if (this.size.length === 3) {
      const axis = entry.spacing ? entry.spacing.indexOf(Math.max(...entry.spacing)) : 0;
      this.slice = { axis, index: Math.floor(this.size[axis] / 2) };
      this.makeSlices();
    } else this.slice = null;
  }

  async loadImage() {
    const turn = ++this.asked;
    const { page, slice } = this;
    const [low, high] = page.contrast ?? [null, null];
    const path = withQuery(`/api/cases/${page.work.number}/image`, { ...slice, low, high, channel: page.channel });
    const blob = await page.app.server.picture(path);
    const picture = await createImageBitmap(blob).catch(() => {
      throw new Silence("the picture broke off");
    });
    if (turn !== this.asked) return;
    this.image = picture;
    this.imageSlice = slice;
    this.draw();
  }

  /** What is to be seen now. */
  draw() {
    const { work } = this.page;
    const labels = { label: work.shown(), prediction: work.others.prediction ?? null, moved: work.others.moved ?? null };
    this.stage.setReady(work.isHere && work.slice === this.slice && this.imageSlice === this.slice);
    const spacing = this.spacing?.filter((_, axis) => axis !== this.slice?.axis);
    this.stage.show(this.image, labels, spacing?.length === 2 ? spacing : null);
  }

  choose(name) {
    const old = this.stage.tool;
    if (old !== this.handlers[name] && old?.isBusy?.()) old.commit();
    this.stage.tool = this.handlers[name];
    this.stage.draw();
  }

  /** Buttons for hands without keys, while something waits to be taken. */
  offer() {
    this.confirm.hidden = !this.stage.tool?.isBusy?.() || this.stage.held !== null;
  }

  end(how) {
    if (how === "commit") this.stage.tool.commit();
    else this.stage.tool.key("Escape", this.stage, {});
    this.stage.canvas.focus({ preventScroll: true });
    this.stage.draw();
  }

  /** Puts down what is still in the hands before the case, or the slice, is left. */
  settle() {
    const { tool } = this.stage;
    const begun = tool instanceof Polygon && tool.corners.length < 3; // no shape yet
    if (tool?.isBusy?.() && !begun) tool.commit();
  }

  zoom(factor) {
    this.stage.zoom(factor);
  }

  key(name, event) {
    const onStage = document.activeElement === this.stage.canvas;
    const { stage } = this;
    if (name === "Space" && (onStage || document.activeElement === document.body || event.target.id === "main")) {
      if (!event.repeat) stage.setSpace(true);
      return true;
    }
    if (!onStage) return false;
    if (!stage.ready) return HANDS.has(name.replace("Shift+", ""));
    const way = ARROWS[event.key];
    const step = { way, shift: event.shiftKey };
    if (way && !event.ctrlKey && !event.metaKey) {
      const holds = stage.tool === this.handlers.move || (stage.tool?.isBusy?.() && stage.tool.shape && stage.tool.grip?.does !== "keys");
      if (holds) stage.tool.key("Step", stage, step);
      else {
        const far = event.shiftKey ? 10 : 1;
        stage.step(way[0] * far, way[1] * far);
        stage.tool?.key?.("Step", stage, step);
      }
      stage.draw();
      return true;
    }
    const did = stage.tool?.key?.(name, stage, step) ?? false;
    if (!did && name === "Escape") stage.canvas.blur();
    stage.draw();
    return did || name === "Escape";
  }

  keyUp(event) {
    if (event.key !== " " || !this.stage.space) return;
    this.stage.setSpace(false);
    if (!this.stage.panned && this.stage.crosshair) this.stage.tool?.key?.("Space", this.stage, {});
    this.stage.panned = false;
    this.stage.draw();
  }

  tellPoint(point) {
    const label = this.stage.labels.label;
    const [row, column] = (point ?? [-1, -1]).map(Math.round);
    if (!label || row < 0 || column < 0 || row >= label.rows || column >= label.columns) {
      this.readout.textContent = "";
      return;
    }
    const at = (kind) => this.stage.labels[kind]?.values[row * label.columns + column];
    const { palette } = this.page;
    const told = palette.continuous ? `label ${at("label")}` : palette.name(at("label"));
    const predicted = at("prediction");
    const more = predicted === undefined || palette.continuous ? "" : ` · predicted ${palette.name(predicted)}`;
    const words = `row ${row}, column ${column} · ${told}${more}`;
    this.readout.textContent = words;
    if (this.stage.crosshair) this.page.app.say(words);
  }

  // ------------------------------------------------------------------ slices

  makeSlices() {
    const axes = make("div", { class: "segments", role: "group", "aria-label": "Axis that is cut across" },
      ...this.size.map((_, axis) => make("button", { type: "button", data: { axis }, text: `Axis ${axis}`, onclick: () => this.setSlice({ axis, index: Math.floor(this.size[axis] / 2) }) })));
    this.slider = make("input", { type: "range", min: 0, "aria-label": "Slice", oninput: () => this.setSlice({ axis: this.slice.axis, index: Number(this.slider.value) }) });
    this.place = make("output", {});
    this.slices.replaceChildren(axes, this.slider, this.place);
    this.slices.hidden = false;
    this.drawSlices();
  }

  drawSlices() {
    const { axis, index } = this.slice;
    for (const button of this.slices.firstChild.children) setAria(button, { pressed: Number(button.dataset.axis) === axis });
    this.slider.max = this.size[axis] - 1;
    this.slider.value = index;
    this.place.textContent = `slice ${index} of ${this.size[axis]}`;
  }

  stepSlice(way) {
    if (!this.slice) return false;
    const { axis, index } = this.slice;
    const next = Math.max(0, Math.min(this.size[axis] - 1, index + way));
    if (next !== index) this.setSlice({ axis, index: next });
    return true;
  }

  setSlice(slice) {
    this.settle();
    this.slice = slice;
    this.stage.setReady(false);
    this.drawSlices();
    this.page.loadSlice();
  }

  close() {
    this.stage.close();
  }
}
