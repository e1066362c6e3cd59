/** A recording from left to right: its spectrogram, its wave, and lanes with what is said of it. */

import { UNKNOWN } from "./rasters.js";
import { make, setAria } from "./elements.js";

const AXIS = 24;
const LANES = [["label", 46], ["moved", 22], ["prediction", 22]];
const GAP = 4;

/** Stretches of one class: `[[start, stop, value], …]`, those of the background left out. */
export function findRuns({ values }) {
  const runs = [];
  for (let start = 0; start < values.length; ) {
    const value = values[start];
    let stop = start + 1;
    while (stop < values.length && values[stop] === value) stop++;
    if (value !== 0) runs.push([start, stop, value]);
    start = stop;
  }
  return runs;
}

/** Draws; emits "window" when another part of the recording came into view. */
export class Timeline extends EventTarget {
  constructor(palette, layers) {
    super();
    Object.assign(this, { palette, layers, spacing: null, length: 1, start: 0, stop: 1 });
    this.labels = { label: null, prediction: null, moved: null };
    this.runs = new WeakMap();
    this.wave = null;
    this.spectrum = null;
    this.limits = null;
    this.cursor = null;
    this.draft = null;
    this.canvas = make("canvas", { class: "stage timeline", tabindex: 0, role: "application", id: "stage" });
    setAria(this.canvas, { label: "Recording with label", describedby: "stage-help" });
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(this.canvas);
    this.size = { width: 1, height: 1 };
  }

  close() {
    this.watcher.disconnect();
  }

  /** Of a recording of so many positions, so many seconds apart (null: nobody says). */
  show(length, spacing) {
    Object.assign(this, { length, spacing, start: 0, stop: length });
    this.limits = null;
    this.look();
  }

  setLabels(labels) {
    this.labels = labels;
    this.draw();
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    if (!box.width) return;
    this.density = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(box.width * this.density);
    this.canvas.height = Math.round(box.height * this.density);
    this.size = { width: box.width, height: box.height };
    this.paint();
    this.dispatchEvent(new Event("window"));
  }

  /** Shows another part; at least 16 positions, and nothing beyond the ends. */
  look(start = 0, stop = this.length) {
    const span = Math.min(this.length, Math.max(16, stop - start));
    this.start = Math.max(0, Math.min(start, this.length - span));
    this.stop = this.start + span;
    this.draw();
    this.dispatchEvent(new Event("window"));
  }

  zoomAt(x, factor) {
    const at = this.toTime(x);
    const span = Math.min(this.length, Math.max(16, (this.stop - this.start) / factor));
    const start = at - ((at - this.start) * span) / (this.stop - this.start);
    this.look(start, start + span);
  }

  /** About the cursor, or the middle; null shows all. */
  zoom(factor) {
    const x = this.cursor === null ? this.size.width / 2 : this.toX(this.cursor);
    if (factor === null) this.look();
    else this.zoomAt(x, factor);
  }

  pan(share) {
    const by = share * (this.stop - this.start);
    this.look(this.start + by, this.stop + by);
  }

  reveal(at) {
    const span = this.stop - this.start;
    if (at < this.start) this.look(at - span * 0.1, at + span * 0.9);
    else if (at > this.stop) this.look(at - span * 0.9, at + span * 0.1);
  }

  toTime(x) {
    return this.start + (x / this.size.width) * (this.stop - this.start);
  }

  toX(at) {
    return ((at - this.start) / (this.stop - this.start)) * this.size.width;
  }

  runsOf(label) {
    if (!this.runs.has(label.values)) this.runs.set(label.values, findRuns(label));
    return this.runs.get(label.values);
  }

  /** From where to where each part reaches, top down. */
  rows() {
    const shown = LANES.filter(([kind]) => kind === "label" || (this.labels[kind] && this.layers[kind]));
    const lanes = shown.reduce((sum, [, high]) => sum + high + GAP, 0);
    const room = this.size.height - AXIS - lanes - GAP;
    const rows = {};
    const spectrum = this.spectrum ? Math.round(room * 0.4) : 0;
    rows.spectrum = [AXIS, AXIS + spectrum];
    rows.wave = [AXIS + spectrum + (spectrum ? GAP : 0), AXIS + room];
    let top = AXIS + room + GAP;
    for (const [kind, high] of shown) {
      rows[kind] = [top, top + high];
      top += high + GAP;
    }
    return rows;
  }

