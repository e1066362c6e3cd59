/** What is known of a case, and what a person decides about it. */

import { badges } from "./gallery.js";
import { brief, make, setAria, tail } from "./elements.js";
import { icon, iconButton } from "./icons.js";
import { keyOf } from "./keys.js";

const LAYERS = [["label", "Label"], ["prediction", "Prediction"], ["moved", "Moved label"], ["difference", "Label ≠ prediction"]];
const TAKES = [["prediction", "Prediction"], ["moved", "Moved"], ["original", "Original"]];
const KINDS = {
  brush: "brush", polygon: "polygon", ellipse: "ellipse", box: "box", interval: "interval", move: "moved",
  take: "took", undo: "undo", redo: "redo", verdict: "", quality: "marked", comment: "comment",
};

/** Milliseconds that a hand must rest before what it wrote is sent. */
const REST = 1000;

export class Panel {
  constructor(page) {
    Object.assign(this, { page, typed: false });
    this.head = make("div", { class: "head" });
    this.verdict = this.verdicts();
    this.comment = make("textarea", {
      rows: 2, maxlength: 4000, placeholder: "Comment (C)", "aria-label": "Comment",
      oninput: () => this.hear(),
      onchange: () => this.keep(),
      onkeydown: (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && this.comment.blur(),
    });
    this.figures = make("dl", { class: "figures" });
    this.history = make("details", { class: "history" }, make("summary", {}), make("ol", {}));
    this.element = make("aside", { class: "panel", "aria-label": "About this case" },
      this.head, this.verdict, this.comment, this.takes(), this.layers(), this.contrast(), section("Figures", this.figures), this.history);
  }

  /** A comment is sent when the hand rests, or the page is left; until then it is not said to be saved. */
  hear() {
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.keep(), REST);
    this.typed = true;
    this.page.app.notices.drawStatus();
  }

  keep() {
    clearTimeout(this.rest);
    if (!this.typed) return;
    this.typed = false;
    this.page.writeComment(this.comment.value.trim());
    this.page.app.notices.drawStatus();
  }

  verdicts() {
    const button = (action, words) => {
      const made = make("button", { type: "button", class: `button verdict ${action}`, title: `${words} (${keyOf(action)})`, onclick: () => this.page.do(action) },
        icon(action), make("span", { text: words }), make("kbd", { "aria-hidden": "true", text: keyOf(action) }));
      setAria(made, { keyshortcuts: keyOf(action) });
      return made;
    };
    this.buttons = { accept: button("accept", "Accept"), reject: button("reject", "Reject"), strong: button("strong", "Strong: can be trusted") };
    this.onward = make("input", { type: "checkbox", id: "onward", onchange: () => localStorage.setItem("labelmend/onward", this.onward.checked ? "yes" : "") });
    this.onward.checked = localStorage.getItem("labelmend/onward") === "yes";
    return make("div", { class: "verdicts" },
      make("div", { class: "row" }, this.buttons.accept, this.buttons.reject),
      make("label", { class: "check", for: "onward" }, this.onward, make("span", { text: "then go to the next open one" })),
      make("div", { class: "row" }, this.buttons.strong));
  }

  takes() {
    this.takeButtons = Object.fromEntries(TAKES.map(([what, words]) => [what, make("button", {
      type: "button", class: "button", title: `Take this as the label (${keyOf(`take-${what}`)})`,
      onclick: () => this.page.do(`take-${what}`), text: words,
    })]));
    this.takeSection = section("Take as the label", make("div", { class: "row" }, ...Object.values(this.takeButtons)));
    return this.takeSection;
  }

  layers() {
    this.boxes = {};
    const rows = LAYERS.map(([layer, words]) => {
      const key = keyOf(`layer-${layer}`);
      this.boxes[layer] = make("input", { type: "checkbox", id: `layer-${layer}`, onchange: () => this.page.do(`layer-${layer}`) });
      setAria(this.boxes[layer], { keyshortcuts: key });
      return make("label", { class: `check layer-${layer}` }, this.boxes[layer], make("span", { class: "sample" }),
        make("span", { class: "words", text: words }), make("kbd", { "aria-hidden": "true", text: key }));
    });
    this.opacity = make("input", { type: "range", min: 0, max: 100, "aria-label": "Opacity of the label", oninput: () => this.page.setOpacity(this.opacity.value / 100) });
    return section("Layers", ...rows, make("label", { class: "slide" }, make("span", { text: "Opacity" }), this.opacity));
  }

  contrast() {
    const slider = (words) => make("input", { type: "range", "aria-label": words, step: "any", oninput: () => this.slide() });
    this.low = slider("Black");
    this.high = slider("White");
    this.channel = make("select", { "aria-label": "Channel", onchange: () => this.page.setChannel(this.channel.value) });
    const auto = make("button", { type: "button", class: "button small", text: "Auto", onclick: () => this.page.setContrast(null) });
    this.contrastSection = section("Contrast",
      make("label", { class: "slide" }, make("span", { text: "Black" }), this.low),
      make("label", { class: "slide" }, make("span", { text: "White" }), this.high),
      make("div", { class: "row" }, this.channel, auto));
    return this.contrastSection;
  }

