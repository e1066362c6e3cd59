/** The page: who may see it, what is open, and what others did meanwhile. */

import { CasePage } from "./case.js";
import { Gallery, Filters } from "./gallery.js";
import { count, isWriting, make, setAria } from "./elements.js";
import { icon, iconButton } from "./icons.js";
import { actionOf, nameOf, openDialog, showKeys } from "./keys.js";
import { Notices } from "./notices.js";
import { Outbox } from "./outbox.js";
import { Refusal, Server, Silence, readToken } from "./server.js";
import { Vault } from "./vault.js";

const POLL = 3000;
const PERSON = "labelmend/person";
const find = (name) => document.getElementById(name);

class App {
  constructor(server, session) {
    Object.assign(this, { server, session, entries: [], event: 0, page: null, gallery: null, trouble: null });
    this.filters = new Filters();
    this.server.person = localStorage.getItem(PERSON) ?? "";
    this.outbox = new Outbox(server, new Vault(), session.run, (label) => this.findNumber(label));
  }

  async open() {
    await this.list();
    this.header();
    await this.outbox.open();
    this.notices = new Notices(this, find("notices"), this.status);
    this.outbox.addEventListener("saved", ({ detail }) => this.know(detail.answer.case));
    this.outbox.addEventListener("change", () => this.drawProgress());
    window.addEventListener("hashchange", () => this.route());
    window.addEventListener("online", () => this.outbox.retry());
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("visibilitychange", () => (document.hidden ? this.page?.panel.keep() : this.poll()));
    window.addEventListener("pagehide", () => this.leave());
    this.server.onReordered = () => this.poll();
    setInterval(() => document.hidden || this.poll(), POLL);
    this.route();
  }

  /** The page goes: what is being written is kept, and sent without waiting for this browser's disk. */
  leave() {
    this.page?.panel.keep();
    this.outbox.retry();
  }

  async list() {
    const { cases, event, order } = await this.server.json("/api/cases");
    Object.assign(this, { entries: cases, event });
    this.server.order = order;
    this.numbers = new Map(cases.map((entry) => [entry.label, entry.number]));
  }

  findNumber(label) {
    return this.numbers.get(label) ?? null;
  }

  header() {
    const { session } = this;
    const run = session.run.replace(/\/+$/, "").split("/").at(-1);
    document.title = `${run} · labelmend review`;
    this.status = make("span", { class: "status", id: "status", role: "status", data: { state: "saving" }, text: "Opening…" });
    this.progress = make("div", { class: "progress", id: "progress" },
      make("span", { class: "words" }), make("span", { class: "bar" }, make("span", {})));
    this.who = make("button", { type: "button", class: "quiet", title: "Who draws here", onclick: () => this.askName() },
      icon("person"), make("span", {}));
    this.drawName();
    find("top").replaceChildren(
      make("a", { class: "brand", href: "#", title: "To the gallery (G)" }, icon("back"), make("b", { text: "labelmend" })),
      make("span", { class: "run", title: `${session.run}\n${session.data}\n${session.model ?? ""}`, text: run }),
      this.progress,
      this.status,
      this.who,
      make("button", { type: "button", class: "quiet", id: "export", onclick: () => this.askExport() }, icon("export"), make("span", { text: "Export" })),
      iconButton("help", "All keys", { key: "?", onclick: showKeys }));
    this.drawProgress();
  }

  drawName() {
    const name = this.server.person;
    this.who.lastChild.textContent = name || "Your name";
    setAria(this.who, { label: name ? `You are ${name}; change` : "Say who you are" });
  }

  drawProgress() {
    const { entries } = this;
    const done = entries.filter((entry) => entry.verdict !== "open").length;
    this.progress.firstChild.textContent = `${done} of ${entries.length} looked at`;
    this.progress.querySelector(".bar > span").style.width = `${(100 * done) / Math.max(1, entries.length)}%`;
  }

