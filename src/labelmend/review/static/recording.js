/** The screen of a recording: its timeline, and the parts of it that the server draws. */

import { Hands } from "./intervals.js";
import { make } from "./elements.js";
import { Refusal, withQuery } from "./server.js";
import { Timeline } from "./timeline.js";

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

export class RecordingScreen {
  constructor(page) {
    this.page = page;
    this.tools = ["interval"];
    this.slice = null;
    this.timeline = new Timeline(page.palette, page.layers);
    const desk = {
      get class() { return page.kit.class; },
      get readOnly() { return page.readOnly; },
      draw: (op) => page.edit(op),
      hover: (at) => this.tell(at),
    };
    this.hands = new Hands(this.timeline, desk);
    this.readout = make("output", { class: "readout", "aria-hidden": "true" });
    this.help = make("p", { class: "unseen", id: "stage-help", text: "Arrow keys move a cursor, comma and full stop go to the ends of intervals; Enter begins and ends an interval, or takes hold of an end; Delete erases; question mark lists all keys." });
    const box = make("div", { class: "view" }, this.timeline.canvas, this.readout);
    this.element = make("div", { class: "screen" }, box, this.help);
    this.timeline.addEventListener("window", () => this.askSoon());
  }

  async open(entry) {
    this.length = entry.size[0];
    this.spacing = entry.spacing?.[0] ?? null;
    this.timeline.show(this.length, this.spacing);
  }

  askSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.loadImage().catch((error) => this.page.fail(error)), 60);
  }

  /** The wave of what is in view, and its spectrogram where seconds are known. */
  async loadImage() {
    if (!this.length) return;
    const { timeline, page } = this;
    const start = Math.max(0, Math.floor(timeline.start));
    const stop = Math.min(this.length, Math.ceil(timeline.stop));
    const columns = Math.max(16, Math.min(2000, Math.round(timeline.size.width)));
    const asked = (this.asked = `${start} ${stop} ${columns}`);
    const path = `/api/cases/${page.work.number}`;
    const { low, high } = await page.app.server.json(withQuery(`${path}/wave`, { start, stop, columns }));
    if (asked !== this.asked) return;
    timeline.wave = { low, high, start, stop };
    timeline.draw();
    if (this.spacing !== null && stop - start >= 32) await this.loadSpectrum(path, start, stop, asked);
  }

  async loadSpectrum(path, start, stop, asked) {
    try {
      const blob = await this.page.app.server.picture(withQuery(`${path}/spectrogram`, { start, stop }));
      const picture = await createImageBitmap(blob);
      if (asked !== this.asked) return;
      this.timeline.spectrum = { picture, start, stop };
      this.timeline.draw();
    } catch (error) {
      // A recording without a sensible spectrogram is shown without one.
      if (!(error instanceof Refusal)) throw error;
    }
  }

  draw() {
    const { work } = this.page;
    const { prediction = null, moved = null } = work.others;
    this.timeline.setLabels({ label: work.shown(), prediction, moved });
  }

  choose() {}

  /** Puts down what is still in the hands before the case is left. */
  settle() {
    this.hands.settle();
  }

  zoom(factor) {
    this.timeline.zoom(factor);
  }

  key(name, event) {
    const onStage = document.activeElement === this.timeline.canvas;
    if (name === "Space" && (onStage || document.activeElement === document.body)) {
      this.hands.setSpace(true);
      return true;
    }
    if (!onStage) return false;
    const way = ARROWS[event.key];
    if (way && !event.metaKey) {
      return this.hands.key("Step", { way, shift: event.shiftKey, fine: event.ctrlKey });
    }
    const did = this.hands.key(name, {});
    if (!did && name === "Escape") this.timeline.canvas.blur();
    return did || name === "Escape";
  }

  keyUp(event) {
    if (event.key === " ") this.hands.setSpace(false);
  }

  tell(at) {
    const { label, prediction } = this.timeline.labels;
    if (!label || at < 0 || at >= this.length) {
      this.readout.textContent = "";
      return;
    }
    const time = this.spacing ? `${(at * this.spacing).toFixed(3)} s` : `position ${at}`;
    const { palette } = this.page;
    const predicted = prediction && !palette.continuous ? ` · predicted ${palette.name(prediction.values[at])}` : "";
    const told = palette.continuous ? `label ${label.values[at]}` : palette.name(label.values[at]);
    this.readout.textContent = `${time} · ${told}${predicted}`;
    if (this.timeline.cursor !== null) this.page.app.say(this.readout.textContent);
  }

  close() {
    clearTimeout(this.timer);
    this.length = 0;
    this.timeline.close();
  }
}
