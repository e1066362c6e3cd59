/** One case as this page knows it: the server's last answer, and on top what it has not confirmed. */

import { EDITS } from "./outbox.js";
import { applyOp, inForce } from "./rasters.js";
import { Refusal, withQuery } from "./server.js";

/** "label" when the label to be shown changed, "entry" when what is said about it did. */
export class Work extends EventTarget {
  constructor(session, server, outbox, entry) {
    super();
    Object.assign(this, { session, server, outbox, entry });
    this.slice = null;
    this.base = null;
    this.others = {};
    this.acked = [];
    this.wanted = [];
    this.turn = 0;
    this.loads = 0;
    /** Settled once the version that stands in the way is in view. */
    this.theirs = Promise.resolve();
    this.onSaved = (event) => this.saved(event.detail);
    this.onChange = () => this.changed();
    outbox.addEventListener("saved", this.onSaved);
    outbox.addEventListener("change", this.onChange);
    this.count = outbox.pending(entry.label).length;
  }

  close() {
    this.outbox.removeEventListener("saved", this.onSaved);
    this.outbox.removeEventListener("change", this.onChange);
    this.turn = -1;
    this.loads = -1;
  }

  get number() {
    return this.entry.number;
  }

  get pending() {
    return this.outbox.pending(this.entry.label);
  }

  /** The version that what is shown was made of: what the next stroke is drawn on. */
  get version() {
    return this.entry.version;
  }

  path(what, query = {}) {
    return withQuery(`/api/cases/${this.number}/${what}`, { ...this.slice, ...query });
  }

  /** The whole entry, and the labels of the slice in view. */
  async load(slice = this.slice) {
    this.slice = slice;
    const load = ++this.loads; // its own count: a stroke saved meanwhile begins another turn
    this.others = {};
    await this.refresh();
    if (load === this.loads) await Promise.all(["prediction", "moved", "original"].map((w) => this.fetchOther(w, load)));
  }

  /** The entry and the current label; again until both are of one version. */
  async refresh(turn = ++this.turn) {
    for (let round = 0; round < 5; round++) {
      const [entry, label] = await Promise.all([
        this.server.json(`/api/cases/${this.number}`),
        this.server.label(this.path("label", { which: "current" })),
      ]);
      if (turn !== this.turn) return;
      if (label.version !== null && label.version !== entry.version) continue;
      this.entry = entry;
      this.base = { version: entry.version, slice: this.slice, ...shaped(label) };
      this.acked = this.acked.filter((one) => one.version > entry.version);
      break;
    }
    this.emit("entry");
    this.emit("label");
  }

  async fetchOther(which, load) {
    try {
      const label = await this.server.label(this.path("label", { which }));
      if (load !== this.loads) return;
      this.others[which] = shaped(label);
    } catch (error) {
      if (load !== this.loads) return;
      if (!(error instanceof Refusal)) throw error;
      this.others[which] = null;
    }
    this.emit("label");
  }

  /** Whether the label of what is to be seen is here: a slice is asked for before it comes. */
  get isHere() {
    return this.base !== null && this.base.slice === this.slice;
  }

  /** The label to be shown, `{values, rows, columns}`; null before the server answered. */
  shown() {
    if (!this.base) return null;
    const newer = this.acked.filter((one) => one.version > this.base.version);
    const ops = inForce([...newer, ...this.pending].map((one) => one.op));
    if (ops.length === 0) return this.base;
    const label = { ...this.base, values: this.base.values.slice() };
    const taken = {};
    for (const [what, other] of Object.entries(this.others)) taken[what] = other?.values;
    const about = { slice: this.slice, ignore: this.session.ignore, taken };
    for (const op of ops) applyOp(label, op, about);
    return label;
  }

  /** Sends an op; it is in view at once, and said to be saved when it is. */
  do(op) {
    if (EDITS.has(op.kind)) this.wanted.length = 0; // an undo takes back what was there when it was asked for
    return this.outbox.add(this.entry.label, op, this.version);
  }

  /** "undo" or "redo", if there is something to take back or to bring again; else false. */
  step(kind) {
    const waiting = this.pending.length > 0;
    if (this.depth()[kind] > 0) this.do({ kind });
    else if (waiting) this.wanted.push(kind);
    else return false;
    return true;
  }

  /** How many undos and redos are known to be possible. */
  depth() {
    let undo = this.entry.can_undo ? 1 : 0;
    let redo = this.entry.can_redo ? 1 : 0;
    for (const { op } of this.pending) {
      if (op.kind === "undo") [undo, redo] = [undo - 1, redo + 1];
      else if (op.kind === "redo") [undo, redo] = [undo + 1, redo - 1];
      else if (EDITS.has(op.kind)) [undo, redo] = [undo + 1, 0];
    }
    return { undo, redo };
  }

  /** What the person has decided, saved or not: verdict, quality, comment. */
  decided() {
    const { verdict, quality, comment } = this.entry;
    const told = { verdict, quality, comment };
    for (const { op } of this.pending) {
      if (op.kind === "comment") told.comment = op.text;
      else if (op.kind in told) told[op.kind] = op.value;
    }
    return told;
  }

  saved({ label, stroke, answer }) {
    if (label !== this.entry.label) return;
    this.entry = { ...this.entry, ...answer.case, number: this.number };
    this.acked.push({ op: stroke.op, version: answer.version });
    this.emit("entry");
    if (this.pending.length) return;
    const wanted = this.wanted.shift();
    if (wanted && this.step(wanted)) return;
    this.wanted.length = 0;
    this.catchUp();
  }

  /** Brings the server's own label into view, if it can be had; else the preview stays. */
  async catchUp() {
    const kinds = this.acked.map((one) => one.op.kind);
    if (this.base && !kinds.some((kind) => EDITS.has(kind) || kind === "undo" || kind === "redo")) {
      this.acked = [];
      return;
    }
    await this.refresh().catch(() => {});
  }

  changed() {
    const count = this.pending.length;
    if (count === 0) this.wanted.length = 0;
    if (count !== this.count) this.emit("label");
    this.count = count;
    this.emit("entry");
    const trouble = this.outbox.trouble(this.entry.label);
    if (trouble?.kind !== "conflict" || trouble === this.seen) return;
    this.seen = trouble;
    this.theirs = this.refresh().catch(() => {});
  }

  emit(name) {
    this.dispatchEvent(new Event(name));
  }
}

function shaped({ values, shape }) {
  const [rows, columns] = shape.length === 1 ? [1, shape[0]] : shape;
  return { values, rows, columns };
}
