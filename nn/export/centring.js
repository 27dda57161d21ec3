// What `xpnn predict` does to a picture before the network sees it, for light ink on a black sheet. Function by
// function this is `digit_images.py`, without what a scan needs: the paper's light, its noise, dark ink.
// A picture is {data, rows, columns}, its data (rows * columns,) row after row.

// To the nearest whole number, halves to the even one, as in Python.
function round(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

const clip = (value, least, most) => Math.min(Math.max(value, least), most);
const picture = (rows, columns) => ({ data: new Float32Array(rows * columns), rows, columns });
const largestOf = (data) => data.reduce((a, b) => Math.max(a, b), -Infinity);

// levels: a picture in [0, 255]. Returns (imageRows * imageColumns,) whole numbers in [0, network.largest], or null
// where there is no ink.
function centre(network, levels) {
  const [rows, columns] = network.image_shape;
  const settings = network.centring;
  const hasSpare = Math.min(levels.rows, levels.columns) >= 2 * Math.max(rows, columns);
  let ink = findInk(levels, hasSpare, settings);
  if (ink === null) return null;
  const [boxRows, boxColumns] = settings.box;
  const factorOf = () => Math.min(boxRows / ink.rows, boxColumns / ink.columns);
  if (hasSpare) ink = widen(ink, factorOf(), settings);
  const framed = frame(ink, factorOf(), rows, columns, settings);
  return Uint8Array.from(framed.data, (value) => round(round(255 * value) * (network.largest / 255)));
}

function findInk(signal, hasSpare, settings) {
  const { rows, columns } = signal;
  const smooth = hasSpare ? smoothen(signal) : signal;
  const top = largestOf(smooth.data);
  const floor = settings.min_contrast;
  if (top <= floor) return null;
  const core = withoutDust(smooth, hasSpare ? Math.max(floor, settings.edge * top) : floor, settings.dust);
  const mask = hasSpare ? dilate(dilate(core, rows, columns), rows, columns) : core;
  let masked = 0;
  for (let i = 0; i < mask.length; i += 1) if (mask[i]) masked = Math.max(masked, smooth.data[i]);
  const strong = signal.data.filter((_, i) => mask[i] && smooth.data[i] > masked / 2).sort();
  const at = 0.75 * (strong.length - 1);
  const [below, above] = [strong[Math.floor(at)], strong[Math.ceil(at)]];
  const fullInk = Math.max(below + (above - below) * (at - Math.floor(at)), top / 2);
  const ink = picture(rows, columns);
  let [first, last, left, right] = [rows, -1, columns, -1];
  for (let i = 0; i < mask.length; i += 1) {
    if (!mask[i]) continue;
    ink.data[i] = clip(signal.data[i] / fullInk, 0, 1);
    if (!core[i] || ink.data[i] <= (hasSpare ? settings.edge : 0)) continue;
    const [row, column] = [Math.floor(i / columns), i % columns];
    [first, last] = [Math.min(first, row), Math.max(last, row)];
    [left, right] = [Math.min(left, column), Math.max(right, column)];
  }
  if (last < 0) return null;
  const cropped = picture(last - first + 1, right - left + 1);
  for (let row = 0; row < cropped.rows; row += 1) {
    const start = (first + row) * columns + left;
    cropped.data.set(ink.data.subarray(start, start + cropped.columns), row * cropped.columns);
  }
  return cropped;
}

// The mean of 3 by 3 pixels; those at the border count twice.
function smoothen({ data, rows, columns }) {
  const across = picture(rows, columns);
  const smooth = picture(rows, columns);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const i = row * columns + column;
      across.data[i] = (data[i - (column > 0)] + data[i] + data[i + (column < columns - 1)]) / 3;
    }
  }
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const i = row * columns + column;
      const [above, below] = [i - columns * (row > 0), i + columns * (row < rows - 1)];
      smooth.data[i] = (across.data[above] + across.data[i] + across.data[below]) / 3;
    }
  }
  return smooth;
}

