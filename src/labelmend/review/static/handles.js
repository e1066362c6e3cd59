/** Tools with handles: ellipse, box, and the whole label moved and turned. */

import { findCentre } from "./rasters.js";
import { knob } from "./strokes.js";

const TURN = 26;
const CORNERS = [[-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 1], [1, -1], [1, 0], [1, 1]];
const round = (value) => Math.round(value * 1000) / 1000;

/** The two directions of a turned shape: along (its rows) and across (its columns). */
function axes(angle) {
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return { along: [cos, sin], across: [-sin, cos] };
}

function isNear([x, y], at) {
  return Math.hypot(x - at.x, y - at.y) < (at.touch ? 22 : 10);
}

/** Drawn by a drag; then handles move, resize and turn it until Enter. */
export class Figure {
  constructor(desk, kind) {
    Object.assign(this, { desk, kind, shape: null, grip: null });
  }

  isBusy() {
    return this.shape !== null;
  }

  place(local, extra = 0) {
    const { centre, half, angle } = this.shape;
    const { along, across } = axes(angle);
    const [a, b] = [local[0] * half[0] + extra, local[1] * half[1]];
    return centre.map((c, k) => c + a * along[k] + b * across[k]);
  }

  /** The handle that turns, above the shape: so many pixels away whatever the zoom. */
  turnPlace(stage) {
    return this.place([-1, 0], -TURN / stage.view.zoom);
  }

  inside(point) {
    const { centre, half, angle } = this.shape;
    const { along, across } = axes(angle);
    const away = point.map((p, k) => p - centre[k]);
    const at = [along, across].map((axis) => away[0] * axis[0] + away[1] * axis[1]);
    return Math.abs(at[0]) <= half[0] && Math.abs(at[1]) <= half[1];
  }

  down(at, event, stage) {
    if (this.shape) {
      const turns = isNear(stage.view.toScreen(this.turnPlace(stage)), at);
      const side = CORNERS.find((corner) => isNear(stage.view.toScreen(this.place(corner)), at));
      if (turns) this.grip = { does: "turn" };
      else if (side) this.grip = { does: "resize", side, anchor: this.place(side.map((s) => -s)) };
      else if (this.inside(at.point)) this.grip = { does: "move", from: at.point };
      else this.grip = { does: "leave", from: at.point, at: [at.x, at.y] };
      this.grip.before = { ...this.shape };
      return;
    }
    this.begin(at.point);
  }

  begin(point) {
    this.grip = { does: "size", from: point };
    this.shape = { centre: point, half: [0, 0], angle: 0 };
  }

  move(at) {
    if (this.grip?.does === "leave" && !isNear(this.grip.at, at)) this.leave();
    const { grip } = this;
    if (!grip || grip.does === "leave") return;
    if (grip.does === "size") this.size(grip.from, at.point, at.shift);
    else if (grip.does === "move") {
      this.shape.centre = this.shape.centre.map((c, k) => c + at.point[k] - grip.from[k]);
      grip.from = at.point;
    } else if (grip.does === "turn") this.turnTo(at.point, at.shift);
    else this.resize(grip, at.point);
  }

  /** A press beside the shape takes it and begins another, unless a second finger joins to zoom. */
  leave() {
    const { from } = this.grip;
    this.commit();
    this.begin(from);
  }

  size(from, to, even) {
    let half = from.map((a, k) => Math.abs(to[k] - a) / 2);
    if (even) half = half.map(() => Math.max(...half));
    const sign = from.map((a, k) => Math.sign(to[k] - a) || 1);
    this.shape = { centre: from.map((a, k) => a + sign[k] * half[k]), half, angle: 0 };
  }

  turnTo(point, stepwise) {
    const away = point.map((p, k) => p - this.shape.centre[k]);
    const angle = Math.atan2(-away[1], -away[0]);
    const step = Math.PI / 12;
    this.shape.angle = stepwise ? Math.round(angle / step) * step : angle;
  }