  draw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
    });
  }

  paint() {
    const context = this.canvas.getContext("2d");
    context.setTransform(this.density || 1, 0, 0, this.density || 1, 0, 0);
    context.clearRect(0, 0, this.size.width, this.size.height);
    this.ink = getComputedStyle(this.canvas);
    const rows = this.rows();
    this.paintAxis(context, rows);
    this.paintSpectrum(context, rows.spectrum);
    this.paintWave(context, rows.wave);
    this.paintSpans(context, rows.wave);
    for (const [kind] of LANES) if (rows[kind]) this.paintLane(context, kind, rows[kind]);
    if (this.draft) this.paintDraft(context, rows);
    if (this.cursor !== null) this.paintCursor(context);
    this.dispatchEvent(new Event("look"));
  }

  colour(name) {
    return this.ink.getPropertyValue(name).trim();
  }

  paintAxis(context, rows) {
    const unit = this.spacing ?? 1;
    const span = (this.stop - this.start) * unit;
    const least = (span * 90) / this.size.width;
    const power = 10 ** Math.floor(Math.log10(least));
    const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= least);
    const digits = Math.max(0, -Math.floor(Math.log10(step)));
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let at = Math.ceil((this.start * unit) / step) * step; at <= this.stop * unit; at += step) {
      const x = Math.round(this.toX(at / unit)) + 0.5;
      context.strokeStyle = this.colour("--stage-line");
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x, AXIS - 6);
      context.lineTo(x, rows.wave[1]);
      context.stroke();
      context.fillStyle = this.colour("--stage-muted");
      context.fillText(this.spacing ? `${at.toFixed(digits)} s` : at.toFixed(digits), x + 4, AXIS / 2);
    }
  }

  /** The part of the recording that a spectrogram shows may be older than the view: it is stretched. */
  paintSpectrum(context, [top, bottom]) {
    if (!this.spectrum) return;
    const { picture, start, stop } = this.spectrum;
    const [left, right] = [this.toX(start), this.toX(stop)];
    context.save();
    context.beginPath();
    context.rect(0, top, this.size.width, bottom - top);
    context.clip();
    context.drawImage(picture, left, top, right - left, bottom - top);
    context.restore();
  }

  paintWave(context, [top, bottom]) {
    if (!this.wave) return;
    const { low, high, start, stop } = this.wave;
    const each = (bottom - top) / low.length;
    low.forEach((lows, channel) => {
      this.widen(channel, lows, high[channel]);
      const [least, most] = this.limits[channel];
      const place = (value) =>
        top + each * channel + 3 + ((most - value) / (most - least || 1)) * (each - 6);
      const at = (i) => this.toX(start + ((i + 0.5) / lows.length) * (stop - start));
      context.beginPath();
      for (let i = 0; i < lows.length; i++) context.lineTo(at(i), place(high[channel][i]));
      for (let i = lows.length - 1; i >= 0; i--) context.lineTo(at(i), place(lows[i]));
      context.closePath();
      context.fillStyle = context.strokeStyle = this.colour("--stage-signal");
      context.lineWidth = 1;
      context.lineJoin = "round";
      context.fill();
      context.stroke();
    });
  }

  /** The scale of a channel grows with what was seen, and never jumps while panning. */
  widen(channel, lows, highs) {
    this.limits ??= [];
    const [least, most] = this.limits[channel] ?? [Infinity, -Infinity];
    const low = lows.reduce((a, b) => Math.min(a, b), least);
    this.limits[channel] = [low, highs.reduce((a, b) => Math.max(a, b), most)];
  }

  /** Intervals of the label as bands over the wave. */
  paintSpans(context, [top, bottom]) {
    if (!this.labels.label || !this.layers.label || this.palette.continuous) return;
    context.globalAlpha = this.layers.opacity * 0.45;
    for (const [start, stop, value] of this.runsOf(this.labels.label)) {
      const [left, right] = [this.toX(start), this.toX(stop)];
      if (right < 0 || left > this.size.width) continue;
      context.fillStyle = value === UNKNOWN ? "#888" : this.palette.solid(value);
      context.fillRect(left, top, Math.max(1, right - left), bottom - top);
    }
    context.globalAlpha = 1;
  }

  paintLane(context, kind, [top, bottom]) {
    context.fillStyle = this.colour("--stage-lane");
    context.fillRect(0, top, this.size.width, bottom - top);
    const label = this.labels[kind];
    if (label && this.palette.continuous) this.paintCurve(context, label, top, bottom);
    else if (label) {
      for (const run of this.runsOf(label)) this.paintRun(context, kind, run, top, bottom);
    }
    if (kind === "label") return;
    context.font = "600 10px system-ui, sans-serif";
    context.textBaseline = "top";
    outlined(context, kind, 6, top + 3);
  }

  paintRun(context, kind, [start, stop, value], top, bottom) {
    const [left, right] = [this.toX(start), this.toX(stop)];
    if (right < 0 || left > this.size.width) return;
    const wide = Math.max(1.5, right - left);
    context.globalAlpha = kind === "label" ? 1 : 0.7;
    context.fillStyle = value === UNKNOWN ? "#8a8f96" : this.palette.solid(value);
    context.fillRect(left, top + 1, wide, bottom - top - 2);
    context.globalAlpha = 1;
    if (kind !== "label") return;
    context.fillStyle = "rgba(0,0,0,.55)";
    context.fillRect(left, top + 1, 2, bottom - top - 2);
    context.fillRect(left + wide - 2, top + 1, 2, bottom - top - 2);
    if (wide < 46) return;
    context.save();
    context.beginPath();
    context.rect(left, top, wide - 4, bottom - top);
    context.clip();
    context.font = "600 12px system-ui, sans-serif";
    context.textBaseline = "middle";
    outlined(context, this.palette.name(value), Math.max(left, 0) + 8, (top + bottom) / 2);
    context.restore();
  }

  paintCurve(context, label, top, bottom) {
    context.beginPath();
    const first = Math.max(0, Math.floor(this.start));
    for (let at = first; at < Math.min(label.values.length, this.stop + 1); at++) {
      const value = label.values[at];
      if (value === UNKNOWN) continue;
      context.lineTo(this.toX(at + 0.5), bottom - 2 - (value / 254) * (bottom - top - 4));
    }
    context.strokeStyle = this.colour("--stage-signal");
    context.lineWidth = 1.5;
    context.stroke();
  }

  paintDraft(context, rows) {
    const { start, stop, value } = this.draft;
    const [left, right] = [this.toX(Math.min(start, stop)), this.toX(Math.max(start, stop))];
    context.globalAlpha = 0.55;
    context.fillStyle = value === UNKNOWN ? "#8a8f96" : this.palette.solid(value);
    context.fillRect(left, rows.wave[0], right - left, rows.label[1] - rows.wave[0]);
    context.globalAlpha = 1;
    context.strokeStyle = this.colour("--stage-ink");
    context.lineWidth = 1.5;
    context.strokeRect(left, rows.wave[0], right - left, rows.label[1] - rows.wave[0]);
  }

  paintCursor(context) {
    const x = this.toX(this.cursor);
    context.strokeStyle = this.colour("--stage-ink");
    context.lineWidth = 1.5;
    context.setLineDash([4, 3]);
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, this.size.height);
    context.stroke();
    context.setLineDash([]);
  }
}

/** Letters that can be read on any colour. */
function outlined(context, text, x, y) {
  context.lineJoin = "round";
  context.lineWidth = 3;
  context.strokeStyle = "rgba(0,0,0,.75)";
  context.strokeText(text, x, y);
  context.fillStyle = "#fff";
  context.fillText(text, x, y);
}
