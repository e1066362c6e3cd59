/** Where on the screen a position of the picture lies: zoom, pan, and the shape of a position. */

const LARGEST = 64;

/** Screen units are CSS pixels from the canvas' corner; a position's centre is at whole numbers. */
export class Viewport {
  constructor() {
    this.size = { width: 1, height: 1 };
    this.picture = { rows: 1, columns: 1 };
    this.aspect = [1, 1];
    this.zoom = 1;
    this.left = 0;
    this.top = 0;
    this.fitted = true;
  }

  /** Of a picture of so many rows and columns, whose positions are so high and wide. */
  show(rows, columns, spacing) {
    const same = this.picture.rows === rows && this.picture.columns === columns;
    const least = spacing ? Math.min(...spacing) : 1;
    this.picture = { rows, columns };
    this.aspect = spacing ? spacing.map((side) => side / least) : [1, 1];
    if (!same) this.fitted = true;
    if (this.fitted) this.fit();
  }

  resize(width, height) {
    this.size = { width, height };
    if (this.fitted) this.fit();
  }

  get scale() {
    return { down: this.zoom * this.aspect[0], right: this.zoom * this.aspect[1] };
  }

  fit() {
    const margin = Math.min(24, this.size.width / 20);
    const high = this.picture.rows * this.aspect[0];
    const wide = this.picture.columns * this.aspect[1];
    const room = [this.size.width - 2 * margin, this.size.height - 2 * margin];
    this.zoom = Math.max(0.01, Math.min(room[0] / wide, room[1] / high, LARGEST));
    this.left = (this.size.width - wide * this.zoom) / 2;
    this.top = (this.size.height - high * this.zoom) / 2;
    this.fitted = true;
  }

  /** Larger or smaller, so that what is at a place of the screen stays there. */
  zoomAt(x, y, factor) {
    const least = Math.min(1, this.fitZoom() / 2);
    const zoom = Math.min(LARGEST, Math.max(least, this.zoom * factor));
    this.left = x - ((x - this.left) * zoom) / this.zoom;
    this.top = y - ((y - this.top) * zoom) / this.zoom;
    this.zoom = zoom;
    this.fitted = false;
  }

  fitZoom() {
    const high = this.picture.rows * this.aspect[0];
    const wide = this.picture.columns * this.aspect[1];
    return Math.min(this.size.width / wide, this.size.height / high);
  }

  pan(right, down) {
    this.left += right;
    this.top += down;
    this.fitted = false;
  }

  /** [row, column] at a place of the screen. */
  toPicture(x, y) {
    const { down, right } = this.scale;
    return [(y - this.top) / down - 0.5, (x - this.left) / right - 0.5];
  }

  /** [x, y] of a [row, column]. */
  toScreen([row, column]) {
    const { down, right } = this.scale;
    return [(column + 0.5) * right + this.left, (row + 0.5) * down + this.top];
  }

  /** Moves the picture so that a point is in sight. */
  reveal(point) {
    const [x, y] = this.toScreen(point);
    const margin = 20;
    const over = (at, length) =>
      at < margin ? margin - at : at > length - margin ? length - margin - at : 0;
    const [right, down] = [over(x, this.size.width), over(y, this.size.height)];
    if (right || down) this.pan(right, down);
  }

  /** Lets a canvas be drawn in picture coordinates: x = column + 0.5, y = row + 0.5. */
  apply(context, density) {
    const { down, right } = this.scale;
    context.setTransform(right * density, 0, 0, down * density, this.left * density, this.top * density);
  }
}
