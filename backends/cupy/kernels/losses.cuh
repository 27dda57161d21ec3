// The losses, as backends/losses.py has them, and their gradients.
//
//   LOSS       one of the functions here
//   LOSS_PARAMETER   delta of `huber`, level of `quantile`
//   LABEL      type of its labels
//   LABELS     labels of a row: one, its class, or as many as there are outputs
//   WEIGHTED   whether rows have weights
//
// A loss is of one row, and all threads of a warp go through it: from the row's outputs (outputs,) and labels (LABELS,)
// comes grad (outputs,), the gradient of the mean loss, which is the gradient of the row's divided by `divisor`.
#pragma once

// What rows should give, by their places in a tile.
struct Targets {
    const LABEL* labels;     // (samples, LABELS)
    const float64* weights;  // (samples,); not read where rows have none
    const int* order;        // which samples the tile's rows are
    int batch_size;          // rows of the whole step
    float64 batch_weight;    // and the sum of their weights

    __device__ __forceinline__ const LABEL* of(int row) const { return labels + int64(order[row]) * LABELS; }
#if WEIGHTED
    // Of a row that weighs nothing it is infinite, and the gradient 0.
    __device__ __forceinline__ float64 divisor(int row) const { return batch_weight / weights[order[row]]; }
    __device__ __forceinline__ float64 weighted(int row, float64 loss) const { return loss * weights[order[row]]; }
#else
    __device__ __forceinline__ int divisor(int) const { return batch_size; }
    __device__ __forceinline__ float64 weighted(int, float64 loss) const { return loss; }
#endif
};

struct RowLoss {
    float64 loss;  // nats, or half a squared distance
    bool is_correct;
};

// e^(a - b) for a up to b. The difference d is rounded, at -80 by up to 4e-6 in float32, and e^d is wrong by as large a
// part of it. What was rounded off is found by the operations of TwoSum (Knuth 1998, section 4.2.2, theorem B), and
// e^(d + rest) is e^d (1 + rest) to a rounding.
__device__ __forceinline__ REAL exp_of_difference(REAL a, REAL b) {
    const REAL d = a - b, was_b = a - d, rest = (a - (d + was_b)) - (b - was_b), e = exp(d);
    return e > 0 ? e + e * rest : e;  // far below it is 0, whatever the rest; and a NaN stays one
}

// Right to a few roundings for all finite logits, but that terms of the sum that are no normal numbers may count as 0,
// and a loss too large for a REAL is infinite. Source: Bishop 2006, section 4.3.4; for the way that it is computed, see
// log_softmax in backends/losses.py.
template <class Divisor>
__device__ __forceinline__ RowLoss softmax_cross_entropy(
    const REAL* z, int outputs, const LABEL* label, Divisor divisor, REAL* grad) {
    const int lane = threadIdx.x % 32, wanted = int(*label);
    int best = lane < outputs ? lane : 0;  // the first of the largest
    for (int j = lane + 32; j < outputs; j += 32)
        if (z[j] > z[best]) best = j;
    for (int other = 1; other < 32; other *= 2) {
        const int candidate = __shfl_xor_sync(0xFFFFFFFFu, best, other);
        if (z[candidate] > z[best] || (z[candidate] == z[best] && candidate < best)) best = candidate;
    }
    REAL rest = 0;  // sum of e^(z - max) of all but the best, whose own is 1: beside it a small rest would be lost
    for (int j = lane; j < outputs; j += 32) {
        const REAL e = exp_of_difference(z[j], z[best]);
        grad[j] = e;
        rest += j == best ? REAL(0) : e;
    }
    rest = sum_over(rest, 32);
    const REAL total = (1 + rest) * REAL(divisor);
    for (int j = lane; j < outputs; j += 32) grad[j] = (j == wanted ? (grad[j] - 1) - rest : grad[j]) / total;
    return {(z[best] - z[wanted]) + log1p(rest), best == wanted};
}

