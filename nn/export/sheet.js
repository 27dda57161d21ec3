// The sheet that a person draws on: strokes of a pointer or of the keyboard, painted for the eye in the theme's
// colours, and for the network as light ink on black.

// Calls `onChange(isFinished)` after each change; finished is a stroke when the pen leaves the sheet.
class Sheet {
  constructor(canvas, [rows, columns], onChange) {
    Object.assign(this, { canvas, rows, columns, onChange, strokes: [], pointer: null, penWidth: 0.08 });
    this.cursor = { x: columns / 2, y: rows / 2, isDown: false, isShown: false };
    this.hidden = document.createElement("canvas");
    [this.hidden.width, this.hidden.height] = [columns, rows];
    this.context = this.hidden.getContext("2d", { willReadFrequently: true });
    canvas.style.aspectRatio = `${columns} / ${rows}`;
    canvas.style.maxWidth = `${(70 * columns) / rows}vh`; // a tall sheet is seen whole
    canvas.addEventListener("pointerdown", (event) => this.start(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.end(event));
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("blur", () => this.hideCursor());
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  get isEmpty() {
    return this.strokes.length === 0;
  }

  clear() {
    this.strokes = [];
    this.cursor.isDown = false;
    this.changed(true);
  }

  undo() {
    this.strokes.pop();
    this.cursor.isDown = false;
    this.changed(true);
  }

  changed(isFinished) {
    this.paint();
    this.onChange(isFinished);
  }

  // Where an event is, in pixels of the network's sheet.
  placeOf(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return { x: ((event.clientX - left) / width) * this.columns, y: ((event.clientY - top) / height) * this.rows };
  }

  begin(place) {
    this.strokes.push({ width: this.penWidth * Math.min(this.rows, this.columns), places: [place] });
  }

  start(event) {
    if (this.pointer !== null || (event.pointerType === "mouse" && event.button !== 0)) return;
    this.pointer = event.pointerId; // a second finger or a resting palm draws nothing
    this.canvas.setPointerCapture(event.pointerId);
    [this.cursor.isDown, this.cursor.isShown] = [false, false];
    this.begin(this.placeOf(event));
    this.changed(false);
  }

  move(event) {
    if (event.pointerId !== this.pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.strokes.at(-1).places.push(this.placeOf(each));
    this.changed(false);
  }

  end(event) {
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    this.changed(true);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { cursor } = this;
    const step = Math.min(this.rows, this.columns) / (event.shiftKey ? 56 : 14);
    const way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (way) {
      cursor.x = clip(cursor.x + way[0], 0, this.columns);
      cursor.y = clip(cursor.y + way[1], 0, this.rows);
      if (cursor.isDown) this.strokes.at(-1).places.push({ x: cursor.x, y: cursor.y });
    } else if (event.key === " " || event.key === "Enter") {
      if (event.repeat) return event.preventDefault();
      cursor.isDown = !cursor.isDown;
      if (cursor.isDown) this.begin({ x: cursor.x, y: cursor.y });
    } else if (event.key === "Escape" || event.key === "Delete") {
      return this.clear();
    } else if (event.key === "Backspace") {
      return this.undo();
    } else {
      return undefined;
    }
    event.preventDefault();
    cursor.isShown = true;
    return this.changed(!cursor.isDown);
  }

  hideCursor() {
    [this.cursor.isDown, this.cursor.isShown] = [false, false];
    this.paint();
  }

  // For the eye, at the screen's own resolution.
  paint() {
    const width = Math.round(this.canvas.clientWidth * devicePixelRatio);
    if (width === 0) return;
    const scale = width / this.columns;
    [this.canvas.width, this.canvas.height] = [width, Math.round(this.rows * scale)];
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(this.canvas);
    this.draw(context, style.color);
    if (!this.cursor.isShown) return;
    context.strokeStyle = style.outlineColor;
    context.lineWidth = this.columns / 140;
    context.beginPath();
    const radius = (this.penWidth * Math.min(this.rows, this.columns)) / 2;
    context.arc(this.cursor.x, this.cursor.y, radius + (this.cursor.isDown ? 0 : 3), 0, 2 * Math.PI);
    context.stroke();
  }

  // For the network: grey levels, (rows, columns) in [0, 255].
  levels() {
    this.context.fillStyle = "black";
    this.context.fillRect(0, 0, this.columns, this.rows);
    this.draw(this.context, "white");
    const { data } = this.context.getImageData(0, 0, this.columns, this.rows);
    const levels = picture(this.rows, this.columns);
    for (let i = 0; i < levels.data.length; i += 1) levels.data[i] = data[4 * i];
    return levels;
  }

  draw(context, colour) {
    [context.strokeStyle, context.lineCap, context.lineJoin] = [colour, "round", "round"];
    for (const { width, places } of this.strokes) {
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(places[0].x, places[0].y);
      for (const { x, y } of places) context.lineTo(x, y); // a single place gives a dot
      context.stroke();
    }
  }
}