  // ------------------------------------------------------------------ what is open

  route() {
    const about = new URLSearchParams(location.hash.slice(1));
    if (about.has("token")) {
      readToken();
      location.reload();
      return;
    }
    const number = about.has("case") ? Number(about.get("case")) : null;
    const before = this.page?.work.number ?? null;
    this.page?.close();
    this.gallery?.close();
    this.page = this.gallery = null;
    const entry = number === null ? null : this.entries[number];
    document.body.classList.toggle("in-case", Boolean(entry));
    if (entry) {
      this.page = new CasePage(this, entry);
      find("main").replaceChildren(this.page.element);
      this.page.open();
      find("main").focus({ preventScroll: true });
    } else {
      this.gallery = new Gallery(this);
      find("main").replaceChildren(this.gallery.element);
      window.scrollTo(0, 0);
      if (before !== null) this.gallery.focus(before);
    }
    this.outbox.tell();
  }

  visit(number) {
    location.hash = number === null ? "" : `case=${number}`;
  }

  /** The case so many places on in what the filters show; null at the ends. */
  neighbour(number, step, isWanted = () => true) {
    const chosen = this.filters.choose(this.entries).map((entry) => entry.number);
    const numbers = chosen.length ? chosen : this.entries.map((entry) => entry.number);
    const on = step > 0 ? numbers.filter((n) => n > number) : numbers.filter((n) => n < number).reverse();
    return on.find((n) => isWanted(this.entries[n])) ?? null;
  }

