// The kernels of one training step, for any network: each is a node of a CUDA graph.
//
//   first_layer      gather, uint8 to REAL, product, bias, activation
//   hidden_layer     product, bias, activation: of a layer below FIRST_LATER
//   later_layers     the rest forward, the loss, its gradient, the count, and backward to FIRST_LATER's input
//   hidden_backward  gradient of the input, and the activation's derivative: of a layer below FIRST_LATER
//   gradients        x^T grad of all layers with the bias's row, with one shard the optimizer's step at once; and the
//                    step's loss and correct rows, summed up
//   update           sum of the shards' gradients, the optimizer's step; with more shards than one
//   advance          to the steps of the next launch of the graph
//
// Where the device is in its run is told by progress (4,): the number of the first step of this launch, the steps of the
// run, its rows, and how many rows further on in `order` each step begins. A step beyond the end does nothing, so that a
// run need not be a whole number of launches.
//
// values and grads (BATCH x all outputs): layer l = 1, 2, ... from number BATCH * OUTPUT_AT[l] on, (BATCH, SIZES[l]).
#include "device.cuh"
#include "ptx.cuh"
#include "activations.cuh"
#include "optimizers.cuh"
#include "scalar_tile.cuh"
#include "tensor_tile.cuh"
#include "losses.cuh"
#include "later_layers.cuh"

#if PARTS
typedef TensorTile<FIRST_TILE, false> FirstTile;
typedef TensorTile<GRADIENT_TILE, true> FirstGradientTile;
#else
typedef ScalarTile<FIRST_TILE> FirstTile;
typedef ScalarTile<GRADIENT_TILE> FirstGradientTile;
#endif
typedef ScalarTile<HIDDEN_TILE> HiddenTile;
static_assert(FirstTile::BYTES <= FIRST_BYTES && HiddenTile::BYTES <= HIDDEN_BYTES, "the host gives less");
static_assert(FirstGradientTile::BYTES <= GRADIENT_BYTES && HiddenTile::BYTES <= GRADIENT_BYTES, "the host gives less");

// The rows of one step.
struct Batch {
    int64 number, first;  // of the step in its run; of its first row in the order
    int rows;             // 0 beyond the run's end

    __device__ __forceinline__ Batch(const int64* progress, int step)
        : number(progress[0] + step),
          first(number * progress[3]),
          rows(number < progress[1] ? int(min(int64(BATCH), progress[2] - first)) : 0) {}
};

template <class T>
__device__ __forceinline__ T* layer_of(T* arrays, int l) {
    return arrays + int64(BATCH) * OUTPUT_AT[l];
}

// The batch's images, (rows, FEATURES).
struct PixelRows {
    const PIXEL* images;
    const int* order;
    int rows;
    static constexpr bool SECOND_IS_CONTIGUOUS = true;

    __device__ __forceinline__ const PIXEL* row(int m) const { return images + int64(order[m]) * FEATURES; }
    __device__ __forceinline__ REAL operator()(int m, int k) const {
        return m < rows ? REAL(row(m)[k]) * REAL(SCALE) : REAL(0);
    }
    __device__ __forceinline__ Pixels four(int m, int k, int) const {
        return m < rows ? four_pixels(row(m), k) : Pixels{};
    }
};

// Their transpose with a row of ones below, (FEATURES + 1, rows).
struct PixelColumns {
    PixelRows pixels;
    static constexpr bool SECOND_IS_CONTIGUOUS = false;

    __device__ __forceinline__ REAL operator()(int m, int k) const {
        return m < FEATURES ? pixels(k, m) : REAL(m == FEATURES);
    }
    __device__ __forceinline__ Pixels four(int m, int k, int last) const {
        if (k >= last) return Pixels{};
        Pixels four = four_pixels(pixels.row(k), m);
        if (m <= FEATURES && FEATURES < m + 4) four.x[FEATURES - m] = 1;
        return four;
    }
};

// A matrix (rows, columns) by rows, and its transpose with a row of ones below.
struct Matrix {
    const REAL* numbers;
    int rows, columns;
    static constexpr bool SECOND_IS_CONTIGUOUS = true;

    __device__ __forceinline__ REAL operator()(int i, int j) const {
        return i < rows && j < columns ? numbers[int64(i) * columns + j] : REAL(0);
    }
};
struct TransposedWithOnes {
    Matrix matrix;
    static constexpr bool SECOND_IS_CONTIGUOUS = false;

    __device__ __forceinline__ REAL operator()(int i, int j) const {
        return i < matrix.columns ? matrix(j, i) : REAL(i == matrix.columns);
    }
};

__device__ __forceinline__ Matrix weight_of(const REAL* parameters, int l) {
    return {parameters + WEIGHT_AT[l - 1], SIZES[l - 1], SIZES[l]};
}