  slide() {
    const [low, high] = [this.low, this.high].map((slider) => Number(slider.value));
    const least = (Number(this.high.max) - Number(this.low.min)) / 1000;
    if (high - low >= least) this.page.setContrast([low, high]);
  }

  /** Black and white, and how far they may be moved: half of the suggested range to either side. */
  setContrast([low, high], [first, last]) {
    const wide = (last - first) / 2;
    for (const [slider, value] of [[this.low, low], [this.high, high]]) {
      slider.min = first - wide;
      slider.max = last + wide;
      slider.value = value;
    }
  }

  setChannels(channels) {
    this.channel.hidden = channels < 2;
    const names = Array.from({ length: channels }, (_, i) => make("option", { value: i, text: `Channel ${i + 1}` }));
    if (channels === 3) names.unshift(make("option", { value: "", text: "Colour" }));
    this.channel.replaceChildren(...names);
  }

  /** All that the entry says; `decided` is the person's word, saved or not. */
  draw(entry, decided, { total, unsaved }) {
    this.drawHead(entry, decided, total, unsaved);
    setAria(this.buttons.accept, { pressed: decided.verdict === "accepted" });
    setAria(this.buttons.reject, { pressed: decided.verdict === "rejected" });
    setAria(this.buttons.strong, { pressed: decided.quality === "strong" });
    if (document.activeElement !== this.comment) this.comment.value = decided.comment ?? "";
    const rows = [["Weight", brief(entry.weight)], ["Disagreement", brief(entry.disagreement)],
      ["Displacement", displacement(entry)], ["Score", brief(entry.score)],
      ["Annotator", entry.annotator || "–"], ["Group", entry.group || "–"], ["Split", entry.split || "–"], ["Size", entry.size?.join(" × ") ?? "–"]];
    this.figures.replaceChildren(...rows.flatMap(([words, value]) => [make("dt", { text: words }), make("dd", { text: value, title: value })]));
    this.drawHistory(entry.history ?? []);
  }

  drawHead(entry, decided, total, unsaved) {
    const focused = this.head.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    this.head.replaceChildren(
      make("div", { class: "steps" },
        iconButton("previous", "Previous case", { key: "K", onclick: () => this.page.do("previous") }),
        make("span", { class: "place", text: `${entry.number + 1} of ${total}` }),
        iconButton("next", "Next case", { key: "J", onclick: () => this.page.do("next") }),
        make("span", { class: "badges" }, ...badges({ edited: entry.edited }, unsaved))),
      make("h1", { text: tail(entry.label), title: entry.label }),
      make("p", { class: "path", text: entry.label }),
      make("p", { class: "reason", text: entry.reason }),
      entry.like ? make("p", { class: "path", text: `nearly the same as ${entry.like}` }) : "");
    if (focused) this.head.querySelector(`[aria-label="${focused}"]`)?.focus();
  }

  drawHistory(history) {
    this.history.hidden = history.length === 0;
    this.history.firstChild.textContent = `History (${history.length})`;
    this.history.lastChild.replaceChildren(...history.slice(-200).reverse().map(({ kind, person, time, op }) => make("li", {},
      make("span", { text: [KINDS[kind] ?? kind, op?.value ?? op?.what ?? op?.text ?? ""].filter(Boolean).join(" ") }),
      make("span", { class: "by", text: [person, when(time)].filter(Boolean).join(", ") }))));
  }

  drawLayers(layers, has) {
    for (const [layer, box] of Object.entries(this.boxes)) {
      box.checked = layers[layer];
      box.disabled = !has[layer];
      box.parentElement.classList.toggle("missing", !has[layer]);
    }
    this.opacity.value = layers.opacity * 100;
    for (const [what, button] of Object.entries(this.takeButtons)) button.disabled = !has[what];
  }

  setLines(palette) {
    const single = palette.classes.length === 2;
    for (const kind of ["label", "prediction", "moved"]) {
      const sample = this.boxes[kind].nextElementSibling;
      if (single || kind === "label") sample.style.borderColor = palette.line(kind, Math.min(1, palette.classes.length - 1));
    }
  }
}

function section(title, ...children) {
  return make("section", {}, make("h2", { text: title }), ...children);
}

function displacement({ displacement, confidence }) {
  if (!displacement) return "–";
  const sure = confidence === null || confidence === undefined ? "" : ` (sure: ${brief(confidence)})`;
  return `${displacement.map((d) => brief(d)).join(", ")}${sure}`;
}

function when(time) {
  const date = new Date(typeof time === "number" ? time * 1000 : time);
  if (Number.isNaN(date.getTime())) return String(time ?? "");
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : date.toLocaleDateString();
}