  resize({ side, anchor }, point) {
    const { along, across } = axes(this.shape.angle);
    const away = point.map((p, k) => p - anchor[k]);
    const centre = [...anchor];
    [along, across].forEach((axis, i) => {
      const length = side[i] ? Math.max(0.5, side[i] * (away[0] * axis[0] + away[1] * axis[1])) / 2 : this.shape.half[i];
      if (side[i]) this.shape.half[i] = length;
      for (const k of [0, 1]) centre[k] += side[i] * length * axis[k];
    });
    this.shape.centre = centre;
  }

  up(at, event, stage) {
    if (this.grip?.does === "leave") this.leave();
    const drawn = this.grip?.does === "size";
    this.grip = null;
    if (drawn && Math.max(...this.shape.half) * stage.view.zoom < 3) this.shape = null;
    else if (this.shape) this.shape.half = this.shape.half.map((half) => Math.max(half, 0.5));
  }

  cancelStroke() {
    if (this.grip?.does === "size") this.shape = null;
    else if (this.grip?.before) this.shape = this.grip.before;
    this.grip = null;
  }

  commit() {
    const { centre, half, angle } = this.shape;
    this.shape = this.grip = null;
    const what = { kind: this.kind, class: this.desk.class, centre: centre.map(round), angle };
    if (this.kind === "ellipse") this.desk.draw({ ...what, radii: half.map(round) });
    else this.desk.draw({ ...what, sides: half.map((length) => round(2 * length)) });
  }

  /** Enter begins at the crosshair, ends the drag, and then takes the shape as it is. */
  key(name, stage, step) {
    const sizing = this.grip?.does === "keys";
    if (name === "Escape" && this.shape) this.shape = this.grip = null;
    else if (name === "Enter" && sizing) this.grip = null;
    else if (name === "Enter" && this.shape) this.commit();
    else if (name === "Enter" && stage.crosshair) {
      this.begin(stage.crosshair);
      this.shape.half = [0.5, 0.5];
      this.grip = { does: "keys", from: stage.crosshair };
    } else if (name === "Step" && sizing) {
      const from = this.grip.from;
      const to = stage.crosshair;
      const [low, high] = [0, 1].reduce(([l, h], k) => [[...l, Math.min(from[k], to[k]) - 0.5],
        [...h, Math.max(from[k], to[k]) + 0.5]], [[], []]);
      this.size(low, high, false);
    } else if (name === "Step" && this.shape) this.nudge(step);
    else if ((name === "," || name === ".") && this.shape) {
      this.shape.angle += ((name === "." ? 1 : -1) * Math.PI) / 36;
    } else return false;
    return true;
  }

  /** Arrow keys: moved by a position; with Shift, larger or smaller. */
  nudge({ way, shift }) {
    if (shift) this.shape.half = this.shape.half.map((half, k) => Math.max(0.5, half + way[k] / 2));
    else this.shape.centre = this.shape.centre.map((c, k) => c + way[k]);
  }

  outline(stage) {
    if (this.kind === "box") {
      return [[-1, -1], [-1, 1], [1, 1], [1, -1]].map((corner) => stage.view.toScreen(this.place(corner)));
    }
    const turn = (i) => (2 * Math.PI * i) / 72;
    return Array.from({ length: 72 }, (_, i) =>
      stage.view.toScreen(this.place([Math.cos(turn(i)), Math.sin(turn(i))])));
  }

  paint(context, stage) {
    if (!this.shape) return;
    const colour = this.desk.paint(this.desk.class);
    outline(context, this.outline(stage), colour);
    if (this.grip?.does === "size") return;
    spoke(context, stage.view.toScreen(this.place([-1, 0])), stage.view.toScreen(this.turnPlace(stage)));
    for (const corner of CORNERS) knob(context, ...stage.view.toScreen(this.place(corner)), false);
  }
}

function outline(context, points, colour) {
  context.beginPath();
  points.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](x, y));
  context.closePath();
  context.globalAlpha = 0.3;
  context.fillStyle = colour;
  context.fill();
  context.globalAlpha = 1;
  for (const [width, ink] of [[3.5, "rgba(0,0,0,.55)"], [1.5, colour]]) {
    context.lineWidth = width;
    context.strokeStyle = ink;
    context.stroke();
  }
}

