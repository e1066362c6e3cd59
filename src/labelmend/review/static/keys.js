/** Keys: what each does, in one list that the page obeys and that "?" shows. */

import { make } from "./elements.js";

/** `[keys, what it does, words]` by group; "case" keys work where a case is open. */
export const GROUPS = [
  ["Go", [
    [["J", "ArrowRight", "ArrowDown"], "next", "next case (arrows: when the image has not the focus)"],
    [["K", "ArrowLeft", "ArrowUp"], "previous", "previous case"],
    [["G"], "gallery", "back to the gallery"],
    [["/"], "search", "search the gallery"],
    [["?"], "help", "this list"],
  ]],
  ["Decide", [
    [["A"], "accept", "accept the label (again: open)"],
    [["R"], "reject", "reject the label (again: open)"],
    [["S"], "strong", "mark as strong, which accepts it too (again: weak)"],
    [["C"], "comment", "write a comment"],
    [["Ctrl+Z"], "undo", "undo"],
    [["Ctrl+Y", "Ctrl+Shift+Z"], "redo", "redo"],
  ]],
  ["Draw", [
    [["B"], "brush", "brush"],
    [["E"], "erase", "eraser"],
    [["P"], "polygon", "polygon: click corners; double click or Enter closes, Esc cancels"],
    [["O"], "ellipse", "ellipse: drag, then handles; Enter takes it"],
    [["X"], "box", "box: drag, then handles; Enter takes it"],
    [["M"], "move", "move and turn the whole label; Enter puts it down"],
    [["["], "thinner", "thinner brush"],
    [["]"], "thicker", "thicker brush"],
    [["0…9"], "class", "class by its number"],
    [["U"], "unknown", "class “unknown”, where the data set has it"],
  ]],
  ["Take", [
    [["Shift+W"], "take-prediction", "the prediction as the label"],
    [["Shift+V"], "take-moved", "the moved label"],
    [["Shift+L"], "take-original", "the label as it was"],
  ]],
  ["See", [
    [["L"], "layer-label", "label on or off"],
    [["W"], "layer-prediction", "prediction on or off"],
    [["V"], "layer-moved", "moved label on or off"],
    [["D"], "layer-difference", "difference on or off"],
    [["H"], "layers", "hide all layers, and show them again"],
    [["+", "="], "larger", "zoom in (also the wheel, or two fingers)"],
    [["-"], "smaller", "zoom out"],
    [["F"], "fit", "fit to the window"],
    [["PageUp"], "slice-up", "next slice of a volume (also Alt and the wheel)"],
    [["PageDown"], "slice-down", "previous slice"],
  ]],
];

const SIGNS = { ArrowRight: "→", ArrowDown: "↓", ArrowLeft: "←", ArrowUp: "↑" };

/** Keys that belong to the image when it has the focus; shown, not bound. */
const ON_IMAGE = [
  [["Space"], "hold and drag to pan; with a crosshair: one dot"],
  [["ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight"], "move the crosshair or the shape (Shift: farther, or larger; Ctrl, in a recording: one position)"],
  [["Enter"], "begin and end a line, put a corner, take a shape"],
  [[",", "."], "turn a shape; in a recording: to the end of an interval"],
  [["Delete"], "in a recording: erase the interval at the cursor"],
  [["Esc"], "cancel"],
];

const ACTIONS = new Map(GROUPS.flatMap(([, rows]) => rows.flatMap(([keys, does]) => keys.map((key) => [key, does]))));

/** A key event by name: "A", "Shift+W", "Ctrl+Z", "Space", "?". */
export function nameOf(event) {
  // Of a layout without Latin letters, Cyrillic or Greek, the place of the key counts.
  const placed = event.key.length === 1 && event.key > "\u007f" && /^Key[A-Z]$/.test(event.code);
  const key = placed ? event.code.slice(3) : event.key === " " ? "Space" : event.key;
  const letter = /^[a-z]$/i.test(key);
  const name = letter ? key.toUpperCase() : key;
  const shift = event.shiftKey && (letter || key.length > 1) ? "Shift+" : "";
  return (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + shift + name;
}

/** What a key does: a word of GROUPS, `class:3`, or null. */
export function actionOf(name) {
  if (/^[0-9]$/.test(name)) return `class:${name}`;
  return ACTIONS.get(name) ?? null;
}

/** The key that stands for an action. */
export function keyOf(action) {
  for (const [key, does] of ACTIONS) if (does === action) return key;
  return "";
}

/** The list, as a dialog that removes itself. */
export function showKeys() {
  const dialog = make("dialog", { class: "sheet keys", "aria-labelledby": "keys-title" },
    make("h2", { id: "keys-title", text: "Keys" }),
    make("div", { class: "key-groups" }, ...GROUPS.map(([title, rows]) =>
      keyTable(title, rows.map(([keys, , words]) => [keys, words]))), keyTable("On the image", ON_IMAGE)),
    make("form", { method: "dialog", class: "buttons" }, make("button", { class: "button", text: "Close" })));
  openDialog(dialog);
}

function keyTable(title, rows) {
  return make("section", {}, make("h3", { text: title }),
    make("dl", {}, ...rows.flatMap(([keys, words]) => [
      make("dt", {}, ...keys.map((key) => make("kbd", { text: SIGNS[key] ?? key }))),
      make("dd", { text: words })])));
}

/** Opens a dialog over the page; closed by its buttons, Esc, or a click beside it. */
export function openDialog(dialog) {
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.showModal();
}
