/** The borders of the classes of a label, as closed lines along the edges of positions. */

const RIGHT = 0, DOWN = 1, LEFT = 2, UP = 3;
const STEP = [[0, 1], [1, 0], [0, -1], [-1, 0]];

/** In one path: a browser adds to a path the slower, the more lines it has. */
const LOOPS = 256;
/** Sides of positions: beyond that, lines take seconds whenever they are drawn, and hide the image. */
const MOST_SIDES = 150000;

/**
 * The border of one class: Path2Ds in picture coordinates (x = column + 0.5, y = row + 0.5, so
 * that corners of positions are whole numbers). Dashes run on around corners.
 */
export function traceClass({ values, rows, columns }, value) {
  const inside = (row, column) =>
    row >= 0 && row < rows && column >= 0 && column < columns &&
    values[row * columns + column] === value;
  const paths = [];
  let loops = 0;
  const seen = new Uint8Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (!inside(row, column) || inside(row - 1, column) || seen[row * columns + column]) continue;
      if (loops++ % LOOPS === 0) paths.push(new Path2D());
      follow(paths.at(-1), inside, seen, columns, row, column);
    }
  }
  return paths;
}

/** One closed line with the class on its right, from the upper edge of a position. */
function follow(path, inside, seen, columns, startRow, startColumn) {
  let [row, column, way] = [startRow, startColumn, RIGHT];
  path.moveTo(column, row);
  do {
    if (way === RIGHT) seen[row * columns + column] = 1;
    row += STEP[way][0];
    column += STEP[way][1];
    const turned = turn(inside, row, column, way);
    if (turned !== way) path.lineTo(column, row);
    way = turned;
  } while (row !== startRow || column !== startColumn || way !== RIGHT);
  path.closePath();
}

/** Where the border goes on from a corner: right first, so that corners that touch stay apart. */
function turn(inside, row, column, way) {
  const ahead = {
    [RIGHT]: [[row, column], [row - 1, column]],
    [DOWN]: [[row, column - 1], [row, column]],
    [LEFT]: [[row - 1, column - 1], [row, column - 1]],
    [UP]: [[row - 1, column], [row - 1, column - 1]],
  }[way];
  const [onRight, onLeft] = ahead.map((place) => inside(...place));
  if (!onRight) return (way + 1) % 4;
  return onLeft ? (way + 3) % 4 : way;
}

/** How many sides of positions lie between two values. */
function countSides({ values, columns }) {
  let sides = 0;
  for (let i = 1; i < values.length; i++) {
    if (values[i] !== values[i - 1] && i % columns) sides++;
    if (i >= columns && values[i] !== values[i - columns]) sides++;
  }
  return sides;
}

/**
 * Borders of all classes but the background, drawn once per label: `[[class, [Path2D, …]], …]`, or
 * null where there are too many for lines, as where an untrained network speaks of a large image.
 */
export class Contours {
  constructor() {
    this.drawn = new WeakMap();
  }

  of(label) {
    if (!this.drawn.has(label.values)) {
      this.drawn.set(label.values, countSides(label) > MOST_SIDES ? null : trace(label));
    }
    return this.drawn.get(label.values);
  }
}

function trace(label) {
  const found = new Set(label.values);
  found.delete(0);
  found.delete(255);
  return [...found].sort((a, b) => a - b).map((value) => [value, traceClass(label, value)]);
}
