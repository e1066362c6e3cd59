/** Hands on a recording: intervals are dragged out, their ends dragged, and time zoomed. */

import { byteOf } from "./rasters.js";

const GRIP = 6;

/** Listens to the canvas of a timeline; `desk` is told what was drawn. */
export class Hands {
  constructor(timeline, desk) {
    Object.assign(this, { timeline, desk, grip: null, space: false, pointers: new Map() });
    const on = (name, act, options) => timeline.canvas.addEventListener(name, act, options);
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", () => this.cancel());
    on("wheel", (event) => this.wheel(event), { passive: false });
    on("contextmenu", (event) => event.preventDefault());
  }

  /** Nothing is drawn before the recording and its label are in view. */
  get ready() {
    return this.timeline.labels.label !== null && this.timeline.wave !== null;
  }

  x(event) {
    return event.clientX - this.timeline.canvas.getBoundingClientRect().left;
  }

  at(event) {
    const at = Math.round(this.timeline.toTime(this.x(event)));
    return Math.max(0, Math.min(this.timeline.length, at));
  }

  /** The end of an interval within reach: `{run, end}`, end 0 its start and 1 its stop. */
  findEnd(x, touch) {
    const label = this.timeline.labels.label;
    if (!label || this.desk.readOnly) return null;
    let best = null;
    for (const run of this.timeline.runsOf(label)) {
      for (const end of [0, 1]) {
        const far = Math.abs(this.timeline.toX(run[end]) - x);
        if (far <= (touch ? 3 * GRIP : GRIP) && (!best || far < best.far)) best = { run, end, far };
      }
    }
    return best;
  }

