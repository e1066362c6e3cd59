/** An image or a slice of a volume, its label over it in the colours of the classes. */

import { make } from "./elements.js";

const TALLEST = 0.72;

function bytes(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

/** The values of a bitmap whose channels are alike. */
function valuesOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]);
}

export class Picture {
  constructor(server, model, answer) {
    this.server = server;
    this.model = model;
    this.answer = answer;
    /** Called when something is seen, and when the server has nothing to show any more. */
    this.onShown = this.onGone = () => {};
    this.colours = model.classes.map((one) => bytes(one.colour));
    this.volume = answer.size.length === 3;
    this.axis = 0;
    this.index = this.volume ? Math.floor(answer.size[0] / 2) : null;
    this.image = make("canvas", { "aria-label": `image ${answer.name}`, role: "img" });
    this.label = make("canvas", { class: "label", "aria-hidden": "true" });
    this.marks = make("canvas", { class: "marks", "aria-hidden": "true" });
    this.readout = make("p", { class: "readout", text: "\u00a0" });
    this.stage = make("div", { class: "stage" }, this.image, this.label, this.marks);
    this.element = make("div", { class: "card" }, this.controls(), this.stage, this.readout);
    this.label.addEventListener("pointermove", (event) => this.tell(event));
    this.label.addEventListener("pointerleave", () => { this.readout.textContent = "\u00a0"; });
    this.watch = new ResizeObserver(() => this.fit());
    this.watch.observe(this.stage);
  }

  controls() {
    const opacity = make("input", { type: "range", id: "opacity", min: 0, max: 100, value: 55 });
    opacity.addEventListener("input", () => { this.label.style.opacity = opacity.value / 100; });
    this.label.style.opacity = 0.55;
    const bar = make("div", { class: "bar" }, make("label", { text: "Label" }, opacity));
    if (this.volume) bar.append(...this.sliceControls());
    bar.style.marginBottom = "10px";
    return bar;
  }

  sliceControls() {
    this.told = make("output", {});
    this.slider = make("input", { type: "range", id: "slice", min: 0 });
    this.slider.addEventListener("input", () => this.go(this.axis, Number(this.slider.value)));
    const axes = [0, 1, 2].map((axis) => make("option", { value: axis, text: `axis ${axis}` }));
    this.chooser = make("select", { id: "axis", "aria-label": "Slices across" }, ...axes);
    this.chooser.addEventListener("change", () => {
      const axis = Number(this.chooser.value);
      this.go(axis, Math.floor(this.answer.size[axis] / 2));
    });
    return [make("label", { text: "Slice" }, this.slider, this.told), this.chooser];
  }

  /** Shows a slice; of those asked for in haste only the last. */
  async go(axis, index) {
    this.axis = axis;
    this.index = index;
    this.wanted = `${axis} ${index}`;
    this.tellSlice();
    if (this.loading) return;
    this.loading = true;
    try {
      while (this.wanted !== this.loaded) {
        const now = this.wanted;
        await this.load(this.axis, this.index);
        this.loaded = now;
      }
    } catch (error) {
      this.fail(error);
    } finally {
      this.loading = false;
    }
  }

  open() {
    return this.go(this.axis, this.index);
  }

  tellSlice() {
    if (!this.volume) return;
    const length = this.answer.size[this.axis];
    this.slider.max = length - 1;
    this.slider.value = this.index;
    this.chooser.value = this.axis;
    this.told.textContent = `${this.index + 1} of ${length}`;
  }

  async load(axis, index) {
    const both = ["image", "label"].map((which) => this.server.slice(this.answer.look, which, axis, index));
    const [image, label] = await Promise.all(both);
    for (const canvas of [this.image, this.label]) {
      canvas.width = image.width;
      canvas.height = image.height;
    }
    this.image.getContext("2d").drawImage(image, 0, 0);
    this.values = valuesOf(label);
    this.paint();
    this.fit();
    this.stage.dataset.shown = `${axis} ${index}`;
    this.onShown();
  }

  paint() {
    const { width, height } = this.label;
    const picture = new ImageData(width, height);
    const continuous = this.model.task !== "segmentation";
    for (let i = 0; i < this.values.length; i++) {
      const value = this.values[i];
      if (!value && !continuous) continue;
      const colour = continuous ? [value, 0.8 * value, 255 - value] : this.colours[value] ?? [128, 128, 128];
      picture.data.set([...colour, 255], 4 * i);
    }
    this.label.getContext("2d").putImageData(picture, 0, 0);
  }

  /** As large as there is room, its sides as long as its spacing makes them. */
  fit() {
    const { width, height } = this.image;
    if (!width || !this.stage.clientWidth) return;
    const steps = (this.answer.spacing ?? this.answer.size.map(() => 1)).filter((_, axis) => !this.volume || axis !== this.axis);
    const across = width * steps[1];
    const down = height * steps[0];
    const scale = Math.min(this.stage.clientWidth / across, (TALLEST * innerHeight) / down);
    for (const canvas of [this.image, this.label, this.marks]) {
      canvas.style.width = `${across * scale}px`;
      canvas.style.height = `${down * scale}px`;
    }
    this.marks.width = Math.round(across * scale * devicePixelRatio);
    this.marks.height = Math.round(down * scale * devicePixelRatio);
    this.mark(this.row);
  }

  /** A box around an object, where it lies in what is shown. */
  mark(row) {
    this.row = row;
    const context = this.marks.getContext("2d");
    context.clearRect(0, 0, this.marks.width, this.marks.height);
    if (!row) return;
    const axes = [0, 1, 2].slice(0, this.answer.size.length).filter((axis) => !this.volume || axis !== this.axis);
    if (this.volume && (this.index < row[`begin_${this.axis}`] || this.index >= row[`end_${this.axis}`])) return;
    const [top, left] = axes.map((axis) => row[`begin_${axis}`]);
    const [bottom, right] = axes.map((axis) => row[`end_${axis}`]);
    const across = this.marks.width / this.image.width;
    const down = this.marks.height / this.image.height;
    for (const [colour, width] of [["#000a", 4], ["#fff", 2]]) {
      const gap = 2 * devicePixelRatio;
      context.strokeStyle = colour;
      context.lineWidth = width * devicePixelRatio;
      context.strokeRect(left * across - gap, top * down - gap, (right - left) * across + 2 * gap, (bottom - top) * down + 2 * gap);
    }
  }

  /** Goes to where an object is. */
  seek(row) {
    this.mark(row);
    if (this.volume) this.go(this.axis, Math.round(row[`centroid_${this.axis}`]));
  }

  tell(event) {
    const box = this.label.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.label.width);
    const row = Math.floor(((event.clientY - box.top) / box.height) * this.label.height);
    const value = this.values?.[row * this.label.width + column];
    if (value === undefined) return;
    const name = this.model.task === "segmentation" ? this.model.classes[value]?.name ?? "" : `${value} of 255`;
    this.readout.textContent = `row ${row}, column ${column}: ${name}`;
  }

  /** Image and label as they are shown, as a PNG in the image's own size. */
  async toPng() {
    const canvas = new OffscreenCanvas(this.image.width, this.image.height);
    const context = canvas.getContext("2d");
    context.drawImage(this.image, 0, 0);
    context.globalAlpha = Number(this.label.style.opacity);
    context.drawImage(this.label, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  }

  fail(error) {
    this.readout.textContent = error.message;
    if (error.status === 404) this.onGone();
  }

  close() {
    this.watch.disconnect();
  }
}
