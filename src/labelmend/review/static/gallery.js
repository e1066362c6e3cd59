/** All cases in the order of the audit, as small pictures that load when they come into view. */

import { brief, make, setAria, tail } from "./elements.js";
import { icon } from "./icons.js";

const STATES = [
  ["all", "All"], ["open", "Open"], ["edited", "Edited"], ["accepted", "Accepted"],
  ["rejected", "Rejected"], ["strong", "Strong"],
];
const CHUNK = 120;
const KEY = "labelmend/filters";

/** Which cases a person wants to see; kept while the tab lives. */
export class Filters {
  constructor() {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "{}");
    Object.assign(this, { state: "all", annotator: "", text: "" }, kept);
  }

  keep() {
    sessionStorage.setItem(KEY, JSON.stringify({ ...this }));
  }

  isIn(entry, state = this.state) {
    if (state === "all") return true;
    if (state === "edited") return entry.edited;
    if (state === "strong") return entry.quality === "strong";
    return entry.verdict === state;
  }

  /** By annotator and text alone. */
  isAbout(entry) {
    if (this.annotator && entry.annotator !== this.annotator) return false;
    const text = [entry.label, entry.image, entry.group, entry.reason, entry.comment, entry.annotator];
    const words = this.text.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => text.some((part) => part?.toLowerCase().includes(word)));
  }

  choose(entries) {
    return entries.filter((entry) => this.isAbout(entry) && this.isIn(entry));
  }
}

export class Gallery {
  constructor(app) {
    this.app = app;
    this.pictures = new Map();
    this.seer = new IntersectionObserver((seen) => this.see(seen), { rootMargin: "300px" });
    this.cards = new Map();
    this.grid = make("ul", { class: "grid", onkeydown: (event) => this.walk(event) });
    this.end = make("div", { class: "end" });
    this.count = make("p", { class: "count", role: "status" });
    this.element = make("section", { class: "gallery", "aria-label": "Gallery" },
      this.bar(), this.count, this.grid, this.end);
    this.seer.observe(this.end);
    this.refill();
  }

  close() {
    this.seer.disconnect();
    for (const address of this.pictures.values()) URL.revokeObjectURL(address);
  }

  bar() {
    const { filters } = this.app;
    this.states = make("div", { class: "segments", role: "group", "aria-label": "State" },
      ...STATES.map(([state, words]) => make("button", {
        type: "button", data: { state }, onclick: () => this.filter({ state }),
      }, words, make("span", { class: "number" }))));
    const people = [...new Set(this.app.entries.map((entry) => entry.annotator).filter(Boolean))].sort();
    if (!people.includes(filters.annotator)) filters.annotator = ""; // that of another run in this tab
    const choice = make("select", { "aria-label": "Annotator", onchange: (event) => this.filter({ annotator: event.target.value }) },
      make("option", { value: "", text: "All annotators" }),
      ...people.map((name) => make("option", { value: name, text: name, selected: name === filters.annotator })));
    this.search = make("input", {
      type: "search", placeholder: "Search", "aria-label": "Search labels, reasons and comments", value: filters.text,
      oninput: (event) => this.filter({ text: event.target.value }),
    });
    return make("div", { class: "filters" }, this.states, people.length > 1 ? choice : null, this.search);
  }

  filter(change) {
    Object.assign(this.app.filters, change);
    this.app.filters.keep();
    this.refill();
  }

  refill() {
    const { filters, entries } = this.app;
    const about = entries.filter((entry) => filters.isAbout(entry));
    for (const button of this.states.children) {
      const { state } = button.dataset;
      setAria(button, { pressed: state === filters.state });
      button.lastChild.textContent = about.filter((entry) => filters.isIn(entry, state)).length;
    }
    this.chosen = filters.choose(entries);
    this.most = entries.reduce((most, entry) => Math.max(most, entry.score), 0) || 1;
    this.cards.clear();
    this.grid.replaceChildren();
    this.count.textContent = this.chosen.length === entries.length ? "" : `${this.chosen.length} of ${entries.length} shown`;
    if (!this.chosen.length) this.grid.append(make("li", { class: "message", text: "No label is like that." }));
    this.more();
  }

