/** A recording as a wave, its events in the colours of their classes. */

import { make } from "./elements.js";

const HEIGHT = 240;

export class Wave {
  constructor(server, model, answer) {
    this.server = server;
    this.model = model;
    this.answer = answer;
    /** Called when something is seen, and when the server has nothing to show any more. */
    this.onShown = this.onGone = () => {};
    this.rows = answer.conclusions?.objects ?? [];
    this.colours = Object.fromEntries(model.classes.map((one) => [one.name, one.colour]));
    this.opacity = 0.55;
    this.canvas = make("canvas", { class: "wave", role: "img", "aria-label": `recording ${answer.name}` });
    this.readout = make("p", { class: "readout", text: "\u00a0" });
    const slider = make("input", { type: "range", id: "opacity", min: 0, max: 100, value: 55 });
    slider.addEventListener("input", () => {
      this.opacity = slider.value / 100;
      this.draw();
    });
    const bar = make("div", { class: "bar" }, make("label", { text: "Label" }, slider));
    bar.style.marginBottom = "10px";
    this.stage = make("div", { class: "stage" }, this.canvas);
    this.element = make("div", { class: "card" }, bar, this.stage, this.readout);
    this.canvas.addEventListener("pointermove", (event) => this.tell(event));
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.canvas);
  }

  async open() {
    const columns = Math.min(4096, Math.max(200, Math.round(innerWidth * devicePixelRatio)));
    try {
      this.image = await this.server.wave(this.answer.look, "image", columns);
      if (this.model.task !== "segmentation") this.label = await this.server.wave(this.answer.look, "label", columns);
      this.draw();
      this.stage.dataset.shown = "wave";
      this.onShown();
    } catch (error) {
      this.readout.textContent = error.message;
      if (error.status === 404) this.onGone();
    }
  }

  draw() {
    const { canvas } = this;
    if (!this.image || !canvas.clientWidth) return;
    canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    canvas.height = Math.round(HEIGHT * devicePixelRatio);
    const context = canvas.getContext("2d");
    context.fillStyle = "#14171a";
    context.fillRect(0, 0, canvas.width, canvas.height);
    this.drawEvents(context);
    this.drawLine(context, this.image, "#e7eaed");
    if (this.label) this.drawLine(context, this.label, "#e69f00");
  }

  drawEvents(context) {
    const { width, height } = this.canvas;
    for (const row of this.rows) {
      const [left, right] = [row.begin_0, row.end_0].map((at) => (at / this.answer.size[0]) * width);
      const chosen = row === this.row;
      context.globalAlpha = chosen ? Math.min(1, this.opacity + 0.3) : this.opacity;
      context.fillStyle = this.colours[row.class] ?? "#808080";
      context.fillRect(left, 0, Math.max(1, right - left), height);
    }
    context.globalAlpha = 1;
  }

  drawLine(context, { low, high }, colour) {
    const { width, height } = this.canvas;
    const bottom = low.reduce((a, b) => Math.min(a, b), Infinity);
    const top = high.reduce((a, b) => Math.max(a, b), -Infinity);
    const at = (value) => height * (0.95 - (0.9 * (value - bottom)) / (top - bottom || 1));
    context.strokeStyle = colour;
    context.lineWidth = devicePixelRatio;
    context.beginPath();
    low.forEach((value, i) => {
      const x = ((i + 0.5) / low.length) * width;
      context.lineTo(x, at(value));
      context.lineTo(x, at(high[i]));
    });
    context.stroke();
  }

  mark(row) {
    this.row = row;
    this.draw();
  }

  seek(row) {
    this.mark(row);
  }

  tell(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = Math.floor(((event.clientX - box.left) / box.width) * this.answer.size[0]);
    const row = this.rows.find((one) => one.begin_0 <= at && at < one.end_0);
    const step = this.answer.spacing?.[0];
    const time = step ? `${(at * step).toFixed(3)} s` : `position ${at}`;
    this.readout.textContent = `${time}: ${row ? row.class : this.model.classes[0].name}`;
  }

  toPng() {
    return new Promise((done) => this.canvas.toBlob(done, "image/png"));
  }

  close() {
    this.watch.disconnect();
  }
}
