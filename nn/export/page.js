// The page: what is drawn goes through the network, and its answer and insides are shown.

const network = readNetwork(document.getElementById("network").textContent);
const part = (id) => document.getElementById(id);
const percent = (probability) => `${(100 * probability).toFixed(1)} %`;

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text; // never HTML: the names of the classes are the model's own
  return element;
}

// The answer

const bars = network.names.map((name) => {
  const row = make("li", "bar");
  const label = make("span", "name", name);
  label.title = name;
  const share = make("progress", "");
  share.ariaHidden = "true"; // the value says the same
  const value = make("span", "value");
  row.append(label, share, value);
  part("bars").append(row);
  return { row, share, value };
});

const MANY = 12; // more classes than fit: the most probable one comes first

// probabilities: (classes,), or null where nothing is drawn.
function showAnswer(probabilities) {
  const best = probabilities?.reduce((top, value, k) => (value > probabilities[top] ? k : top), 0);
  const chosen = network.output === "softmax" ? (k) => k === best : (k) => probabilities?.[k] > 0.5;
  bars.forEach(({ row, share, value }, k) => {
    share.value = probabilities?.[k] ?? 0;
    value.textContent = probabilities ? percent(probabilities[k]) : "–";
    row.classList.toggle("best", chosen(k));
    if (bars.length > MANY) row.style.order = probabilities ? Math.round(-1e6 * probabilities[k]) : 0;
  });
  const names = network.names.filter((_, k) => chosen(k));
  part("best").textContent = probabilities ? names.join(", ") || "none" : "?";
  part("best").classList.toggle("long", part("best").textContent.length > 3);
  const isOne = probabilities && network.output === "softmax";
  const said = isOne ? `${percent(probabilities[best])} sure` : "above one half";
  part("sure").textContent = probabilities ? said : "Draw, and the network answers.";
}

// The insides

function addLayer(title, note, grid, isPicture) {
  const figure = make("figure", "layer");
  const caption = make("figcaption", "", title);
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${title}, ${note}`);
  caption.append(make("span", "note", note));
  figure.append(caption, canvas);
  part("layers").append(figure);
  return new Cells(canvas, grid, grid.side, isPicture);
}

const [rows, columns] = network.image_shape;
const pictureGrid = { rows, columns, side: LAYER_SIDE / Math.max(rows, columns) };
const seen = addLayer("What it sees", `${rows} × ${columns}`, pictureGrid, true);
const hidden = network.layers.map((layer, k) => {
  const isLast = k === network.layers.length - 1;
  const grid = gridFor(layer.outFeatures);
  const cut = grid.shown < layer.outFeatures ? `, ${grid.shown} shown` : "";
  const title = isLast ? "Logits" : `Hidden layer ${k + 1}`;
  return addLayer(title, `${layer.outFeatures}${isLast ? "" : ` ${network.activation}`}${cut}`, grid, false);
});
const weights = new Cells(part("weights"), pictureGrid, pictureGrid.side, true);

// A unit of layer k under the pointer: its number, and for the first layer the picture that its weights make.
let outputs = network.layers.map((layer) => new Float64Array(layer.outFeatures));
let picked = null;
hidden.forEach((cells, k) => {
  const { shown } = gridFor(network.sizes[k + 1]);
  cells.makePickable(shown, (unit) => {
    picked = unit === null ? null : { k, unit };
    showPicked();
  });
});

function showPicked() {
  const isFirst = picked?.k === 0;
  part("probe").classList.toggle("shown", isFirst);
  if (picked === null) {
    [part("unit").textContent, part("activation").textContent] = ["One unit", "point at a cell: its weights"];
    return;
  }
  const { k, unit } = picked;
  const isLast = k === network.layers.length - 1;
  part("unit").textContent = isLast ? `Logit of ${network.names[unit]}` : `Unit ${unit} of layer ${k + 1}`;
  part("activation").textContent = `${outputs[k][unit].toFixed(3)}${isFirst ? ", weights:" : ""}`;
  if (!isFirst) return;
  const { weight, inFeatures, outFeatures } = network.layers[0];
  weights.show(Float64Array.from({ length: inFeatures }, (_, i) => weight[i * outFeatures + unit]));
}

// From the sheet to the answer

let [isWaiting, hasFinished] = [false, false]; // for the next frame; a stroke, and its answer is to be said

const sheet = new Sheet(part("sheet"), network.sheet_shape, (isFinished) => {
  document.body.classList.toggle("empty", sheet.isEmpty);
  for (const id of ["clear", "undo"]) part(id).disabled = sheet.isEmpty;
  if (!isWaiting) requestAnimationFrame(update); // several moves of the pen in one frame are looked at once
  isWaiting = true;
  hasFinished ||= isFinished;
});

function update() {
  isWaiting = false;
  const pixels = sheet.isEmpty ? null : centre(network, sheet.levels());
  const all = pixels && forward(network, pixels);
  const probabilities = all?.pop() ?? null;
  outputs = all ?? network.layers.map((layer) => new Float64Array(layer.outFeatures));
  showAnswer(probabilities);
  seen.show(pixels ?? new Uint8Array(rows * columns));
  hidden.forEach((cells, k) => cells.show(outputs[k]));
  showPicked();
  if (!hasFinished) return;
  part("said").textContent = probabilities ? `${part("best").textContent} ${part("sure").textContent}` : "";
  hasFinished = false;
}

part("clear").addEventListener("click", () => sheet.clear());
part("undo").addEventListener("click", () => sheet.undo());
part("pen").addEventListener("input", (event) => {
  sheet.penWidth = event.target.valueAsNumber / 100;
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const each of [sheet, seen, weights, ...hidden]) each.paint();
});
update();

// For programs, and for the tests: `pixels` are (features,) whole numbers as in the training images, `levels` a drawing
// {data, rows, columns} of light ink, [0, 255], on black.
window.xpnn = {
  predict: (pixels) => Array.from(forward(network, pixels).at(-1)), // (classes,) probabilities
  layers: (pixels) => forward(network, pixels).slice(0, -1).map((values) => Array.from(values)), // the last: logits
  centre: (levels) => {
    const pixels = centre(network, levels);
    return pixels && Array.from(pixels); // (features,), or null where there is no ink
  },
  drawing: () => sheet.levels(),
};