function spoke(context, from, to) {
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.lineWidth = 1.5;
  context.strokeStyle = "#fff";
  context.stroke();
  knob(context, ...to);
}

/** Drags and turns the whole label; Enter, or another tool, puts it down. */
export class Mover {
  constructor(desk) {
    Object.assign(this, { desk, by: null, angle: 0, centre: null, grip: null });
  }

  get hides() {
    return this.by ? "label" : null;
  }

  isBusy() {
    return this.by !== null;
  }

  begin(stage) {
    if (this.by || !stage.labels.label) return;
    this.by = [0, 0];
    this.angle = 0;
    this.centre = findCentre(stage.labels.label);
  }

  middle() {
    return this.centre.map((c, k) => c + this.by[k]);
  }

  turnPlace(stage) {
    const away = (TURN * 2.5) / stage.view.zoom;
    const { along } = axes(this.angle);
    return this.middle().map((c, k) => c - away * along[k]);
  }

  down(at, event, stage) {
    const idle = this.by === null;
    this.begin(stage);
    if (!this.by) return;
    const turns = isNear(stage.view.toScreen(this.turnPlace(stage)), at);
    const before = idle ? { by: null, angle: 0 } : { by: this.by, angle: this.angle };
    this.grip = { does: turns ? "turn" : "move", from: at.point, before };
  }

  move(at) {
    if (!this.grip) return;
    if (this.grip.does === "move") {
      this.by = this.by.map((b, k) => b + at.point[k] - this.grip.from[k]);
      this.grip.from = at.point;
      return;
    }
    const away = at.point.map((p, k) => p - this.middle()[k]);
    const angle = Math.atan2(-away[1], -away[0]);
    const step = Math.PI / 12;
    this.angle = at.shift ? Math.round(angle / step) * step : angle;
  }

  up() {
    this.grip = null;
  }

  /** A second finger zooms: what the first one did meanwhile is taken back, and no more. */
  cancelStroke() {
    if (this.grip) Object.assign(this, this.grip.before);
    this.grip = null;
  }

  commit() {
    const displacement = this.by.map(Math.round);
    const { angle, centre } = this;
    this.by = this.grip = null;
    // The centre goes with the angle: that of a whole volume is not what its slice was turned about.
    if (displacement.some((d) => d !== 0) || angle) this.desk.moveBy(displacement, angle ? { angle, centre } : {});
  }

  key(name, stage, step) {
    if (name === "Escape" && this.by) this.by = this.grip = null;
    else if (name === "Enter" && this.by) this.commit();
    else if (name === "Step") {
      this.begin(stage);
      if (this.by) this.by = this.by.map((b, k) => b + step.way[k] * (step.shift ? 10 : 1));
    } else if (name === "," || name === ".") {
      this.begin(stage);
      this.angle += ((name === "." ? 1 : -1) * Math.PI) / 36;
    } else return false;
    return true;
  }

  paint(context, stage) {
    const label = stage.labels.label;
    if (!label) return;
    if (!this.by) {
      this.centre = null;
      return;
    }
    context.save();
    stage.view.apply(context, stage.density);
    const [row, column] = this.centre;
    context.translate(column + 0.5 + Math.round(this.by[1]), row + 0.5 + Math.round(this.by[0]));
    // Angles go from the rows to the columns; on a canvas, where y is down, that is the other way.
    context.rotate(-this.angle);
    context.translate(-column - 0.5, -row - 0.5);
    context.imageSmoothingEnabled = false;
    context.globalAlpha = Math.max(0.5, stage.layers.opacity);
    context.drawImage(stage.picture(label), 0, 0);
    context.globalAlpha = 1;
    context.lineWidth = 1.5 / Math.sqrt(stage.view.scale.down * stage.view.scale.right);
    for (const [value, paths] of stage.contours.of(label) ?? []) {
      context.strokeStyle = stage.palette.solid(value);
      for (const path of paths) context.stroke(path);
    }
    context.restore();
    const middle = stage.view.toScreen(this.middle());
    spoke(context, middle, stage.view.toScreen(this.turnPlace(stage)));
    knob(context, ...middle, false);
  }
}