// The sum over the outputs of the cross-entropy with a label that is 0 or 1, as right as that of the softmax. Source:
// Bishop 2006, sections 4.3.2 and 5.2.
template <class Divisor>
__device__ __forceinline__ RowLoss sigmoid_cross_entropy(
    const REAL* z, int outputs, const LABEL* labels, Divisor divisor, REAL* grad) {
    REAL loss = 0;
    int wrong = 0;
    for (int j = threadIdx.x % 32; j < outputs; j += 32) {
        const bool positive = z[j] > 0;
        const REAL y = REAL(labels[j]), e = exp(positive ? -z[j] : z[j]);  // in [0, 1]
        const REAL p = (positive ? 1 : e) / (1 + e), q = (positive ? e : 1) / (1 + e);
        loss += (positive ? z[j] : 0) - y * z[j] + log1p(e);
        grad[j] = (p * (1 - y) - q * y) / REAL(divisor);  // p - y without cancelling, since q = 1 - p
        wrong += positive != (y > REAL(0.5));
    }
    return {sum_over(loss, 32), sum_over(wrong, 32) == 0};
}

// Losses of regression, of one output y and its target t; formulas and sources are in backends/losses.py. In float64,
// since the targets are of that type and their difference from the outputs is small in the end.
struct OutputLoss {
    float64 loss, slope;
};

__device__ __forceinline__ float64 sign_of(float64 e) { return e > 0 ? 1 : e < 0 ? -1 : e; }  // NaN stays NaN

__device__ __forceinline__ OutputLoss squared_error(float64 y, float64 t) { return {(y - t) * (y - t) / 2, y - t}; }

__device__ __forceinline__ OutputLoss absolute_error(float64 y, float64 t) {
    const float64 slope = sign_of(y - t);
    return {slope * (y - t), slope};
}

__device__ __forceinline__ OutputLoss huber(float64 y, float64 t) {
    const float64 delta = LOSS_PARAMETER, e = y - t, slope = e > delta ? delta : e < -delta ? -delta : e;
    return {slope * (e - slope / 2), slope};
}

__device__ __forceinline__ OutputLoss quantile(float64 y, float64 t) {
    const float64 sign = sign_of(y - t), slope = sign / 2 + (0.5 - float64(LOSS_PARAMETER)) * sign * sign;
    return {slope * (y - t), slope};
}

__device__ __forceinline__ OutputLoss poisson(float64 y, float64 t) {
    const float64 mean = exp(y), log_ratio = t > 0 ? y - log(t) : 0;
    return {mean - t - t * log_ratio, mean - t};
}

// The sum of a loss of regression over a row's outputs. No row is correct.
template <OutputLoss (*loss_of)(float64, float64), class Divisor>
__device__ __forceinline__ RowLoss of_outputs(
    const REAL* y, int outputs, const LABEL* labels, Divisor divisor, REAL* grad) {
    float64 loss = 0;
    for (int j = threadIdx.x % 32; j < outputs; j += 32) {
        const OutputLoss of = loss_of(y[j], labels[j]);
        loss += of.loss;
        grad[j] = REAL(of.slope / divisor);
    }
    return {sum_over(loss, 32), false};
}

// Of a tile's values (rows, outputs), grads (rows, outputs): a warp for each row. put(row, loss, is_correct) is called
// by one thread for each row below `valid`, with the loss times the row's weight; the gradient of the others is 0.
template <class Put>
__device__ __forceinline__ void losses_of(
    const REAL* values, REAL* grads, int rows, int valid, const Targets& targets, const Put& put) {
    const int outputs = SIZES[LAYERS], lane = threadIdx.x % 32;
    for (int row = threadIdx.x / 32; row < rows; row += blockDim.x / 32) {
        REAL* grad = grads + row * outputs;
        if (row < valid) {
            const RowLoss of = LOSS(values + row * outputs, outputs, targets.of(row), targets.divisor(row), grad);
            if (lane == 0) put(row, targets.weighted(row, of.loss), of.is_correct);
        } else {
            for (int j = lane; j < outputs; j += 32) grad[j] = 0;
        }
    }
}