  key(event) {
    if (document.querySelector("dialog[open]") || event.altKey || event.defaultPrevented) return;
    if (isWriting(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const name = nameOf(event);
    if (this.page?.key(name, event)) {
      event.preventDefault();
      return;
    }
    const owned = event.target.closest?.("input, select, button, a, summary");
    if (owned && (name === "Enter" || name === "Space" || (event.target.type === "range" && name.startsWith("Arrow")))) return;
    const action = actionOf(name);
    if (action && this.do(action)) event.preventDefault();
  }

  do(action) {
    if (action === "help") showKeys();
    else if (action === "gallery") this.visit(null);
    else return (this.page ?? this.gallery)?.do(action) ?? false;
    return true;
  }

  // ------------------------------------------------------------------ what others do

  async poll() {
    if (this.polling) return;
    this.polling = true;
    let trouble = null;
    try {
      const { event, cases, order } = await this.server.json(`/api/events?after=${this.event}`);
      if (order !== this.server.order) await this.reorder();
      else {
        await this.learn(cases);
        this.event = event;
      }
      if (this.trouble) this.outbox.retry();
      await this.outbox.adopt();
    } catch (error) {
      if (!(error instanceof Refusal || error instanceof Silence)) throw error;
      trouble = error;
    } finally {
      this.polling = false;
      this.trouble = trouble;
      this.notices.draw();
    }
  }

  async learn(numbers) {
    if (numbers.length > 12) {
      const { cases } = await this.server.json("/api/cases");
      for (const entry of cases) this.know(entry);
      return;
    }
    for (const number of numbers) this.know(await this.server.json(`/api/cases/${number}`));
  }

  /** The audit was made anew: numbers mean other labels; what is open stays, by its label. */
  async reorder() {
    const { run } = await this.server.json("/api/session");
    if (run !== this.session.run) {
      throw new Refusal(409, { detail: `this address serves another run now, ${run}; load the page again to see it. What is not saved waits in this browser for ${this.session.run}` });
    }
    await this.list();
    if (this.page) {
      const number = this.findNumber(this.page.work.entry.label);
      history.replaceState(null, "", number === null ? "#" : `#case=${number}`);
    }
    this.route();
    this.outbox.retry();
    this.say("The labels are in another order now; the list was loaded again.");
  }

  /** Takes in what the server says of a case, unless something newer is known. */
  know(entry) {
    const old = this.entries[entry.number];
    if (old?.label !== entry.label || entry.version < old.version) return;
    this.entries[entry.number] = { ...old, ...entry };
    this.drawProgress();
    this.gallery?.renew(entry.number);
    this.page?.learn(entry);
  }

  async discard(label, all) {
    await this.outbox.discard(label, all);
    const number = this.findNumber(label);
    if (number !== null) this.gallery?.renew(number);
    if (this.page?.work.entry.label === label) await this.page.work.refresh().catch(() => {});
  }

  say(words) {
    find("spoken").textContent = words;
  }

  // ------------------------------------------------------------------ dialogs

  askName() {
    const input = make("input", { type: "text", id: "person", maxlength: 60, value: this.server.person, autocomplete: "name" });
    const form = make("form", { method: "dialog" },
      make("h2", { text: "Who draws here?" }),
      make("label", { for: "person", text: "Your name stands with every change, so that others see who made it." }),
      input,
      make("div", { class: "buttons" }, make("button", { class: "button main", text: "Keep" })));
    const dialog = make("dialog", { class: "sheet" }, form);
    form.addEventListener("submit", () => {
      this.server.person = input.value.trim();
      localStorage.setItem(PERSON, this.server.person);
      this.drawName();
    });
    openDialog(dialog);
  }

  askExport() {
    const unsaved = this.outbox.unsaved().length;
    const result = make("div", { role: "status" });
    const write = make("button", { type: "button", class: "button main", text: "Write" });
    write.addEventListener("click", () => this.export(write, result));
    openDialog(make("dialog", { class: "sheet", id: "export-sheet" },
      make("h2", { text: "Write the repaired labels" }),
      make("p", { text: "Accepted labels that were changed are written beside the originals; rejected ones are left out. The originals stay as they are." }),
      unsaved ? make("p", { class: "warning", text: `${count(unsaved, "label")} with changes that are not saved yet: what is not saved is not written.` }) : null,
      result,
      make("form", { method: "dialog", class: "buttons" }, make("button", { class: "button", text: "Close" }), write)));
  }

  async export(write, result) {
    write.disabled = true;
    result.replaceChildren(make("p", { text: "Writing…" }));
    try {
      const told = await this.server.export();
      const rows = [["accepted", told.accepted], ["written anew, of these", told.written],
        ["strong from now on", told.strong], ["rejected, left out", told.rejected],
        ["changed but not accepted: as before", told.open_edits], ["marked but not accepted: as before", told.open_marks]];
      result.replaceChildren(
        make("dl", { class: "figures" }, ...rows.flatMap(([words, value]) => [make("dt", { text: words }), make("dd", { text: String(value) })])),
        make("p", {}, "Listed in ", make("code", { text: told.table })));
    } catch (error) {
      result.replaceChildren(make("p", { class: "warning", text: error.message }));
    }
    write.disabled = false;
  }
}

function showMessage(title, ...words) {
  find("main").replaceChildren(make("div", { class: "message" },
    make("h1", { text: title }), ...words.map((text) => make("p", { text }))));
}

let app = null;

async function start() {
  const token = readToken();
  if (!token) {
    showMessage("This page needs its token",
      "Open the address that “labelmend review RUN” printed, with all that follows its #. It holds a token that lets only you in.");
    return;
  }
  const server = new Server(token);
  try {
    const session = await server.json("/api/session");
    app = new App(server, session);
    await app.open();
  } catch (error) {
    if (error instanceof Refusal) {
      showMessage("The server does not let this page in", error.message,
        "Open the address that “labelmend review RUN” printed last; every start has a new token.");
    } else {
      showMessage("The server does not answer", "Start “labelmend review RUN” again. This page tries again by itself.");
      setTimeout(() => start(), 2000);
      if (!error.message.startsWith("no answer")) console.error(error);
    }
  }
}

window.addEventListener("hashchange", () => {
  if (app === null && location.hash.startsWith("#token=")) location.reload();
});
start();
