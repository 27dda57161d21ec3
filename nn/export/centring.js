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
const smoothen = (levels) => transpose(meanAcross(transpose(meanAcross(levels))));

// The mean of each pixel and its neighbours in the row.
function meanAcross({ data, rows, columns }) {
  const mean = picture(rows, columns);
  data.forEach((value, i) => {
    const column = i % columns;
    mean.data[i] = (data[i - (column > 0)] + value + data[i + (column < columns - 1)]) / 3;
  });
  return mean;
}

// The pixels above a threshold, without the blots (pixels that touch, corners too) of less than a share of the largest.
function withoutDust({ data, columns }, threshold, dust) {
  const blots = new Int32Array(data.length); // 0 where there is none
  const masses = [0];
  const waiting = [];
  const reach = (i) => {
    if (!(data[i] > threshold) || blots[i] > 0) return;
    blots[i] = masses.length;
    waiting.push(i);
  };
  for (let seed = 0; seed < data.length; seed += 1) {
    reach(seed);
    let mass = 0;
    while (waiting.length > 0) {
      const i = waiting.pop();
      mass += data[i];
      for (const middle of [i - columns, i, i + columns]) {
        if (i % columns > 0) reach(middle - 1);
        reach(middle);
        if (i % columns < columns - 1) reach(middle + 1);
      }
    }
    if (mass > 0) masses.push(mass);
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
  const inside = distances(pad(ink, 1), (value) => !(value > 0.5)).filter((distance) => distance > 0);
  const width = (4 * inside.reduce((a, b) => a + b, 0)) / inside.length - 2;
  if (!(width * factor < settings.thin_stroke)) return ink;
  const reach = (settings.pen_width / factor - width) / 2;
  const wider = pad(ink, Math.ceil(reach));
  const outside = distances(wider, (value) => value > 0.5, reach + 1);
  wider.data.forEach((value, i) => {
    wider.data[i] = Math.max(value, clip(reach + 1 - outside[i], 0, 1));
  });
  return wider;
}

const pad = (ink, margin) => paste(ink, picture(ink.rows + 2 * margin, ink.columns + 2 * margin), margin, margin);

// Copies a picture onto a larger sheet, with its corner at (top, left).
function paste(content, sheet, top, left) {
  for (let row = 0; row < content.rows; row += 1) {
    const line = content.data.subarray(row * content.columns, (row + 1) * content.columns);
    sheet.data.set(line, (top + row) * sheet.columns + left);
  }
  return sheet;
}

// Each pixel's distance to the nearest target, at most `farthest`, (rows * columns,): down the columns, then across.
function distances({ data, columns }, isTarget, farthest = Infinity) {
  const down = new Float64Array(data).map((value) => (isTarget(value) ? 0 : Infinity));
  for (let i = columns; i < data.length; i += 1) down[i] = Math.min(down[i], down[i - columns] + 1);
  for (let i = data.length - columns - 1; i >= 0; i -= 1) down[i] = Math.min(down[i], down[i + columns] + 1);
  return down.map((distance, i) => {
    const column = i % columns;
    let square = Math.min(distance, farthest) ** 2;
    for (let step = 1; step * step < square && step < columns; step += 1) {
      const left = step <= column ? down[i - step] : Infinity;
      const right = column + step < columns ? down[i + step] : Infinity;
      square = Math.min(square, step * step + Math.min(left, right) ** 2);
    }
    return Math.sqrt(square);
  });
}
