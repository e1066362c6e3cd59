/** A case in full: brings screen, tools, panel and the work on its label together. */

import { Palette } from "./colours.js";
import { make } from "./elements.js";
import { iconButton } from "./icons.js";
import { Panel } from "./panel.js";
import { PictureScreen } from "./picture.js";
import { RecordingScreen } from "./recording.js";
import { Refusal, Silence } from "./server.js";
import { Kit, Toolbar } from "./toolbar.js";
import { Work } from "./work.js";

/** What a person chose to see; it stays from case to case. */
const layers = { label: true, prediction: true, moved: false, difference: false, opacity: 0.35 };
let kit = null;

export class CasePage {
  constructor(app, entry) {
    this.app = app;
    const { session } = app;
    kit ??= new Kit(session);
    Object.assign(this, { kit, layers, size: [1], contrast: null, channel: null });
    this.readOnly = session.task === "regression";
    if (this.readOnly && !layers.grey) Object.assign(layers, { grey: true, prediction: false, opacity: 1 });
    this.palette = new Palette(session.classes, this.readOnly);
    this.work = new Work(session, app.server, app.outbox, entry);
    this.screen = session.dims === 1 ? new RecordingScreen(this) : new PictureScreen(this);
    this.toolbar = new Toolbar(this, kit, this.readOnly ? [] : this.screen.tools);
    this.panel = new Panel(this);
    this.panel.setLines(this.palette);
    this.panel.contrastSection.hidden = session.dims === 1;
    this.panel.boxes.difference.parentElement.hidden = session.dims === 1 || this.readOnly;
    this.panel.takeSection.hidden = this.readOnly;
    this.trouble = make("p", { class: "trouble", role: "alert", hidden: true });
    this.more = iconButton("panel", "Show or hide what is known", { class: "icon-button more", onclick: () => this.element.classList.toggle("panel-open") });
    this.toolbar.options.append(this.more);
    this.element = make("section", { class: "case", "aria-label": "Case" },
      this.toolbar.element,
      make("div", { class: "workspace" }, this.toolbar.options, this.trouble, this.screen.element),
      this.panel.element);
    this.work.addEventListener("label", () => this.drawLabel());
    this.work.addEventListener("entry", () => this.drawEntry());
    this.onKeyUp = (event) => this.screen.keyUp(event);
    document.addEventListener("keyup", this.onKeyUp);
    this.choose(this.screen.tools.includes(kit.tool) ? kit.tool : this.screen.tools[0]);
    this.drawEntry();
    this.drawLabel();
  }

  /** Asks the server until it answers: a case that was opened is shown when it can be. */
  async open() {
    try {
      const entry = await this.app.server.json(`/api/cases/${this.work.number}`);
      if (this.closed) return;
      this.work.entry = entry;
      this.size = entry.size;
      this.toolbar.setRadius(kit.radius); // no larger than this picture: the server takes no larger one
      this.display = entry.display;
      this.panel.setContrast(this.display, this.display);
      this.panel.setChannels(entry.channels);
      await this.screen.open(entry);
      await Promise.all([this.screen.loadImage(), this.work.load(this.screen.slice)]);
      this.tell(null);
    } catch (error) {
      this.fail(error, () => this.open());
    }
  }

  async loadSlice() {
    try {
      await Promise.all([this.screen.loadImage(), this.work.load(this.screen.slice)]);
      this.tell(null);
    } catch (error) {
      this.fail(error, () => this.loadSlice());
    }
  }

  /** Says what went wrong with showing the case; what did not answer is asked again. */
  fail(error, again = null) {
    if (this.closed) return;
    if (!(error instanceof Refusal || error instanceof Silence)) throw error;
    const waits = error instanceof Silence;
    this.tell(waits ? "The server does not answer; this case is shown when it does." : error.message);
    clearTimeout(this.timer);
    if (waits && again) this.timer = setTimeout(again, 1500);
  }

  tell(words) {
    this.trouble.hidden = words === null;
    this.trouble.textContent = words ?? "";
  }

  close() {
    this.screen.settle();
    this.panel.keep();
    this.closed = true;
    clearTimeout(this.timer);
    document.removeEventListener("keyup", this.onKeyUp);
    this.screen.close();
    this.work.close();
  }

  drawEntry() {
    const { work } = this;
    this.element.dataset.number = work.number;
    this.element.dataset.version = work.entry.version;
    const about = { total: this.app.session.total, unsaved: work.pending.length > 0 };
    this.panel.draw(work.entry, work.decided(), about);
    this.toolbar.drawSteps(work.depth(), work.pending.length > 0);
    const known = this.app.entries[work.number];
    if (work.entry.version > known.version) this.app.know(work.entry);
  }

  drawLabel() {
    const { others } = this.work;
    const has = { label: true, prediction: Boolean(others.prediction), moved: Boolean(others.moved),
      difference: Boolean(others.prediction) && !this.readOnly && this.app.session.dims > 1, original: Boolean(others.original) };
    this.panel.drawLayers(this.layers, has);
    this.screen.draw();
  }

