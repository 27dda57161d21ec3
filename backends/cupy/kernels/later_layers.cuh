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

// The whole way. weights(l) gives a layer's; of the ROWS rows `valid` are in the batch; put is that of losses_of.
template <int ROWS, class Weights, class Put>
__device__ __forceinline__ void through_later_layers(
    REAL* values, REAL* grads, const Weights& weights, int valid, const Targets& targets, const Put& put) {
    for (int l = FIRST_LATER; l <= LAYERS; ++l) {
        const int inputs = SIZES[l - 1], outputs = SIZES[l];
        const LayerWeights w = weights(l);
        REAL* y = values + at(l, ROWS);  // (ROWS, outputs)
        rows_product(
            values + at(l - 1, ROWS), ROWS, inputs, outputs, 1, w,
            [&](int row, int j, REAL z) { y[row * outputs + j] = activation(l, z + w(inputs, j)); });
    }
    losses_of(values + at(LAYERS, ROWS), grads + at(LAYERS, ROWS), ROWS, valid, targets, put);
    __syncthreads();
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
