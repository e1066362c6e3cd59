/** Colours of classes and of the lines that show where they are. */

import { UNKNOWN } from "./rasters.js";

/** How each kind of label is drawn: its dashes in CSS pixels, its colour where one class is all. */
export const KINDS = {
  label: { dash: [], plain: null },
  prediction: { dash: [7, 5], plain: "#40c4ff" },
  moved: { dash: [2, 4], plain: "#ff8ad8" },
};

/** Red, green and blue of "#rrggbb". */
export function parse(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

/** What every class and kind of line looks like in this session. */
export class Palette {
  constructor(classes, continuous = false) {
    this.classes = classes;
    this.continuous = continuous;
    this.bytes = classes.map((one) => parse(one.colour));
  }

  name(value) {
    if (value === UNKNOWN || value < 0) return "unknown";
    return this.classes[value]?.name ?? `class ${value}`;
  }

  /** The colour of a class's border for a kind of label; one class has a colour per kind. */
  line(kind, value) {
    const { plain } = KINDS[kind];
    if (plain && this.classes.length === 2) return plain;
    return this.solid(value);
  }

  solid(value) {
    return this.classes[value]?.colour ?? "#9aa0a6";
  }

  /** A label as a picture of its own size: classes filled, unknown hatched, background clear. */
  fill(label) {
    const canvas = blank(label);
    const picture = new ImageData(label.columns, label.rows);
    const words = new Uint32Array(picture.data.buffer);
    const colours = this.bytes.map(([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0);
    for (let i = 0; i < words.length; i++) {
      const value = label.values[i];
      if (value === UNKNOWN) {
        const at = Math.floor(i / label.columns) + (i % label.columns);
        words[i] = at % 4 < 2 ? 0xffd0d0d0 : 0x80505050;
      } else if (this.continuous) words[i] = (0xff000000 | (value * 0x010101)) >>> 0;
      else if (value) words[i] = colours[value] ?? 0xff808080;
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
    return canvas;
  }

  /** Where the borders of the classes lie, as a picture of the label's own size. */
  borders({ values, rows, columns }, kind) {
    const canvas = blank({ rows, columns });
    const picture = new ImageData(columns, rows);
    const words = new Uint32Array(picture.data.buffer);
    const colours = this.classes.map((_, value) => {
      const [r, g, b] = parse(this.line(kind, value));
      return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
    });
    for (let i = 0; i < words.length; i++) {
      const value = values[i];
      if (value === 0 || value === UNKNOWN) continue;
      const column = i % columns;
      const inner = (column === 0 || values[i - 1] === value) && (column === columns - 1 || values[i + 1] === value)
        && (i < columns || values[i - columns] === value) && (i + columns >= words.length || values[i + columns] === value);
      if (!inner) words[i] = colours[value] ?? 0xff808080;
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
    return canvas;
  }

  /** Where two labels say different things, as a picture. */
  difference(one, other) {
    const canvas = blank(one);
    const picture = new ImageData(one.columns, one.rows);
    const words = new Uint32Array(picture.data.buffer);
    for (let i = 0; i < words.length; i++) {
      const [a, b] = [one.values[i], other.values[i]];
      if (a === b || a === UNKNOWN || b === UNKNOWN) continue;
      words[i] = a === 0 ? 0xe0ffd23f : b === 0 ? 0xe03c5aff : 0xe0ff7dc7;
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
    return canvas;
  }
}

function blank({ rows, columns }) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  return canvas;
}
