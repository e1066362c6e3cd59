/**
 * What an op makes of a label, as the server will: a preview until its answer is here.
 *
 * A label is `{values, rows, columns}` (bytes in C order; 255 unknown); points are [row, column],
 * position (i, j) has its centre at (i, j). The rules at borders are those of labels/shapes.py.
 */

const ROUNDING = 1e-9;
export const UNKNOWN = 255;

/** The byte of a class; -1 is unknown. */
export function byteOf(index) {
  return index < 0 ? UNKNOWN : index;
}

/** Every position within `radius` of a line through points: the brush. */
export function drawBrush(label, { points, radius }, value) {
  const reach = (radius * (1 + ROUNDING / 2)) ** 2;
  for (let i = 0; i < Math.max(1, points.length - 1); i++) {
    const [a, b] = [points[i], points[Math.min(i + 1, points.length - 1)]];
    const [way0, way1] = [b[0] - a[0], b[1] - a[1]];
    const length = way0 * way0 + way1 * way1;
    const bounds = { low: [0, 1].map((k) => Math.min(a[k], b[k]) - radius),
      high: [0, 1].map((k) => Math.max(a[k], b[k]) + radius) };
    fillWhere(label, bounds, value, (row, column) => {
      const along = length ? ((row - a[0]) * way0 + (column - a[1]) * way1) / length : 0;
      const t = Math.min(1, Math.max(0, along));
      return (row - a[0] - t * way0) ** 2 + (column - a[1] - t * way1) ** 2 <= reach;
    });
  }
}

/** An ellipse; its border belongs to it. */
export function drawEllipse(label, { centre, radii, angle }, value) {
  const inside = (along, across) =>
    (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1 + ROUNDING;
  drawTurned(label, centre, radii, angle, value, inside);
}

/** A rectangle; its upper and left border belong to it. */
export function drawBox(label, { centre, sides, angle }, value) {
  const half = sides.map((side) => side / 2);
  const holds = (at, reach) => at + ROUNDING >= -reach && at + ROUNDING < reach;
  const inside = (along, across) => holds(along, half[0]) && holds(across, half[1]);
  drawTurned(label, centre, half, angle, value, inside);
}

function drawTurned(label, centre, half, angle, value, inside) {
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const reach = [
    Math.abs(half[0] * cos) + Math.abs(half[1] * sin) + 1,
    Math.abs(half[0] * sin) + Math.abs(half[1] * cos) + 1,
  ];
  const bounds = { low: centre.map((c, k) => c - reach[k]), high: centre.map((c, k) => c + reach[k]) };
  fillWhere(label, bounds, value, (row, column) => {
    const [down, right] = [row - centre[0], column - centre[1]];
    return inside(down * cos + right * sin, right * cos - down * sin);
  });
}

function fillWhere(label, { low, high }, value, holds) {
  const { values, rows, columns } = label;
  const [top, left] = low.map((at) => Math.max(0, Math.floor(at)));
  const [bottom, right] = [Math.min(rows - 1, Math.ceil(high[0])), Math.min(columns - 1, Math.ceil(high[1]))];
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      if (holds(row, column)) values[row * columns + column] = value;
    }
  }
}

/** What lies within rings by the even-odd rule; upper and left borders belong to it. */
export function drawPolygon(label, { rings }, value) {
  const { values, rows, columns } = label;
  const crossings = Array.from({ length: rows }, () => null);
  for (const ring of rings) {
    ring.forEach((corner, i) => cross(crossings, corner, ring[(i + 1) % ring.length], rows));
  }
  crossings.forEach((places, row) => {
    if (!places) return;
    places.sort((a, b) => a - b);
    for (let i = 0; i + 1 < places.length; i += 2) {
      const first = Math.max(0, Math.ceil(places[i]));
      const stop = Math.min(columns, Math.ceil(places[i + 1]));
      if (stop > first) values.fill(value, row * columns + first, row * columns + stop);
    }
  });
}

function cross(crossings, a, b, rows) {
  const [upper, lower] = a[0] > b[0] ? [b, a] : [a, b];
  const first = Math.max(0, Math.ceil(upper[0]));
  const stop = Math.min(rows, Math.ceil(lower[0]));
  for (let row = first; row < stop; row++) {
    const column = upper[1] + ((row - upper[0]) * (lower[1] - upper[1])) / (lower[0] - upper[0]);
    (crossings[row] ??= []).push(column);
  }
}

/** The centre of mass of what is neither background nor unknown; of the middle without any. */
export function findCentre({ values, rows, columns }) {
  let [mass, down, right] = [0, 0, 0];
  for (let i = 0; i < values.length; i++) {
    if (values[i] === 0 || values[i] === UNKNOWN) continue;
    mass += 1;
    down += Math.floor(i / columns);
    right += i % columns;
  }
  return mass ? [down / mass, right / mass] : [(rows - 1) / 2, (columns - 1) / 2];
}

/** The whole label, turned about a centre and then displaced; `outside` comes in from beyond. */
export function moveLabel(label, { displacement, angle, centre }, outside) {
  const { values, rows, columns } = label;
  const old = values.slice();
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const down = row - displacement[0] - centre[0];
      const right = column - displacement[1] - centre[1];
      const from = nearest(centre[0] + down * cos + right * sin);
      const at = nearest(centre[1] + right * cos - down * sin);
      const known = from >= 0 && from < rows && at >= 0 && at < columns;
      values[row * columns + column] = known ? old[from * columns + at] : outside;
    }
  }
}

/** Halfway between two positions is nearer to the later one, as in review/moves.py. */
function nearest(place) {
  return Math.floor(place + 0.5 + 1e-6);
}

const DRAW = { brush: drawBrush, ellipse: drawEllipse, box: drawBox, polygon: drawPolygon };

/** Applies one op to a picture or a slice, in place; `about` says which slice, and what is unknown. */
export function applyOp(label, op, about) {
  if (op.slice && about.slice && op.kind !== "move") {
    if (op.slice.axis !== about.slice.axis || op.slice.index !== about.slice.index) return;
  }
  if (op.kind in DRAW) DRAW[op.kind](label, { angle: 0, ...op }, byteOf(op.class));
  else if (op.kind === "move") applyMove(label, op, about);
  else if (op.kind === "take" && about.taken[op.what]) label.values.set(about.taken[op.what]);
  else if (op.kind === "interval") {
    label.values.fill(byteOf(op.class), Math.max(0, op.start), Math.max(0, op.stop));
  }
}

function applyMove(label, op, about) {
  const outside = about.ignore ? UNKNOWN : 0;
  if (label.rows === 1 && op.displacement.length === 1) {
    const move = { displacement: [0, op.displacement[0]], angle: 0, centre: [0, 0] };
    moveLabel(label, move, outside);
    return;
  }
  const axis = about.slice?.axis ?? null;
  const inPlane = op.displacement.filter((_, k) => k !== axis);
  const turns = axis === null || op.slice?.axis === axis;
  const centre = op.centre ?? findCentre(label);
  moveLabel(label, { displacement: inPlane, angle: turns ? op.angle ?? 0 : 0, centre }, outside);
}

/** Ops that are in force: an undo takes back the last one before it, a redo brings it again. */
export function inForce(ops) {
  const [done, undone] = [[], []];
  for (const op of ops) {
    if (op.kind === "undo") {
      if (done.length) undone.push(done.pop());
    } else if (op.kind === "redo") {
      if (undone.length) done.push(undone.pop());
    } else if (op.kind in DRAW || ["move", "take", "interval"].includes(op.kind)) {
      done.push(op);
      undone.length = 0;
    }
  }
  return done;
}