  down(event) {
    const { timeline } = this;
    timeline.canvas.focus({ preventScroll: true });
    timeline.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.x(event));
    event.preventDefault();
    if (this.pointers.size > 1) {
      this.cancel(false);
      this.grip = { does: "pinch" };
    } else if (event.button > 0 || this.space) this.grip = { does: "pan", x: this.x(event) };
    else if (!this.desk.readOnly && this.ready) {
      const found = this.findEnd(this.x(event), event.pointerType === "touch");
      this.grip = found ? { does: "end", ...found } : { does: "draw", from: this.at(event) };
      timeline.cursor = null;
    }
  }

  move(event) {
    const { timeline, grip } = this;
    const x = this.x(event);
    const before = this.pointers.get(event.pointerId);
    if (grip === null) this.point(x);
    else if (grip.does === "pan") timeline.pan((before - x) / timeline.size.width);
    else if (grip.does === "pinch") this.pinch(event.pointerId, before, x);
    else if (grip.does === "draw") this.sketch(grip.from, this.at(event), byteOf(this.desk.class));
    else this.pull(grip, this.at(event));
    if (before !== undefined) this.pointers.set(event.pointerId, x);
    this.desk.hover(Math.floor(timeline.toTime(x)));
    timeline.draw();
  }

  pinch(id, before, x) {
    const other = [...this.pointers].find(([name]) => name !== id)?.[1];
    if (other === undefined || before === undefined) return;
    const factor = (Math.abs(x - other) || 1) / (Math.abs(before - other) || 1);
    this.timeline.zoomAt((x + other) / 2, factor);
    this.timeline.pan((before - x) / 2 / this.timeline.size.width);
  }

  point(x) {
    const near = this.findEnd(x, false);
    this.timeline.canvas.classList.toggle("pulls", near !== null);
  }

  sketch(start, stop, value) {
    this.timeline.draft = start === stop ? null : { start, stop, value };
  }

  /** An end that moves: the interval grows, or what it leaves becomes background. */
  pull({ run, end }, to) {
    const [start, stop, value] = run;
    const grows = end ? to > stop : to < start;
    const limit = end ? Math.max(to, start) : Math.min(to, stop);
    this.sketch(run[end], limit, grows ? value : 0);
    if (this.timeline.draft) this.timeline.draft.grows = grows;
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    const drawn = this.grip?.does === "draw" || this.grip?.does === "end";
    if (this.pointers.size) return;
    this.grip = null;
    if (drawn) this.commit();
  }

  commit() {
    const { draft } = this.timeline;
    this.timeline.draft = null;
    this.timeline.draw();
    if (!draft) return;
    const [start, stop] = [Math.min(draft.start, draft.stop), Math.max(draft.start, draft.stop)];
    if (stop <= start) return;
    const index = draft.value === 255 ? -1 : draft.value;
    this.desk.draw({ kind: "interval", class: index, start, stop });
  }

  settle() {
    this.grip = null;
    this.commit();
  }

  cancel(forget = true) {
    if (forget) this.pointers.clear();
    this.grip = null;
    this.timeline.draft = null;
    this.timeline.draw();
  }

  wheel(event) {
    event.preventDefault();
    const by = event.deltaY * (event.deltaMode === 1 ? 24 : 1);
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.timeline.pan((event.deltaX || by) / 800);
    } else this.timeline.zoomAt(this.x(event), Math.exp(-Math.max(-240, Math.min(240, by)) / 300));
  }

  setSpace(held) {
    this.space = held;
    this.timeline.canvas.classList.toggle("pans", held);
  }

  /** Keys: arrows move the cursor, Enter begins and ends, "," and "." go from end to end. */
  key(name, step) {
    const { timeline, grip } = this;
    if (name === "Step") this.step(step);
    else if (name === "Escape" && (grip || timeline.draft)) this.cancel();
    else if (name === "," || name === ".") this.jump(name === "." ? 1 : -1);
    else if (this.desk.readOnly || !this.ready || timeline.cursor === null) return false;
    else if (name === "Enter" && grip) {
      this.grip = null;
      this.commit();
    } else if (name === "Enter") {
      const end = this.endAt(timeline.cursor);
      this.grip = end ? { does: "end", ...end } : { does: "draw", from: timeline.cursor };
    } else if (name === "Delete" || name === "Backspace") return this.erase();
    else return false;
    return true;
  }

  step({ way, shift, fine }) {
    const { timeline } = this;
    const span = timeline.stop - timeline.start;
    const unit = fine ? 1 : Math.max(1, Math.round(span / (shift ? 20 : 200)));
    const from = timeline.cursor ?? Math.round(timeline.start + span / 2);
    const way1 = way[1] || -way[0];
    const to = timeline.cursor === null ? from : from + way1 * unit;
    this.put(Math.max(0, Math.min(timeline.length, to)));
  }

  put(at) {
    const { timeline, grip } = this;
    timeline.cursor = at;
    timeline.reveal(at);
    if (grip?.does === "draw") this.sketch(grip.from, at, byteOf(this.desk.class));
    else if (grip?.does === "end") this.pull(grip, at);
    this.desk.hover(at);
    timeline.draw();
  }

  jump(way) {
    const label = this.timeline.labels.label;
    if (!label) return;
    const from = this.timeline.cursor ?? (way > 0 ? -1 : this.timeline.length + 1);
    const ends = this.timeline.runsOf(label).flatMap(([start, stop]) => [start, stop]);
    const next = ends.filter((end) => (end - from) * way > 0).sort((a, b) => (a - b) * way)[0];
    if (next !== undefined) this.put(next);
  }

  endAt(at) {
    for (const run of this.timeline.runsOf(this.timeline.labels.label)) {
      for (const end of [1, 0]) if (run[end] === at) return { run, end };
    }
    return null;
  }

  /** The interval at the cursor becomes background. */
  erase() {
    const runs = this.timeline.runsOf(this.timeline.labels.label);
    const run = runs.find(([start, stop]) => start <= this.timeline.cursor && this.timeline.cursor < stop);
    if (run) this.desk.draw({ kind: "interval", class: 0, start: run[0], stop: run[1] });
    return Boolean(run);
  }
}
