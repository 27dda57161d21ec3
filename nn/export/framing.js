// The last steps of the centring: scaling the ink, and placing it by its centre of mass. See `digit_images.py`.

// The ink scaled into the box, in the middle of a black frame as far as the frame allows, (rows, columns) in [0, 1].
function frame(ink, factor, rows, columns, settings) {
  let framed;
  if (Math.min(rows, columns) >= settings.small_side) {
    const [height, width] = [round(ink.rows * factor), round(ink.columns * factor)];
    framed = place(resize(ink, height, width), rows, columns, rows / 2, columns / 2);
  } else {
    const height = Math.max(round(rows / factor), ink.rows);
    const width = Math.max(round(columns / factor), ink.columns);
    framed = resize(place(ink, height, width, (height - 1) / 2, (width - 1) / 2), rows, columns);
  }
  const strongest = largestOf(framed.data);
  return { ...framed, data: framed.data.map((value) => clip(value / strongest, 0, 1)) };
}

// The content on a black sheet of (rows, columns), its centre of mass at most half a pixel from the middle.
function place(content, rows, columns, middleRow, middleColumn) {
  let [sum, down, across] = [0, 0, 0];
  content.data.forEach((value, i) => {
    sum += value;
    down += value * Math.floor(i / content.columns);
    across += value * (i % content.columns);
  });
  const top = clip(Math.ceil(middleRow - down / sum - 0.5), 0, rows - content.rows);
  const left = clip(Math.ceil(middleColumn - across / sum - 0.5), 0, columns - content.columns);
  return paste(content, picture(rows, columns), top, left);
}

// The picture in another size, as Pillow scales it: the mean of the covered area, or Lanczos when it grows.
function resize(levels, rows, columns) {
  const [height, width] = [Math.max(1, rows), Math.max(1, columns)];
  const filter = height <= levels.rows ? BOX : LANCZOS;
  const turned = transpose(resizeRows(transpose(levels), width, filter)); // the columns first
  return resizeRows(turned, height, filter);
}

const BOX = { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };
const LANCZOS = { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) };
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

function transpose({ data, rows, columns }) {
  const turned = picture(columns, rows);
  data.forEach((value, i) => {
    turned.data[(i % columns) * rows + Math.floor(i / columns)] = value;
  });
  return turned;
}

// As many rows as asked for, each a weighted mean of those that the filter covers.
function resizeRows(levels, rows, filter) {
  if (rows === levels.rows) return levels;
  const { columns } = levels;
  const scale = levels.rows / rows;
  const stretch = Math.max(scale, 1); // of the filter, when the picture shrinks
  const resized = picture(rows, columns);
  for (let row = 0; row < rows; row += 1) {
    const middle = (row + 0.5) * scale;
    const first = Math.max(Math.trunc(middle - filter.support * stretch + 0.5), 0);
    const end = Math.min(Math.trunc(middle + filter.support * stretch + 0.5), levels.rows);
    const weights = Array.from({ length: end - first }, (_, k) => filter.weight((k + first - middle + 0.5) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0);
    for (let column = 0; column < columns; column += 1) {
      let mean = 0;
      for (let k = 0; k < weights.length; k += 1) {
        mean += levels.data[(first + k) * columns + column] * (weights[k] / sum);
      }
      resized.data[row * columns + column] = mean;
    }
  }
  return resized;
}
