/**
 * Sends what a person did, in order, one at a time per label, until the server has it.
 *
 * Every stroke is a record `{id, run, label, op, base, chain, origin, time, place}`: `base` is the
 * version it was drawn on, `chain` names the strokes that were drawn on top of each other (the
 * answer to one is the base of the next), `origin` the page that drew it. A page holds a lock of
 * its origin as long as it lives; strokes of a page that died are taken over by whoever waits for
 * that lock, so that two tabs never send the same stroke.
 */

import { Refusal, newId } from "./server.js";

/** Ops that change the label itself, and can be undone. */
export const EDITS = new Set(["brush", "polygon", "ellipse", "box", "interval", "move", "take"]);
const PAUSES = [500, 1000, 2000, 4000, 8000, 15000];

/** "change" when anything changed, "saved" with `{label, stroke, answer}` for every answer. */
export class Outbox extends EventTarget {
  constructor(server, vault, run, findNumber) {
    super();
    Object.assign(this, { server, vault, run, findNumber });
    this.queues = new Map();
    this.origin = newId();
    this.known = new Set([this.origin]);
    this.mine = new Set([this.origin]);
    this.elsewhere = 0;
    this.place = 0;
  }

  /** Takes over what earlier pages left behind, and begins to send it. */
  async open() {
    await this.vault.open();
    if (navigator.locks) navigator.locks.request(lockName(this.origin), () => new Promise(() => {}));
    await this.adopt();
  }

  /** Looks for strokes of other pages: those that are gone are taken over, the others counted. */
  async adopt() {
    const strokes = await this.vault.list(this.run);
    this.elsewhere = strokes.filter((stroke) => !this.mine.has(stroke.origin)).length;
    this.tell();
    for (const stroke of strokes) {
      if (this.known.has(stroke.origin)) continue;
      this.known.add(stroke.origin);
      if (navigator.locks) this.inherit(stroke.origin);
      else await this.take(stroke.origin);
    }
  }

  inherit(origin) {
    navigator.locks.request(lockName(origin), async () => {
      await this.take(origin);
      await new Promise(() => {});
    });
  }

  async take(origin) {
    const strokes = (await this.vault.list(this.run)).filter((one) => one.origin === origin);
    this.mine.add(origin);
    this.elsewhere = Math.max(0, this.elsewhere - strokes.length);
    for (const stroke of strokes) this.queue(stroke.label).strokes.push(stroke);
    for (const label of new Set(strokes.map((stroke) => stroke.label))) this.pump(label);
    this.tell();
    if (strokes.length === 0) return;
    const labels = [...new Set(strokes.map((stroke) => stroke.label))];
    this.dispatchEvent(new CustomEvent("adopted", { detail: { labels } }));
  }

  queue(label) {
    const fresh = { strokes: [], busy: false, trouble: null, tries: 0, timer: null };
    if (!this.queues.has(label)) this.queues.set(label, fresh);
    return this.queues.get(label);
  }

  /** Strokes of a label that the server has not confirmed, in order. */
  pending(label) {
    return this.queues.get(label)?.strokes ?? [];
  }

  /** What stands in the way: null or `{kind, sentence, answer, again}`. */
  trouble(label) {
    return this.queues.get(label)?.trouble ?? null;
  }

  /** Labels with strokes that are not saved. */
  unsaved() {
    return [...this.queues].filter(([, queue]) => queue.strokes.length).map(([label]) => label);
  }

  /** Keeps a stroke in this browser and sends it; `base` is the version it was drawn on. */
  async add(label, op, base) {
    const queue = this.queue(label);
    const last = queue.strokes.at(-1);
    const chain = last?.chain ?? newId();
    const stroke = {
      id: newId(), run: this.run, label, op, chain, origin: this.origin,
      base: last ? last.base : base, time: Date.now(), place: this.place++, kept: false,
    };
    queue.strokes.push(stroke);
    this.tell();
    try {
      await this.vault.change([{ ...stroke, kept: true }]);
      stroke.kept = this.vault.lasting;
    } catch {
      stroke.kept = false;
    }
    // It may have been answered and removed already, by a pump that an earlier stroke started.
    if (!queue.strokes.includes(stroke)) await this.vault.change([], [stroke.id]);
    this.tell();
    this.pump(label);
  }

