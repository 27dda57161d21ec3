// Forward through the layers from FIRST_LATER on, loss, and backward to the input of FIRST_LATER, for a few rows whose
// numbers all lie in shared memory. With FIRST_LATER = LAYERS + 1 it is the loss alone.
//
// Of ROWS rows, `values` holds the outputs and `grads` the gradients with respect to the sums before the activation, of
// layers FIRST_LATER - 1 to LAYERS: layer l from number at(l, ROWS) on, (ROWS, SIZES[l]). The outputs of FIRST_LATER - 1
// must be there. `partial` has a number for each thread.
#pragma once

constexpr int LANES = 32;  // of threads at most that share a sum

__device__ __forceinline__ int at(int l, int rows) { return (OUTPUT_AT[l] - OUTPUT_AT[FIRST_LATER - 1]) * rows; }

// put(row, j, sum over i < depth of x(row, i) w(i, j)) for each row of x (rows, depth) and j < columns. Where there are
// fewer results than threads, several threads share a sum, always in the same way.
template <class Weight, class Put>
__device__ __forceinline__ void rows_product(const REAL* x, int rows, int depth, int columns, REAL* partial, const Weight& w, const Put& put) {
    const int results = rows * columns, thread = threadIdx.x, threads = blockDim.x;
    int lanes = 1;
    while (lanes < LANES && 2 * lanes * results <= threads) lanes *= 2;
    for (int first = 0; first < results; first += threads / lanes) {
        const int result = first + thread / lanes, row = result / columns, j = result % columns;
        REAL sum = 0;
        if (result < results) {
#pragma unroll 8
            for (int i = thread % lanes; i < depth; i += lanes) sum += x[row * depth + i] * w(i, j);
        }
        if (lanes > 1) {
            partial[thread] = sum;
            __syncthreads();
            if (thread % lanes == 0)
                for (int lane = 1; lane < lanes; ++lane) sum += partial[thread + lane];
        }
        if (result < results && thread % lanes == 0) put(row, j, sum);
        __syncthreads();
    }
}

// Softmax, its cross-entropy with the labels, and the gradient of the mean loss: logits and grad (rows, classes). Each
// row is done by LANES threads. put(row, loss, is_correct) is called by one thread for each row below `valid`; the
// gradient of the others is 0. Source: Bishop 2006, section 4.3.4; the shift by the maximum as in backends/losses.py.
template <class Label, class Put>
__device__ __forceinline__ void softmax_cross_entropy(const REAL* logits, REAL* grad, int rows, int valid, int batch_size, REAL* partial, const Label& label, const Put& put) {
    const int classes = SIZES[LAYERS], thread = threadIdx.x, lane = thread % LANES, base = thread - lane;
    for (int first = 0; first < rows; first += blockDim.x / LANES) {
        const int row = first + thread / LANES;
        const bool is_here = row < rows;
        const REAL* z = logits + row * classes;
        int best = lane < classes ? lane : 0;  // the first of the largest
        if (is_here)
            for (int j = lane + LANES; j < classes; j += LANES)
                if (z[j] > z[best]) best = j;
        partial[thread] = REAL(best);  // classes are far below 2^24
        __syncthreads();
        best = int(partial[base]);
        for (int other = 1; is_here && other < LANES; ++other) {
            const int candidate = int(partial[base + other]);
            if (z[candidate] > z[best] || (z[candidate] == z[best] && candidate < best)) best = candidate;
        }
        __syncthreads();
        const REAL largest = is_here ? z[best] : REAL(0);
        REAL sum = 0;
        if (is_here)
            for (int j = lane; j < classes; j += LANES) sum += exp(z[j] - largest);
        partial[thread] = sum;
        __syncthreads();
        sum = 0;
        for (int other = 0; other < LANES; ++other) sum += partial[base + other];
        const REAL log_sum = log(sum);
        if (is_here) {
            const int wanted = row < valid ? label(row) : -1;
            for (int j = lane; j < classes; j += LANES) {
                const REAL probability = exp(z[j] - largest - log_sum);
                grad[row * classes + j] = row < valid ? (probability - REAL(j == wanted)) / REAL(batch_size) : REAL(0);
            }
            if (lane == 0 && row < valid) put(row, -(z[wanted] - largest - log_sum), best == wanted);
        }
        __syncthreads();
    }
}

// The whole way. `parameters` are the network's; of the ROWS rows `valid` are in the batch of `batch_size`.
template <int ROWS, class Label, class Put>
__device__ __forceinline__ void through_later_layers(REAL* values, REAL* grads, REAL* partial, const REAL* parameters, int valid, int batch_size, const Label& label, const Put& put) {
    for (int l = FIRST_LATER; l <= LAYERS; ++l) {
        const int inputs = SIZES[l - 1], outputs = SIZES[l];
        const REAL* weight = parameters + WEIGHT_AT[l - 1];  // (inputs + 1, outputs)
        REAL* y = values + at(l, ROWS);
        rows_product(
            values + at(l - 1, ROWS), ROWS, inputs, outputs, partial,
            [&](int i, int j) { return weight[i * outputs + j]; },
            [&](int row, int j, REAL z) { y[row * outputs + j] = activation(l, z + weight[inputs * outputs + j]); });
    }
    softmax_cross_entropy(values + at(LAYERS, ROWS), grads + at(LAYERS, ROWS), ROWS, valid, batch_size, partial, label, put);
    for (int l = LAYERS; l >= FIRST_LATER; --l) {
        const int inputs = SIZES[l - 1], outputs = SIZES[l];
        const REAL* weight = parameters + WEIGHT_AT[l - 1];
        const REAL* y = values + at(l - 1, ROWS);
        REAL* grad = grads + at(l - 1, ROWS);
        rows_product(
            grads + at(l, ROWS), ROWS, outputs, inputs, partial,
            [&](int j, int i) { return weight[i * outputs + j]; },
            [&](int row, int i, REAL grad_y) {
                grad[row * inputs + i] = activation_backward(grad_y, y[row * inputs + i]);
            });
    }
}
