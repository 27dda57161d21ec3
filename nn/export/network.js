// The network: its weights out of the page's own text, and the forward pass.

const ACTIVATIONS = {
  identity: (x) => x,
  relu: (x) => Math.max(x, 0),
  leaky_relu: (x, slope) => (x > 0 ? x : slope * x),
  tanh: Math.tanh,
  sigmoid: (x) => 0.5 + 0.5 * Math.tanh(0.5 * x),
};

const OUTPUTS = {
  softmax(logits) {
    const largest = logits.reduce((a, b) => Math.max(a, b));
    const exponentials = logits.map((logit) => Math.exp(logit - largest));
    const sum = exponentials.reduce((a, b) => a + b);
    return exponentials.map((value) => value / sum);
  },
  sigmoid: (logits) => logits.map((logit) => ACTIVATIONS.sigmoid(logit)),
};

// Numbers out of base64, little-endian as every browser's machine has them.
function decode(text, dtype) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return dtype === "float64" ? new Float64Array(bytes.buffer) : new Float32Array(bytes.buffer);
}

// text: the JSON that `page.py` writes. A layer's weight is (inFeatures, outFeatures), row after row.
function readNetwork(text) {
  const network = JSON.parse(text);
  network.layers = network.layers.map(({ weight, bias }, k) => ({
    weight: decode(weight, network.dtype),
    bias: decode(bias, network.dtype),
    inFeatures: network.sizes[k],
    outFeatures: network.sizes[k + 1],
  }));
  return network;
}

// pixels: (features,), whole numbers as in the training images. Returns an array for each layer's outputs, the last
// one of them the logits, and after it the probabilities, (classes,).
function forward(network, pixels) {
  if (pixels.length !== network.sizes[0]) {
    throw new RangeError(`pixels must be ${network.sizes[0]} numbers, got ${pixels.length}`);
  }
  let x = Float64Array.from(pixels, (pixel) => pixel * network.input_scale); // (features,)
  if (!x.every(Number.isFinite)) throw new RangeError("pixels must be finite numbers");
  const activation = ACTIVATIONS[network.activation];
  const outputs = network.layers.map((layer, k) => {
    const y = Float64Array.from(layer.bias); // (outFeatures,)
    for (let i = 0; i < layer.inFeatures; i += 1) {
      if (x[i] === 0) continue; // most of a picture
      const start = i * layer.outFeatures;
      for (let j = 0; j < layer.outFeatures; j += 1) y[j] += x[i] * layer.weight[start + j];
    }
    const isLast = k === network.layers.length - 1;
    x = isLast ? y : y.map((value) => activation(value, network.leaky_slope));
    return x;
  });
  return [...outputs, OUTPUTS[network.output](x)];
}
