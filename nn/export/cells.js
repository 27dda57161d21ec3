// A layer's numbers as a grid of cells: positive ones in one colour, negative ones in another, zero faint.

const LAYER_SIDE = 168; // CSS pixels that a layer is about wide
const MOST_CELLS = 4096; // of a layer; more would be specks

class Cells {
  // grid: {rows, columns} of the cells; side: of a cell, CSS pixels; the cells of a picture touch.
  constructor(canvas, { rows, columns }, side, isPicture = false) {
    Object.assign(this, { canvas, rows, columns, side, gap: isPicture || side < 4 ? 0 : 1, isPicture });
    this.values = new Float64Array(rows * columns);
    this.picked = null;
    canvas.style.width = `${columns * side}px`;
    canvas.style.aspectRatio = `${columns} / ${rows}`;
    this.paint();
  }

  show(values) {
    this.values = values;
    this.paint();
  }

  paint() {
    const side = Math.max(1, Math.round(this.side * devicePixelRatio));
    [this.canvas.width, this.canvas.height] = [this.columns * side, this.rows * side];
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    const [positive, negative, zero] = ["--positive", "--negative", "--zero"].map((name) =>
      style.getPropertyValue(name).trim().split(" ").map(Number),
    );
    const count = Math.min(this.values.length, this.rows * this.columns);
    let largest = 0;
    for (let i = 0; i < count; i += 1) largest = Math.max(largest, Math.abs(this.values[i]));
    const gap = this.gap * Math.round(devicePixelRatio);
    for (let i = 0; i < count; i += 1) {
      const share = largest > 0 ? Math.abs(this.values[i]) / largest : 0;
      const full = this.values[i] < 0 ? negative : positive;
      context.fillStyle = `rgb(${zero.map((from, k) => Math.round(from + (full[k] - from) * share)).join(" ")})`;
      context.fillRect((i % this.columns) * side, Math.floor(i / this.columns) * side, side - gap, side - gap);
    }
    if (this.picked === null) return;
    context.strokeStyle = style.color;
    context.lineWidth = Math.max(2, side / 6);
    const [x, y] = [(this.picked % this.columns) * side, Math.floor(this.picked / this.columns) * side];
    context.strokeRect(x, y, side - gap, side - gap);
  }

  // Calls `onPick(unit)` with the cell under the pointer, or where the arrow keys are, and `onPick(null)` after it.
  makePickable(count, onPick) {
    const pick = (unit) => {
      this.picked = unit;
      this.paint();
      onPick(unit);
    };
    const point = (event) => {
      const { left, top, width, height } = this.canvas.getBoundingClientRect();
      const column = Math.floor(((event.clientX - left) / width) * this.columns);
      const unit = Math.floor(((event.clientY - top) / height) * this.rows) * this.columns + column;
      if (unit >= 0 && unit < count && unit !== this.picked) pick(unit);
    };
    this.canvas.tabIndex = 0;
    this.canvas.addEventListener("pointermove", point);
    this.canvas.addEventListener("pointerdown", point);
    this.canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") pick(null); // what a finger has picked stays
    });
    this.canvas.addEventListener("blur", () => pick(null));
    this.canvas.addEventListener("focus", () => this.picked ?? pick(0));
    this.canvas.addEventListener("keydown", (event) => {
      const { columns } = this;
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const unit = (this.picked ?? 0) + step;
      if (unit >= 0 && unit < count) pick(unit);
    });
  }
}

// A grid that is about square, and a side for its cells that lets it be seen.
function gridFor(count) {
  const shown = Math.min(count, MOST_CELLS);
  const columns = shown <= 12 ? Math.min(shown, 5) : Math.ceil(Math.sqrt(shown));
  const side = Math.min(Math.max(Math.floor(LAYER_SIDE / columns), 3), 32);
  return { shown, side, rows: Math.ceil(shown / columns), columns };
}
