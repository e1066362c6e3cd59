/** What stands between a person's strokes and the disk: the status, and what to choose. */

import { Refusal } from "./server.js";
import { count, make, tail } from "./elements.js";

/** Draws the status and the notices from the outbox; `app` knows what is open. */
export class Notices {
  constructor(app, place, status) {
    Object.assign(this, { app, place, status, shown: "" });
    app.outbox.addEventListener("change", () => this.draw());
    setInterval(() => this.tick(), 500);
    this.draw();
  }

  draw() {
    this.drawStatus();
    const troubles = this.app.outbox.unsaved()
      .map((label) => [label, this.app.outbox.trouble(label)])
      .filter(([, trouble]) => trouble);
    const silent = troubles.filter(([, trouble]) => trouble.kind === "silence");
    const others = troubles.filter(([, trouble]) => trouble.kind !== "silence");
    const open = this.app.page?.work?.entry.label;
    const away = this.app.trouble && !troubles.length ? this.app.trouble.message : null;
    const about = JSON.stringify([open, others.map(([label, t]) => [label, t.kind, t.sentence, this.app.outbox.strays(label).length]), silent.map(([, t]) => t.sentence), away]);
    if (about === this.shown) return;
    this.shown = about;
    const found = others.map(([label, trouble]) => this.choice(label, trouble, label === open));
    if (silent.length) found.unshift(this.silence(silent[0][1]));
    else if (away) found.unshift(this.away());
    this.place.replaceChildren(...found);
  }

  drawStatus() {
    const { outbox } = this.app;
    const labels = outbox.unsaved();
    const strokes = labels.reduce((sum, label) => sum + outbox.pending(label).length, 0);
    const troubled = labels.some((label) => outbox.trouble(label));
    const { elsewhere } = outbox;
    const other = strokes === 0 && elsewhere > 0;
    const idle = strokes === 0 && !this.app.page?.panel.typed;
    const state = other ? "unsaved" : idle ? "saved" : troubled ? "unsaved" : "saving";
    const unsaved = other ? `${count(elsewhere, "change")} of another tab` : count(strokes, "change");
    const words = { saved: "Saved", saving: "Saving…", unsaved: `Not saved: ${unsaved}` };
    if (this.status.dataset.state === state && this.status.textContent === words[state]) return;
    this.status.dataset.state = state;
    this.status.textContent = words[state];
  }

  silence(trouble) {
    const title = trouble.answered ? `${sentenceOf(trouble.sentence)} ` : "The server does not answer. ";
    this.countdown = make("span", { class: "countdown" });
    return notice("wait", [
      make("p", {}, make("b", { text: title }),
        this.keptWords(), " ", this.countdown),
    ], [button("Try now", () => this.app.outbox.retry())]);
  }

  away() {
    const { trouble } = this.app;
    const words = trouble instanceof Refusal
      ? sentenceOf(trouble.message)
      : "The server does not answer. What you draw is kept in this browser until it does.";
    return notice("wait", [make("p", { text: words })], []);
  }

  keptWords() {
    const lost = this.app.outbox.unsaved().some((label) =>
      this.app.outbox.pending(label).some((stroke) => stroke.kept === false));
    return lost
      ? "This browser cannot keep what you drew: leave this page open. It is sent as soon as the server takes it."
      : "What you drew is kept in this browser, also when it is closed, and sent as soon as the server takes it.";
  }

  tick() {
    if (!this.countdown?.isConnected) return;
    const times = this.app.outbox.unsaved()
      .map((label) => this.app.outbox.trouble(label)?.again ?? null).filter((at) => at !== null);
    const left = Math.ceil((Math.min(...times) - Date.now()) / 1000);
    this.countdown.textContent = left > 0 ? `Next try in ${left} s.` : "Trying…";
  }

  choice(label, trouble, isOpen) {
    const { outbox } = this.app;
    const name = isOpen ? "this label" : tail(label);
    const number = this.app.findNumber(label);
    const visit = isOpen || number === null ? null : button("Open it", () => this.app.visit(number));
    if (trouble.kind === "conflict") {
      const left = outbox.strays(label).length
        ? " Put on top, your undo or redo of older changes is left out: it would take back theirs." : "";
      const words = `You see their version with your changes on top. Yours are not saved yet.${left}`;
      const choices = isOpen
        ? [button("Put mine on top", () => this.app.page.putOnTop(), "main"),
          button("Discard mine", () => this.app.page.discard(true))]
        : [visit];
      return notice("choose", [make("p", {}, make("b", { text: `Someone else changed ${name} meanwhile. ` }),
        isOpen ? words : "Your changes are not saved yet.")], choices);
    }
    const title = trouble.kind === "locked" ? "The server does not let this page in. " : "The server refused a change. ";
    const sentence = `${sentenceOf(trouble.sentence)} The change to ${name} is not saved.`;
    return notice("choose", [make("p", {}, make("b", { text: title }), sentence)], [
      visit,
      button("Try again", () => outbox.retry(label, true), "main"),
      button("Discard this change", () => this.app.discard(label, false)),
    ]);
  }
}

function sentenceOf(text) {
  const large = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(large) ? large : `${large}.`;
}

function notice(kind, words, choices) {
  return make("div", { class: `notice ${kind}` }, make("div", {}, ...words),
    make("div", { class: "buttons" }, ...choices.filter(Boolean)));
}

function button(words, act, kind = "") {
  return make("button", { type: "button", class: `button ${kind}`, onclick: act, text: words });
}