  async pump(label) {
    const queue = this.queue(label);
    if (queue.busy || queue.strokes.length === 0) return;
    if (queue.trouble && queue.trouble.kind !== "silence") return;
    clearTimeout(queue.timer);
    queue.busy = true;
    this.tell();
    const stroke = queue.strokes[0];
    try {
      const number = this.findNumber(label);
      if (number === null) throw new Refusal(404, { detail: "this run has no such label any more" });
      const answer = await this.server.send(number, stroke.id, stroke.op, stroke.base);
      await this.confirm(queue, stroke, answer);
    } catch (error) {
      this.fail(label, queue, error);
    }
    queue.busy = false;
    this.tell();
    if (queue.trouble === null) this.pump(label);
  }

  async confirm(queue, stroke, answer) {
    queue.tries = 0;
    queue.trouble = null;
    queue.strokes.splice(queue.strokes.indexOf(stroke), 1);
    const next = queue.strokes.filter((one) => one.chain === stroke.chain);
    for (const one of next) one.base = answer.version;
    const detail = { label: stroke.label, stroke, answer };
    this.dispatchEvent(new CustomEvent("saved", { detail }));
    // A stroke that cannot be forgotten is sent again some day, and gets the same answer.
    await this.vault.change(next, [stroke.id]).catch(() => {});
  }

  fail(label, queue, error) {
    if (error instanceof Refusal) {
      const kind = error.status === 412 ? "conflict" : error.status === 401 ? "locked" : "refused";
      queue.trouble = { kind, sentence: error.message, answer: error.answer, again: null };
      if (error.status === 403) queue.trouble.kind = "locked";
      return;
    }
    const pause = PAUSES[Math.min(queue.tries++, PAUSES.length - 1)] * (0.85 + 0.3 * Math.random());
    const again = Date.now() + pause;
    const { message: sentence, answered } = error;
    queue.trouble = { kind: "silence", sentence, answered, answer: null, again };
    queue.timer = setTimeout(() => this.pump(label), pause);
  }

  /** Sends at once what waits, of one label or of all; also what was refused when `all`. */
  retry(label = null, refused = false) {
    for (const [name, queue] of this.queues) {
      if (label !== null && name !== label) continue;
      if (queue.trouble && queue.trouble.kind !== "silence" && !refused) continue;
      if (queue.trouble?.kind === "conflict") continue;
      queue.trouble = null;
      this.pump(name);
    }
    this.tell();
  }

  /** Undos and redos of a label that are about something older than what waits here. */
  strays(label) {
    const subjects = findSubjects(this.pending(label));
    return [...subjects].filter(([, subject]) => !EDITS.has(subject.op.kind)).map(([stroke]) => stroke);
  }

  /**
   * After a conflict: the person saw the other version and wants these strokes on top of it. Undos
   * of something older are dropped: there they would take back what the other person did.
   */
  async putOnTop(label, version) {
    const queue = this.queue(label);
    const gone = this.strays(label);
    queue.strokes = queue.strokes.filter((stroke) => !gone.includes(stroke));
    for (const stroke of queue.strokes) stroke.base = version;
    await this.vault.change(queue.strokes, gone.map((stroke) => stroke.id)).catch(() => {});
    queue.trouble = null;
    this.tell();
    this.pump(label);
  }

  /**
   * Forgets strokes that the server does not have: all of a label, or the first with every undo and
   * redo of it, which would take back something else.
   */
  async discard(label, all) {
    const queue = this.queue(label);
    const subjects = findSubjects(queue.strokes);
    const [first] = queue.strokes;
    const gone = queue.strokes.filter((stroke) => all || stroke === first || subjects.get(stroke) === first);
    queue.strokes = queue.strokes.filter((stroke) => !gone.includes(stroke));
    queue.trouble = null;
    queue.tries = 0;
    await this.vault.change([], gone.map((stroke) => stroke.id)).catch(() => {});
    this.tell();
    this.pump(label);
  }

  tell() {
    this.dispatchEvent(new Event("change"));
  }
}

/** What every edit, undo and redo of a queue is about: an edit in it, or itself for want of one. */
function findSubjects(strokes) {
  const [subjects, done, undone] = [new Map(), [], []];
  for (const stroke of strokes) {
    const { kind } = stroke.op;
    let subject = stroke;
    if (EDITS.has(kind)) {
      done.push(stroke);
      undone.length = 0;
    } else if (kind === "undo" || kind === "redo") {
      const [from, to] = kind === "undo" ? [done, undone] : [undone, done];
      subject = from.pop() ?? stroke;
      to.push(subject);
    } else continue;
    subjects.set(stroke, subject);
  }
  return subjects;
}

function lockName(origin) {
  return `labelmend/page/${origin}`;
}
