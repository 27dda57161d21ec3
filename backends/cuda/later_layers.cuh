// Forward through the layers from FIRST_LATER on, loss, and backward to the input of FIRST_LATER, for a few rows whose
// numbers all lie in shared memory. With FIRST_LATER = LAYERS + 1 it is the loss alone.
//
// Of ROWS rows, `values` holds the outputs and `grads` the gradients with respect to the sums before the activation, of
// layers FIRST_LATER - 1 to LAYERS: layer l from number at(l, ROWS) on, (ROWS, SIZES[l]). The outputs of FIRST_LATER - 1
// must be there.
#pragma once

__device__ __forceinline__ int at(int l, int rows) { return (OUTPUT_AT[l] - OUTPUT_AT[FIRST_LATER - 1]) * rows; }

// A layer's parameters, (inputs + 1, outputs): the last row is the bias.
struct LayerWeights {
    const REAL* numbers;
    int stride;     // from row to row
    bool is_shared;  // on chip, with an odd stride: threads may read a column as fast as a row

    __device__ __forceinline__ REAL operator()(int i, int j) const { return numbers[i * stride + j]; }
};

// The sum over the first `lanes` lanes of each group of them, a power of two, in each of them.
template <class T>
__device__ __forceinline__ T sum_over(T x, int lanes) {
    for (int lane = 1; lane < lanes; lane *= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, lane);
    return x;
}

// put(row, j, sum over i < depth of x(row, i) w(i, j)) for each row of x (rows, depth) and j < columns. At least `lanes`
// threads of a warp share a sum, and more where there are fewer sums than threads, always in the same way.
template <class Weight, class Put>
__device__ __forceinline__ void rows_product(
    const REAL* x, int rows, int depth, int columns, int lanes, const Weight& w, const Put& put) {
    const int results = rows * columns, threads = blockDim.x;
    while (lanes < 32 && 2 * lanes * results <= threads) lanes *= 2;
    for (int first = 0; first < results; first += threads / lanes) {
        const int result = first + threadIdx.x / lanes, row = result / columns, j = result % columns;
        REAL sum = 0;
        if (result < results) {
#pragma unroll 8
            for (int i = threadIdx.x % lanes; i < depth; i += lanes) sum += x[row * depth + i] * w(i, j);
        }
        sum = sum_over(sum, lanes);
        if (result < results && threadIdx.x % lanes == 0) put(row, j, sum);
    }
    __syncthreads();
}

// e^(a - b) for a up to b. The difference d is rounded, at -80 by up to 4e-6 in float32, and e^d is wrong by as large a
// part of it. What was rounded off is found by the operations of TwoSum (Knuth 1998, section 4.2.2, theorem B), and
// e^(d + rest) is e^d (1 + rest) to a rounding.
__device__ __forceinline__ REAL exp_of_difference(REAL a, REAL b) {
    const REAL d = a - b, was_b = a - d, rest = (a - (d + was_b)) - (b - was_b), e = exp(d);
    return e > 0 ? e + e * rest : e;  // far below it is 0, whatever the rest; and a NaN stays one
}

// Softmax, its cross-entropy with the labels, and the gradient of the mean loss: logits and grad (rows, classes), a warp
// for each row. put(row, loss, is_correct) is called by one thread for each row below `valid`; the gradient of the others
// is 0. Right to a few roundings for all finite logits, but that terms of the sum that are no normal numbers may count as
// 0, and a loss too large for a REAL is infinite. Source: Bishop 2006, section 4.3.4; for the way that it is computed, see
// log_softmax in backends/losses.py.
template <class Label, class Put>
__device__ __forceinline__ void softmax_cross_entropy(
    const REAL* logits, REAL* grad, int rows, int valid, int batch_size, const Label& label, const Put& put) {
    const int classes = SIZES[LAYERS], lane = threadIdx.x % 32;
    for (int row = threadIdx.x / 32; row < rows; row += blockDim.x / 32) {
        const REAL* z = logits + row * classes;
        int best = lane < classes ? lane : 0;  // the first of the largest
        for (int j = lane + 32; j < classes; j += 32)
            if (z[j] > z[best]) best = j;
        for (int other = 1; other < 32; other *= 2) {
            const int candidate = __shfl_xor_sync(0xFFFFFFFFu, best, other);
            if (z[candidate] > z[best] || (z[candidate] == z[best] && candidate < best)) best = candidate;
        }
        REAL rest = 0;  // sum of e^(z - max) of all but the best, whose own is 1: beside it a small rest would be lost
        for (int j = lane; j < classes; j += 32) {
            const REAL e = exp_of_difference(z[j], z[best]);
            grad[row * classes + j] = e;
            rest += j == best ? REAL(0) : e;
        }
        rest = sum_over(rest, 32);
        const REAL total = (1 + rest) * REAL(batch_size);
        const int wanted = row < valid ? label(row) : -1;
        for (int j = lane; j < classes; j += 32) {
            const REAL e = grad[row * classes + j];
            grad[row * classes + j] = row < valid ? (j == wanted ? (e - 1) - rest : e) / total : REAL(0);
        }
        if (lane == 0 && row < valid) put(row, (z[best] - z[wanted]) + log1p(rest), best == wanted);
    }
    __syncthreads();
}

// The whole way. weights(l) gives a layer's; of the ROWS rows `valid` are in the batch of `batch_size`.
template <int ROWS, class Weights, class Label, class Put>
__device__ __forceinline__ void through_later_layers(
    REAL* values, REAL* grads, const Weights& weights, int valid, int batch_size, const Label& label, const Put& put) {
    for (int l = FIRST_LATER; l <= LAYERS; ++l) {
        const int inputs = SIZES[l - 1], outputs = SIZES[l];
        const LayerWeights w = weights(l);
        REAL* y = values + at(l, ROWS);  // (ROWS, outputs)
        rows_product(
            values + at(l - 1, ROWS), ROWS, inputs, outputs, 1, w,
            [&](int row, int j, REAL z) { y[row * outputs + j] = activation(l, z + w(inputs, j)); });
    }
    softmax_cross_entropy(
        values + at(LAYERS, ROWS), grads + at(LAYERS, ROWS), ROWS, valid, batch_size, label, put);
    for (int l = LAYERS; l >= FIRST_LATER; --l) {
        const int inputs = SIZES[l - 1], outputs = SIZES[l];
        const LayerWeights w = weights(l);
        const REAL* y = values + at(l - 1, ROWS);  // (ROWS, inputs)
        REAL* grad = grads + at(l - 1, ROWS);      // (ROWS, inputs)
        int lanes = 1;  // neighbouring threads read neighbouring numbers of a row of the weights, if that matters
        while (!w.is_shared && lanes < 32 && 2 * lanes <= outputs) lanes *= 2;
        rows_product(
            grads + at(l, ROWS), ROWS, outputs, inputs, lanes, [&](int j, int i) { return w(i, j); },
            [&](int row, int i, REAL grad_y) {
                grad[row * inputs + i] = activation_backward(grad_y, y[row * inputs + i]);
            });
    }
}
