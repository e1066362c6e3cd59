/** Tools whose stroke is done when the pointer lets go: brush and eraser; and the polygon. */

/** Draws a line as wide as the brush; the eraser is a brush of background. */
export class Brush {
  constructor(desk, erases) {
    Object.assign(this, { desk, erases, points: null, byKey: false, value: 0, radius: 1 });
  }

  isBusy() {
    return this.points !== null;
  }

  /** A line has the class and the size that it began with, whatever a quick hand chooses meanwhile. */
  begin(point, byKey = false) {
    this.value = this.erases ? 0 : this.desk.class;
    this.radius = this.desk.radius;
    this.byKey = byKey;
    this.points = [this.meet(point)];
  }

  /** The thinnest brush goes from position to position: between four centres it would meet none. */
  meet(point) {
    return this.radius < 1 ? point.map(Math.round) : point;
  }

  down(at) {
    if (this.points) this.commit(); // a line that keys began
    this.begin(at.point);
  }

  move(at) {
    if (this.points && !this.byKey) this.extend(at.point);
  }

  extend(place) {
    const point = this.meet(place);
    const last = this.points.at(-1);
    const far = Math.hypot(point[0] - last[0], point[1] - last[1]);
    if (far >= Math.max(0.25, this.radius / 10)) this.points.push(point);
  }

  up() {
    if (this.points && !this.byKey) this.commit();
  }

  commit() {
    const points = this.points.map((point) => point.map(round));
    this.points = null;
    this.desk.draw({ kind: "brush", class: this.value, radius: this.radius, points });
  }

  cancelStroke() {
    this.points = null;
  }

  /** Enter begins and ends a line along the crosshair, Space puts one dot. */
  key(name, stage) {
    const here = stage.crosshair;
    if (name === "Escape" && this.points) this.points = null;
    else if (name === "Space" && here && !this.points) this.begin(here), this.commit();
    else if (name === "Enter" && here) {
      if (this.points) this.commit();
      else this.begin(here, true);
    } else if (name === "Step" && this.byKey && this.points) this.extend(here);
    else return false;
    return true;
  }

  paint(context, stage) {
    const { down, right } = stage.view.scale;
    if (this.points) {
      context.save();
      stage.view.apply(context, stage.density);
      context.translate(0.5, 0.5);
      context.lineWidth = this.radius * 2;
      context.lineCap = context.lineJoin = "round";
      context.globalAlpha = Math.max(0.5, stage.layers.opacity);
      context.strokeStyle = this.desk.paint(this.value);
      context.beginPath();
      this.points.forEach(([row, column], i) => context[i ? "lineTo" : "moveTo"](column, row));
      if (this.points.length === 1) context.lineTo(this.points[0][1] + 1e-3, this.points[0][0]);
      context.stroke();
      context.restore();
    }
    const at = stage.cursor ? [stage.cursor.x, stage.cursor.y] : null;
    const [x, y] = at ?? (stage.crosshair ? stage.view.toScreen(stage.crosshair) : [null, null]);
    if (x === null || stage.space) return;
    ring(context, x, y, this.desk.radius * right, this.desk.radius * down);
  }
}

function ring(context, x, y, wide, high) {
  for (const [width, colour] of [[3, "rgba(0,0,0,.55)"], [1.3, "#fff"]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.beginPath();
    context.ellipse(x, y, Math.max(1, wide), Math.max(1, high), 0, 0, 2 * Math.PI);
    context.stroke();
  }
}

function round(value) {
  return Math.round(value * 1000) / 1000;
}

/** Corners by clicks; closed by a double click, by Enter, or by a click on the first corner. */
export class Polygon {
  constructor(desk) {
    Object.assign(this, { desk, corners: [], at: null, last: 0 });
  }

  down(at, event, stage) {
    const again = event.timeStamp - this.last < 350 && this.isNear(at, this.corners.at(-1), stage);
    this.last = event.timeStamp;
    const closes = again || (this.corners.length > 2 && this.isNear(at, this.corners[0], stage));
    if (closes) this.commit();
    else this.corners.push(at.point);
  }

  isNear(at, corner, stage) {
    if (!corner) return false;
    const [x, y] = stage.view.toScreen(corner);
    return Math.hypot(x - at.x, y - at.y) < (at.touch ? 16 : 8);
  }

  move(at) {
    this.at = at.point;
  }

  commit() {
    const ring = this.corners.map((corner) => corner.map(round));
    this.corners = [];
    if (ring.length < 3) return;
    this.desk.draw({ kind: "polygon", class: this.desk.class, rings: [ring] });
  }

  cancelStroke() {
    this.corners.pop();
  }

  isBusy() {
    return this.corners.length > 0;
  }

  /** Enter puts a corner at the crosshair; there again, or without a crosshair, it closes. */
  key(name, stage) {
    const here = stage.crosshair;
    const last = this.corners.at(-1);
    if (name === "Escape" && this.corners.length) this.corners = [];
    else if (name === "Backspace" && this.corners.length) this.corners.pop();
    else if (name === "Enter" && here && !(last && last[0] === here[0] && last[1] === here[1])) {
      this.corners.push(here);
    } else if (name === "Enter" && this.corners.length) this.commit();
    else return false;
    return true;
  }

  paint(context, stage) {
    if (!this.corners.length) return;
    const ahead = stage.crosshair ?? (stage.cursor ? this.at : null);
    const points = [...this.corners, ...(ahead ? [ahead] : [])].map((c) => stage.view.toScreen(c));
    context.beginPath();
    points.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](x, y));
    context.globalAlpha = 0.25;
    context.fillStyle = this.desk.paint(this.desk.class);
    context.fill();
    context.globalAlpha = 1;
    for (const [width, colour] of [[3.5, "rgba(0,0,0,.55)"], [1.5, this.desk.paint(this.desk.class)]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.stroke();
    }
    for (const [x, y] of points.slice(0, this.corners.length)) knob(context, x, y);
  }
}

/** A handle. */
export function knob(context, x, y, round = true) {
  context.beginPath();
  if (round) context.arc(x, y, 5, 0, 2 * Math.PI);
  else context.rect(x - 4.5, y - 4.5, 9, 9);
  context.fillStyle = "#fff";
  context.strokeStyle = "rgba(0,0,0,.75)";
  context.lineWidth = 1.5;
  context.fill();
  context.stroke();
}