extern "C" __global__ __launch_bounds__(THREADS) void first_layer(
    int step, const int64* progress, const PIXEL* images, const int* order, const REAL* state, REAL* values) {
    const Batch batch(progress, step);
    const int m0 = blockIdx.x * FirstTile::HEIGHT, n0 = blockIdx.y * FirstTile::WIDTH;
    if (m0 >= batch.rows) return;
    const REAL* bias = state + FEATURES * UNITS;
    REAL* y = layer_of(values, 1);  // (BATCH, UNITS)
    FirstTile::product(
        PixelRows{images, order + batch.first, batch.rows}, weight_of(state, 1),
        [&](int m, int n, REAL sum) {
            if (m >= batch.rows || n >= UNITS) return;
            y[int64(m) * UNITS + n] = activation(1, (PARTS ? sum * REAL(SCALE) : sum) + bias[n]);
        },
        m0, n0, 0, FEATURES);
}

extern "C" __global__ __launch_bounds__(THREADS) void hidden_layer(
    int step, int l, const int64* progress, const REAL* state, REAL* values) {
    const Batch batch(progress, step);
    const int m0 = blockIdx.x * HiddenTile::HEIGHT, n0 = blockIdx.y * HiddenTile::WIDTH;
    if (m0 >= batch.rows) return;
    const Matrix weight = weight_of(state, l);  // (inputs, outputs)
    const REAL* bias = weight.numbers + weight.rows * weight.columns;
    REAL* y = layer_of(values, l);  // (BATCH, outputs)
    HiddenTile::product(
        Matrix{layer_of(values, l - 1), batch.rows, weight.rows}, weight,
        [&](int m, int n, REAL sum) {
            if (m < batch.rows && n < weight.columns) y[int64(m) * weight.columns + n] = activation(l, sum + bias[n]);
        },
        m0, n0, 0, weight.rows);
}

extern "C" __global__ __launch_bounds__(THREADS) void hidden_backward(
    int step, int l, const int64* progress, const REAL* state, REAL* values, REAL* grads) {
    const Batch batch(progress, step);
    const int m0 = blockIdx.x * HiddenTile::HEIGHT, n0 = blockIdx.y * HiddenTile::WIDTH;
    if (m0 >= batch.rows) return;
    const Matrix weight = weight_of(state, l);
    const REAL* y = layer_of(values, l - 1);  // (BATCH, inputs)
    REAL* grad = layer_of(grads, l - 1);      // (BATCH, inputs)
    HiddenTile::product(
        Matrix{layer_of(grads, l), batch.rows, weight.columns}, TransposedWithOnes{weight},  // no ones: the depth ends before
        [&](int m, int n, REAL grad_y) {
            const int64 i = int64(m) * weight.rows + n;
            if (m < batch.rows && n < weight.rows) grad[i] = activation_backward(grad_y, y[i]);
        },
        m0, n0, 0, weight.columns);
}

extern "C" __global__ __launch_bounds__(THREADS) void later_layers(
    int step, const int64* progress, const LABEL* labels, const float64* weights, const float64* batch_weights,
    const int* order, const REAL* state, REAL* values, REAL* grads, float64* losses, uint8* hits) {
    SHARED_MEMORY(room);
    constexpr int ROWS = LATER_ROWS;
    const Batch batch(progress, step);
    const int first = blockIdx.x * ROWS, valid = min(ROWS, batch.rows - first);
    if (valid <= 0) return;
    REAL* here = reinterpret_cast<REAL*>(room);
    REAL* grads_here = here + at(LAYERS + 1, ROWS);
    const int inputs = SIZES[FIRST_LATER - 1];
    const REAL* x = layer_of(values, FIRST_LATER - 1) + int64(first) * inputs;
    for (int i = threadIdx.x; i < ROWS * inputs; i += THREADS) here[i] = i < valid * inputs ? x[i] : REAL(0);
    __syncthreads();
    const float64 batch_weight = WEIGHTED ? batch_weights[batch.number] : 0;
    through_later_layers<ROWS>(
        here, grads_here, [&](int l) { return LayerWeights{state + WEIGHT_AT[l - 1], SIZES[l], false}; }, valid,
        Targets{labels, weights, order + batch.first + first, batch.rows, batch_weight},
        [&](int row, float64 loss, bool is_hit) {
            losses[first + row] = loss;
            hits[first + row] = is_hit;
        });
    for (int l = FIRST_LATER - 1; l <= LAYERS; ++l) {
        const int64 outputs = SIZES[l], begin = first * outputs;
        for (int i = threadIdx.x; i < valid * outputs; i += THREADS) {
            layer_of(grads, l)[begin + i] = grads_here[at(l, ROWS) + i];
            if (l >= FIRST_LATER) layer_of(values, l)[begin + i] = here[at(l, ROWS) + i];
        }
    }
}

