/** The page: takes files, sends them one after the other, shows what came back. */

import { button, make, save } from "./elements.js";
import { Picture } from "./picture.js";
import { Server } from "./server.js";
import { classTable, objectTable, toCsv } from "./tables.js";
import { Wave } from "./wave.js";

const at = (id) => document.getElementById(id);

class Page {
  constructor() {
    this.server = new Server();
    this.items = [];
    this.view = null;
    this.chosen = null;
    at("files").addEventListener("change", () => {
      this.take([...at("files").files]);
      at("files").value = "";
    });
    this.watchDrops();
  }

  async open() {
    try {
      this.model = await this.server.model();
    } catch (error) {
      at("shown").replaceChildren(make("p", { class: "wrong", role: "alert", text: error.message }));
      return;
    }
    const { model } = this;
    this.colours = Object.fromEntries(model.classes.map((one) => [one.name, one.colour]));
    at("about").textContent = `${model.run}, step ${model.step}${model.model === "main" ? "" : `, ${model.model}`}`;
    at("read").textContent = `${model.image_suffixes.join(" ")}, up to ${(model.limits.largest_body / 2 ** 20).toFixed(0)} MiB`;
    at("legend").replaceChildren(...model.classes.slice(model.task === "segmentation" ? 1 : 0).map((one) => {
      const mark = make("span", { class: "swatch" });
      mark.style.background = one.colour;
      return make("li", {}, mark, one.name);
    }));
    const words = "Drop an image, a volume or a recording: its label appears here, and what it means.";
    at("shown").replaceChildren(make("p", { class: "message", text: words }));
    document.body.dataset.ready = "";
  }

  watchDrops() {
    const over = (event) => {
      event.preventDefault();
      document.body.classList.toggle("over", event.type === "dragover");
    };
    for (const kind of ["dragover", "dragleave"]) addEventListener(kind, over);
    addEventListener("drop", (event) => {
      over(event);
      this.take([...event.dataTransfer.files]);
    });
  }

  /** Files are sent in the order in which they came. */
  take(files) {
    if (!this.model) return;
    for (const file of files) {
      const item = { file, state: "waiting", words: "waits" };
      item.element = make("button", { type: "button", class: "file", onclick: () => this.choose(item) });
      at("list").append(make("li", {}, item.element));
      this.items.push(item);
      this.tell(item, "waiting", "waits");
      if (!this.chosen || files.length === 1) this.choose(item);
    }
    this.work();
  }

  async work() {
    if (this.working) return;
    this.working = true;
    for (let item; (item = this.items.find((one) => one.state === "waiting")); ) await this.predict(item);
    this.working = false;
  }

  async predict(item) {
    this.tell(item, "running", "is being predicted");
    try {
      const busy = () => this.tell(item, "running", "the server is busy; asked again soon");
      item.answer = await this.server.predict(item.file, this.model, busy);
      const objects = item.answer.conclusions?.objects.length;
      const words = objects === undefined ? "done" : `${objects} object${objects === 1 ? "" : "s"}`;
      this.tell(item, "done", words);
    } catch (error) {
      item.error = error.message;
      this.tell(item, "failed", error.message.replace(`${item.file.name}: `, ""));
    }
    if (this.chosen === item) this.show(item);
  }

  tell(item, state, words) {
    item.state = state;
    item.element.dataset.state = state;
    item.element.replaceChildren(make("b", { text: item.file.name }), make("small", { text: words }));
  }

  choose(item) {
    this.chosen?.element.removeAttribute("aria-current");
    item.element.setAttribute("aria-current", "true");
    this.chosen = item;
    this.show(item);
  }

  show(item) {
    this.view?.close();
    this.view = null;
    const shown = at("shown");
    if (item.error) {
      const words = item.error.startsWith(item.file.name) ? item.error : `${item.file.name}: ${item.error}`;
      shown.replaceChildren(make("p", { class: "wrong", role: "alert", text: words }));
    } else if (!item.answer) {
      shown.replaceChildren(make("p", { class: "message", text: `${item.file.name} …` }));
    } else {
      this.showAnswer(item, shown);
    }
  }

  showAnswer(item, shown) {
    const { answer } = item;
    const picture = answer.look ? this.look(item) : null;
    const parts = [this.title(item, picture)];
    parts.push(...answer.warnings.map((text) => make("p", { class: "warning", role: "status", text })));
    const tables = make("div", { class: "tables" });
    if (answer.conclusions) {
      const choose = (row) => this.view?.seek(row);
      tables.append(classTable(answer.conclusions, this.colours), objectTable(answer.conclusions, this.colours, choose));
    }
    const view = this.view?.element ?? make("p", { class: "card", text: "It is too large to be shown here." });
    const beside = answer.size.length > 1 && answer.conclusions;
    parts.push(beside ? make("div", { class: "both" }, view, tables) : make("div", { class: "tables" }, view, tables));
    shown.replaceChildren(...parts);
    this.view?.open();
  }

  /** Makes the view of an answer; the button that saves it, once there is something to be seen. */
  look(item) {
    const Kind = item.answer.size.length === 1 ? Wave : Picture;
    const view = new Kind(this.server, this.model, item.answer);
    const picture = button("Picture", async () => save(await view.toPng(), `${stemOf(item)}-overlay.png`));
    picture.disabled = true;
    view.onShown = () => { picture.disabled = false; };
    view.onGone = () => this.view === view && this.renew(item);
    this.view = Object.assign(view, item.place);
    return picture;
  }

  /** The server keeps what it showed for minutes only: the file is sent again. */
  renew(item) {
    item.place = { axis: this.view.axis, index: this.view.index };
    item.answer = null;
    this.tell(item, "waiting", "waits");
    this.show(item);
    this.work();
  }

  title(item, picture) {
    const { answer } = item;
    const size = answer.size.join(" × ");
    const unit = answer.size.length === 1 ? "s" : "mm";
    const spacing = answer.spacing ? `, ${answer.spacing.map((step) => Number(step.toPrecision(4))).join(" × ")} ${unit}` : "";
    const buttons = [button("Label", () => saveLabel(answer.label))];
    if (picture) buttons.push(picture);
    if (answer.conclusions) {
      const stem = stemOf(item);
      const csv = () => save(new Blob([toCsv(answer.conclusions)], { type: "text/csv" }), `${stem}-objects.csv`);
      const json = () => save(new Blob([JSON.stringify(answer.conclusions, null, 2)], { type: "application/json" }), `${stem}-conclusions.json`);
      buttons.push(button("Objects (CSV)", csv), button("Conclusions (JSON)", json));
    }
    const facts = make("span", { class: "facts", text: `${size}${spacing}` });
    const all = make("div", { class: "buttons end", role: "group", "aria-label": "Save" }, "Save", ...buttons);
    return make("div", { class: "bar" }, make("h2", { text: item.file.name }), facts, all);
  }
}

function stemOf(item) {
  return item.file.name.replace(/\.[^.]*$/, "");
}

function saveLabel(label) {
  const text = atob(label.base64);
  const content = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  save(new Blob([content], { type: label.type }), label.name);
}

new Page().open();