// The pixels above a threshold, without the blots (pixels that touch, corners too) of less than a share of the largest.
function withoutDust({ data, rows, columns }, threshold, dust) {
  const isOpen = new Uint8Array(data.length); // above the threshold, and of no blot yet
  for (let i = 0; i < data.length; i += 1) isOpen[i] = data[i] > threshold ? 1 : 0;
  const blots = new Int32Array(data.length); // 0 where there is none
  const waiting = new Int32Array(data.length);
  const masses = [0];
  for (let seed = 0; seed < data.length; seed += 1) {
    if (!isOpen[seed]) continue;
    const blot = masses.length;
    let mass = 0;
    let count = 1;
    [waiting[0], isOpen[seed]] = [seed, 0];
    while (count > 0) {
      count -= 1;
      const i = waiting[count];
      blots[i] = blot;
      mass += data[i];
      const column = i % columns;
      const [left, right] = [column > 0 ? -1 : 0, column < columns - 1 ? 1 : 0];
      const last = Math.min(i + columns, data.length - columns + column);
      for (let middle = i < columns ? i : i - columns; middle <= last; middle += columns) {
        for (let j = middle + left; j <= middle + right; j += 1) {
          if (!isOpen[j]) continue;
          isOpen[j] = 0;
          waiting[count] = j;
          count += 1;
        }
      }
    }
    masses.push(mass);
  }
  const least = dust * masses.reduce((a, b) => Math.max(a, b));
  const mask = new Uint8Array(data.length);
  for (let i = 0; i < mask.length; i += 1) mask[i] = blots[i] > 0 && masses[blots[i]] >= least ? 1 : 0;
  return mask;
}

// The mask, grown by the four neighbours of each of its pixels.
function dilate(mask, rows, columns) {
  return mask.map((inside, i) => {
    const column = i % columns;
    const sides = (column > 0 && mask[i - 1]) || (column < columns - 1 && mask[i + 1]);
    return inside || sides || mask[i - columns] || mask[i + columns] ? 1 : 0;
  });
}

// Strokes that scaling by `factor` would leave too thin, drawn again with a broader round pen.
function widen(ink, factor, settings) {
  const inside = distances(pad(ink, 1), (value) => !(value > 0.5)).data.filter((distance) => distance > 0);
  const width = (4 * inside.reduce((a, b) => a + b, 0)) / inside.length - 2;
  if (!(width * factor < settings.thin_stroke)) return ink;
  const reach = (settings.pen_width / factor - width) / 2;
  const wider = pad(ink, Math.ceil(reach));
  const outside = distances(wider, (value) => value > 0.5);
  wider.data.forEach((value, i) => {
    wider.data[i] = Math.max(value, clip(reach + 1 - outside.data[i], 0, 1));
  });
  return wider;
}

function pad({ data, rows, columns }, margin) {
  const wider = picture(rows + 2 * margin, columns + 2 * margin);
  for (let row = 0; row < rows; row += 1) {
    const line = data.subarray(row * columns, (row + 1) * columns);
    wider.data.set(line, (row + margin) * wider.columns + margin);
  }
  return wider;
}

// Each pixel's distance to the nearest one that is a target: parabolas over the columns, then over the rows
// (Felzenszwalb and Huttenlocher 2012, section 2).
function distances({ data, rows, columns }, isTarget) {
  const squares = new Float64Array(data.length);
  for (let i = 0; i < squares.length; i += 1) squares[i] = isTarget(data[i]) ? 0 : 1e12;
  const longest = Math.max(rows, columns);
  const room = { f: new Float64Array(longest), places: new Int32Array(longest), bounds: new Float64Array(longest + 1) };
  for (let column = 0; column < columns; column += 1) lowerEnvelope(squares, column, columns, rows, room);
  for (let row = 0; row < rows; row += 1) lowerEnvelope(squares, row * columns, 1, columns, room);
  return { data: squares.map(Math.sqrt), rows, columns };
}

// Replaces f(p) by the least f(q) + (p - q)^2, along `length` numbers that stand `step` apart. A parabola is given by
// its place q; `bounds` has where it becomes the lowest.
function lowerEnvelope(squares, start, step, length, { f, places, bounds }) {
  for (let q = 0; q < length; q += 1) f[q] = squares[start + q * step];
  [places[0], bounds[0], bounds[1]] = [0, -Infinity, Infinity];
  let last = 0;
  for (let q = 1; q < length; q += 1) {
    let bound;
    for (;;) {
      const p = places[last];
      bound = (f[q] + q * q - f[p] - p * p) / (2 * (q - p));
      if (bound > bounds[last]) break;
      last -= 1;
    }
    last += 1;
    places[last] = q;
    bounds[last] = bound;
    bounds[last + 1] = Infinity;
  }
  for (let p = 0, k = 0; p < length; p += 1) {
    while (bounds[k + 1] < p) k += 1;
    const q = places[k];
    squares[start + p * step] = f[q] + (p - q) * (p - q);
  }
}