template <class Tile>
__device__ __forceinline__ int tiles_across(int l) {
    return (SIZES[l] + Tile::WIDTH - 1) / Tile::WIDTH;
}

template <class Tile>
__device__ __forceinline__ int tiles_of(int l) {
    return (SIZES[l - 1] + Tile::HEIGHT) / Tile::HEIGHT * tiles_across<Tile>(l);  // of inputs + 1 rows
}

// sums (2,): the sum of the rows' losses, and the number of rows that were classified correctly.
__device__ __forceinline__ void sum_rows(int rows, const float64* losses, const uint8* hits, float64* sums) {
    SHARED_MEMORY(room);
    float64* partial = reinterpret_cast<float64*>(room);  // (THREADS,)
    for (int which = 0; which < 2; ++which) {
        float64 sum = 0;
        for (int i = threadIdx.x; i < rows; i += THREADS) sum += which ? float64(hits[i]) : losses[i];
        partial[threadIdx.x] = sum;
        __syncthreads();
        for (int half = THREADS / 2; half; half /= 2) {
            if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
            __syncthreads();
        }
        if (threadIdx.x == 0) sums[which] = partial[0];
    }
}

// Block (i, shard): tile i of all layers' tiles in a row, of the rows of one shard; the block behind the last sums up.
extern "C" __global__ __launch_bounds__(THREADS, sizeof(REAL) == 4 ? 2 : 1) void gradients(
    int step, const int64* progress, const PIXEL* images, const int* order, const Rates* rates, const float64* losses,
    const uint8* hits, const REAL* values, const REAL* grads, REAL* state, REAL* shards, float64* sums) {
    const Batch batch(progress, step);
    if (batch.rows <= 0) return;
    int tile = blockIdx.x, l = 1;
    for (int tiles = tiles_of<FirstGradientTile>(1); l <= LAYERS && tile >= tiles; tiles = tiles_of<HiddenTile>(l)) {
        tile -= tiles;
        if (++l > LAYERS) break;
    }
    if (l > LAYERS) {
        if (blockIdx.y == 0) sum_rows(batch.rows, losses, hits, sums + 2 * batch.number);
        return;
    }
    const int first = blockIdx.y * SHARD_ROWS, last = min(batch.rows, first + SHARD_ROWS);
    const auto put = [&](int m, int n, REAL grad) {
        const int inputs = SIZES[l - 1], outputs = SIZES[l];
        if (m > inputs || n >= outputs) return;
        if (PARTS && l == 1 && m < inputs) grad *= REAL(SCALE);
        const int64 i = WEIGHT_AT[l - 1] + int64(m) * outputs + n;
        if (SHARDS == 1) take_step(state, i, grad, m < inputs, rates[batch.number]);
        else shards[blockIdx.y * int64(PARAMETERS) + i] = grad;
    };
    const Matrix grad{layer_of(grads, l), batch.rows, SIZES[l]};
    if (LAYERS == 1 || l == 1) {
        typedef FirstGradientTile Tile;
        const int m0 = tile / tiles_across<Tile>(1) * Tile::HEIGHT, n0 = tile % tiles_across<Tile>(1) * Tile::WIDTH;
        Tile::product(PixelColumns{{images, order + batch.first, batch.rows}}, grad, put, m0, n0, first, last);
    } else {
        typedef HiddenTile Tile;
        const int m0 = tile / tiles_across<Tile>(l) * Tile::HEIGHT, n0 = tile % tiles_across<Tile>(l) * Tile::WIDTH;
        const TransposedWithOnes x{{layer_of(values, l - 1), batch.rows, SIZES[l - 1]}};
        Tile::product(x, grad, put, m0, n0, first, last);
    }
}

extern "C" __global__ __launch_bounds__(THREADS) void update(
    int step, const int64* progress, const Rates* rates, const REAL* shards, REAL* state) {
    const Batch batch(progress, step);
    const int64 i = int64(blockIdx.x) * THREADS + threadIdx.x;
    if (batch.rows <= 0 || i >= PARAMETERS) return;
    REAL grad = 0;
#pragma unroll 4
    for (int shard = 0; shard < SHARDS; ++shard) grad += shards[shard * int64(PARAMETERS) + i];
    int l = 1;
    while (i >= WEIGHT_AT[l]) ++l;
    take_step(state, i, grad, i < WEIGHT_AT[l - 1] + int64(SIZES[l - 1]) * SIZES[l], rates[batch.number]);
}

extern "C" __global__ void advance(int steps, int64* progress) { progress[0] += steps; }