  colour(index) {
    if (index < 0) return "#8a8f96";
    return index === 0 ? "#f4f4f4" : this.palette.solid(index);
  }

  edit(op) {
    if (!this.readOnly) this.work.do(op);
  }

  choose(name) {
    if (this.readOnly) return;
    kit.tool = name;
    this.screen.choose(name);
    this.toolbar.draw();
  }

  // ------------------------------------------------------------------ keys and buttons

  key(name, event) {
    return this.screen.key(name, event);
  }

  do(action) {
    const [verb, what] = action.split(/[-:]/);
    if (action === "next" || action === "previous") return this.step(action === "next" ? 1 : -1);
    if (action === "accept") return this.judge("accepted");
    if (action === "reject") return this.judge("rejected");
    if (action === "strong") return this.mark();
    if (action === "comment") return this.panel.comment.focus(), true;
    if (action === "undo" || action === "redo") return this.takeBack(action);
    if (verb === "take") return this.take(what);
    if (verb === "layer") return this.toggle(what);
    if (verb === "layers") return this.hideAll();
    if (verb === "class") return this.toolbar.setClass(Number(what));
    if (action === "unknown") return this.toolbar.setClass(-1);
    if (action === "thicker" || action === "thinner") return this.toolbar.stepRadius(action === "thicker" ? 1 : -1), true;
    if (["larger", "smaller", "fit"].includes(action)) {
      this.screen.zoom({ larger: 1.3, smaller: 1 / 1.3, fit: null }[action]);
      return true;
    }
    if (verb === "slice") return this.screen.stepSlice?.(what === "up" ? 1 : -1) ?? false;
    if (this.screen.tools.includes(action)) return this.choose(action), true;
    return false;
  }

  step(way) {
    const number = this.app.neighbour(this.work.number, way);
    if (number !== null) this.app.visit(number);
    else this.app.say(way > 0 ? "This is the last case." : "This is the first case.");
    return true;
  }

  /** A verdict; the same one again takes it back. */
  judge(value) {
    this.screen.settle();
    const again = this.work.decided().verdict === value;
    this.work.do({ kind: "verdict", value: again ? "open" : value });
    if (again || !this.panel.onward.checked) return true;
    const next = this.app.neighbour(this.work.number, 1, (entry) => entry.verdict === "open");
    if (next !== null) this.app.visit(next);
    return true;
  }

  /** Strong, or weak again; whoever trusts a label that is open has accepted it. */
  mark() {
    this.screen.settle();
    const { verdict, quality } = this.work.decided();
    const trusts = quality !== "strong";
    if (trusts && verdict === "open") this.work.do({ kind: "verdict", value: "accepted" });
    this.work.do({ kind: "quality", value: trusts ? "strong" : "weak" });
    return true;
  }

  writeComment(text) {
    if (text !== (this.work.decided().comment ?? "")) this.work.do({ kind: "comment", text });
  }

  takeBack(kind) {
    if (this.readOnly) return false;
    this.screen.settle();
    if (!this.work.step(kind)) this.app.say(`There is nothing to ${kind}.`);
    return true;
  }

  take(what) {
    if (this.readOnly || !this.work.others[what]) return false;
    this.screen.settle();
    this.work.do({ kind: "take", what });
    return true;
  }

  toggle(layer) {
    if (this.panel.boxes[layer].disabled) return false;
    layers[layer] = !layers[layer];
    this.hidden = null;
    this.drawLabel();
    return true;
  }

  hideAll() {
    const names = ["label", "prediction", "moved", "difference"];
    const shown = this.hidden ?? Object.fromEntries(names.map((name) => [name, layers[name]]));
    const hide = this.hidden == null;
    for (const name of names) layers[name] = hide ? false : shown[name];
    this.hidden = hide ? shown : null;
    this.drawLabel();
    return true;
  }

  setOpacity(value) {
    layers.opacity = value;
    this.screen.draw();
  }

  /** Black and white values; null is what the server suggests. */
  setContrast(limits) {
    this.contrast = limits;
    if (limits === null) this.panel.setContrast(this.display, this.display);
    clearTimeout(this.contrastTimer);
    this.contrastTimer = setTimeout(() => this.screen.loadImage().catch((error) => this.fail(error)), 60);
  }

  setChannel(value) {
    this.channel = value === "" ? null : Number(value);
    this.screen.loadImage().catch((error) => this.fail(error));
  }

  // ------------------------------------------------------------------ others

  /** What the server says of a case, after a poll; a label that others changed is loaded again. */
  learn(entry) {
    if (entry.number !== this.work.number || entry.version <= this.work.entry.version) return;
    if (this.work.pending.length || this.closed) return;
    this.work.refresh().catch(() => {});
    this.app.say("Someone else changed this label; it was loaded again.");
  }

  /** After a conflict: the person's changes on top of the version that is in view. */
  async putOnTop() {
    await this.work.theirs; // a quick hand may choose before the other version has come
    await this.app.outbox.putOnTop(this.work.entry.label, this.work.version);
  }

  async discard(all) {
    await this.app.discard(this.work.entry.label, all);
  }
}