  more() {
    const next = this.chosen.slice(this.cards.size, this.cards.size + CHUNK);
    for (const entry of next) {
      const card = this.card(entry);
      this.cards.set(entry.number, card);
      this.grid.append(card);
      this.seer.observe(card);
    }
  }

  see(seen) {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      if (target === this.end) this.more();
      else {
        this.seer.unobserve(target);
        this.loadPicture(target);
      }
    }
  }

  async loadPicture(card) {
    const { number, version } = card.dataset;
    const key = `${number}/${version}`;
    const image = card.querySelector("img");
    try {
      if (!this.pictures.has(key)) {
        const blob = await this.app.server.picture(`/api/cases/${number}/thumbnail`);
        this.pictures.set(key, URL.createObjectURL(blob));
      }
      image.src = this.pictures.get(key);
    } catch (error) {
      card.querySelector(".picture").dataset.problem = error.message;
    }
  }

  card(entry) {
    const name = tail(entry.label);
    const unsaved = this.app.outbox.pending(entry.label).length > 0;
    const meter = make("span", { class: "meter" }, make("span", {}));
    meter.firstChild.style.width = `${Math.max(2, (100 * entry.score) / this.most)}%`;
    const about = [entry.annotator, entry.group].filter(Boolean).join(" · ");
    const marks = badges(entry, unsaved);
    const link = make("a", { href: `#case=${entry.number}`, class: "card" },
      make("span", { class: "picture" }, make("img", { alt: "", decoding: "async" }),
        make("span", { class: "badges" }, ...marks)),
      make("span", { class: "line" }, make("b", { text: name, title: entry.label }),
        make("span", { class: "score", title: "score: what looking at it promises", text: brief(entry.score) })),
      meter,
      make("span", { class: "reason", text: entry.reason }),
      about ? make("span", { class: "about", text: about }) : null);
    return make("li", { data: { number: entry.number, version: entry.version, verdict: entry.verdict } }, link);
  }

  /** Draws one card again, if it is there. */
  renew(number) {
    const old = this.cards.get(number);
    if (!old) return;
    const focused = old.contains(document.activeElement);
    const card = this.card(this.app.entries[number]);
    const same = old.dataset.version === card.dataset.version;
    old.replaceWith(card);
    this.cards.set(number, card);
    if (same && this.pictures.has(`${number}/${card.dataset.version}`)) this.loadPicture(card);
    else this.seer.observe(card);
    if (focused) card.firstChild.focus();
  }

  /** Arrows go from card to card; also J and K. */
  walk(event) {
    const links = [...this.grid.querySelectorAll("a.card")];
    const at = links.indexOf(document.activeElement);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const across = links.filter((link) => link.offsetTop === links[0].offsetTop).length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, j: 1, k: -1 }[event.key];
    const next = step && links[at + step];
    if (!next) return;
    next.focus();
    event.preventDefault();
    event.stopPropagation();
  }

  do(action) {
    if (action === "search") this.search.focus();
    else if (action === "next" || action === "previous") this.grid.querySelector("a.card")?.focus();
    else return false;
    return true;
  }

  focus(number) {
    while (number !== null && !this.cards.has(number) && this.cards.size < this.chosen.length) this.more();
    const link = this.cards.get(number)?.firstChild;
    link?.focus({ preventScroll: true });
    link?.scrollIntoView({ block: "center" });
  }
}

/** What has been decided and done, as small marks. */
export function badges(entry, unsaved) {
  const marks = [];
  if (entry.verdict === "accepted") marks.push(["accept", "accepted"]);
  if (entry.verdict === "rejected") marks.push(["reject", "rejected"]);
  if (entry.edited) marks.push(["edited", "edited"]);
  if (entry.quality === "strong") marks.push(["strong", "strong"]);
  const found = marks.map(([name, words]) =>
    make("span", { class: `badge ${words}`, title: words }, icon(name), make("span", { text: words })));
  if (unsaved) found.push(make("span", { class: "badge unsaved", text: "not saved" }));
  return found;
}
