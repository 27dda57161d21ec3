// Full-batch training of a narrow network on uint8 images in one cooperative launch: `steps` steps, each of which reads
// every image once.
//
// A block goes through its tiles of ROWS rows: first layer, later layers, loss and backward, while all numbers of the
// tile stay in shared memory. The sums of its gradients stay in registers over all its tiles. Then the blocks hand their
// sums to each other, each adds up a part of the parameters over all blocks, always in the same order, and takes the
// optimizer's step on it. So there are two barriers of the grid in a step, and the weights go to shared memory once.
//
// A pixel is exact in bf16, and so are the PARTS into which weights and gradients are split: see tensor_tile.cuh. Images
// have a 1 behind their last pixel, whose "weight gradient" is the bias's.
//
//   TILE_ROWS      rows of a tile
//   ROW_OUTPUTS    outputs of all layers for one row
//   LATER_ROOM     numbers of the later layers' weights, with their strides
//   SHARED_BYTES   shared memory that the host gives
#define FIRST_LATER 2
#include "device.cuh"
#include "ptx.cuh"
#include "activations.cuh"
#include "optimizers.cuh"
#include "tensor_tile.cuh"
#include "losses.cuh"
#include "later_layers.cuh"
#include "grid_barrier.cuh"

constexpr int WARPS = THREADS / 32;
constexpr int ROWS = TILE_ROWS;                               // of a tile
constexpr int INPUTS = padded(FEATURES + 1, 16);              // pixels, the 1, and zeros
constexpr int OUTPUTS = UNITS <= 16 ? 16 : padded(UNITS, 32);  // units, and zeros
constexpr int WORDS = FEATURES / 4 + 1;                       // of a row of pixels with its 1, four to a word
constexpr int ROW_THREADS = THREADS / ROWS;                   // that fetch a row
constexpr int FETCHED = (WORDS + ROW_THREADS - 1) / ROW_THREADS;  // words of a tile for each of them
constexpr int WARPS_N = OUTPUTS / 8, WARPS_K = WARPS / WARPS_N;  // which share out the first layer's sums
constexpr int TILES_M = (INPUTS / 16 + WARPS - 1) / WARPS;    // of its gradient, (16, OUTPUTS) each, for each warp
constexpr int LATER = PARAMETERS - (FEATURES + 1) * UNITS;    // parameters of the later layers
static_assert(OUTPUTS <= 32 && TILES_M * OUTPUTS <= 128, "the gradients must fit into the registers");

// Shared memory; strides keep the lanes of a warp out of each other's banks.
constexpr int STRIDE_X = INPUTS + 8, STRIDE_WEIGHT = padded(INPUTS, 32) + 8, STRIDE_GRAD = ROWS + 8;
struct Shared {
    float weight[OUTPUTS * STRIDE_WEIGHT];  // first layer's, transposed: (OUTPUTS, STRIDE_WEIGHT)
    float sums[WARPS_K * ROWS * OUTPUTS];   // of the warps that share the depth: (WARPS_K, ROWS, OUTPUTS)
    float values[ROWS * ROW_OUTPUTS];       // as later_layers.cuh has them: of each layer, (ROWS, outputs)
    float grads[ROWS * ROW_OUTPUTS];        // likewise
    float later_weight[LATER_ROOM];         // of each later layer, (inputs + 1, outputs) with an odd stride
    float later_grads[LATER ? LATER : 1];   // of all tiles so far; each has a thread of its own
    float64 losses[ROWS];                   // likewise, of the tiles' first rows, second rows, ...
    int hits[ROWS];
    __align__(16) uint16 x[ROWS * STRIDE_X];                   // pixels as bf16: (ROWS, STRIDE_X)
    __align__(16) uint16 grad[PARTS * OUTPUTS * STRIDE_GRAD];  // first layer's in parts: (PARTS, OUTPUTS, STRIDE_GRAD)
};

// Where the weights of later layer l begin in `later_weight`.
__device__ __forceinline__ int later_start(int l) {
    int start = 0;
    for (int k = 2; k < l; ++k) start += (SIZES[k - 1] + 1) * (SIZES[k] | 1);
    return start;
}

// Four pixels of a row from `4 * word` on, with the 1 behind the last.
__device__ __forceinline__ unsigned pixel_word(const uint8* row, int word) {
    const int first = 4 * word;
    if (FEATURES % 4 == 0 && first < FEATURES) return *reinterpret_cast<const unsigned*>(row + first);
    unsigned bytes = 0;
    for (int i = 0; i < 4; ++i) {
        const unsigned byte = first + i < FEATURES ? row[first + i] : first + i == FEATURES;
        bytes |= byte << 8 * i;
    }
    return bytes;
}

// Load a tile's pixels into registers, which nobody waits for before they are used. Rows from `valid` on are 0.
__device__ __forceinline__ void fetch(unsigned (&words)[FETCHED], const uint8* images, const int* order, int valid) {
    const int row = threadIdx.x / ROW_THREADS, first = threadIdx.x % ROW_THREADS;
    const uint8* pixels = images + (row < valid ? int64(order[row]) * FEATURES : 0);
    for (int i = 0; i < FETCHED; ++i) {
        const int word = first + i * ROW_THREADS;
        words[i] = row < valid && word < WORDS ? pixel_word(pixels, word) : 0;
    }
}

// Put them into shared memory as bf16: the byte in the last bits of 2^23 makes 2^23 + byte.
__device__ __forceinline__ void stage(const unsigned (&words)[FETCHED], uint16* x) {
    uint16* row = x + threadIdx.x / ROW_THREADS * STRIDE_X + threadIdx.x % ROW_THREADS * 4;
    for (int i = 0; i < FETCHED; ++i) {
        if (threadIdx.x % ROW_THREADS + i * ROW_THREADS >= WORDS) continue;
        float pixel[4];
        for (int b = 0; b < 4; ++b) pixel[b] = __uint_as_float(0x4B000000u | (words[i] >> 8 * b & 255)) - 8388608.0f;
        unsigned* pair = reinterpret_cast<unsigned*>(row + 4 * i * ROW_THREADS);
        pair[0] = bf16_pair(pixel[0], pixel[1]);
        pair[1] = bf16_pair(pixel[2], pixel[3]);
    }
}

// The sums x w of the first layer over this warp's share of the depth: sums (WARPS_K, ROWS, OUTPUTS).
__device__ __forceinline__ void first_sums(Shared& shared) {
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int n = warp % WARPS_N * 8, warp_k = warp / WARPS_N;
    float sum[ROWS / 16][4] = {};
#pragma unroll 1
    for (int k = 16 * warp_k; k < padded(FEATURES, 16); k += 16 * WARPS_K) {
        unsigned x[ROWS / 16][4];
        for (int i = 0; i < ROWS / 16; ++i) load_a(x[i], shared.x, STRIDE_X, 16 * i, k);
        uint16 parts[4][PARTS];
        const float* w = shared.weight + (n + g) * STRIDE_WEIGHT + k + 2 * t;
        const float2 pairs[2] = {*reinterpret_cast<const float2*>(w), *reinterpret_cast<const float2*>(w + 8)};
        for (int i = 0; i < 4; ++i) split(i % 2 ? pairs[i / 2].y : pairs[i / 2].x, parts[i]);
        for (int p = 0; p < PARTS; ++p) {
            const unsigned low = parts[0][p] | unsigned(parts[1][p]) << 16, high = parts[2][p] | unsigned(parts[3][p]) << 16;
            for (int i = 0; i < ROWS / 16; ++i) mma_bf16(sum[i], x[i], low, high);
        }
    }
    for (int i = 0; i < ROWS / 16; ++i)
        for (int c = 0; c < 4; ++c) {
            const int row = 16 * i + g + c / 2 * 8, column = n + 2 * t + c % 2;
            shared.sums[(warp_k * ROWS + row) * OUTPUTS + column] = sum[i][c];
        }
}

// The first layer's outputs out of these sums.
__device__ __forceinline__ void first_outputs(Shared& shared, const float* bias) {
    for (int e = threadIdx.x; e < ROWS * UNITS; e += THREADS) {
        const int row = e / UNITS, n = e % UNITS;
        float sum = 0;
        for (int w = 0; w < WARPS_K; ++w) sum += shared.sums[(w * ROWS + row) * OUTPUTS + n];
        shared.values[e] = activation(1, sum * float(SCALE) + bias[n]);
    }
}

// Split the gradient with respect to the first layer's sums for the tensor cores.
__device__ __forceinline__ void split_grad(Shared& shared) {
    for (int e = threadIdx.x; e < ROWS * OUTPUTS; e += THREADS) {
        const int row = e % ROWS, n = e / ROWS;
        uint16 parts[PARTS];
        split(n < UNITS ? shared.grads[row * UNITS + n] : 0.0f, parts);
        for (int p = 0; p < PARTS; ++p) shared.grad[(p * OUTPUTS + n) * STRIDE_GRAD + row] = parts[p];
    }
}

// Add x^T grad of this tile to the warp's sums. The pixels' fragment of a tile (16, OUTPUTS) is loaded once; those of the
// gradient are loaded again for each, since there are no registers for all of them.
__device__ __forceinline__ void add_first_grad(float (&sums)[TILES_M][OUTPUTS / 8][4], const Shared& shared) {
    const int warp = threadIdx.x / 32;
#pragma unroll 1
    for (int k = 0; k < ROWS; k += 16)
        for (int first = 0; first < TILES_M; first += 2) {
            unsigned x[2][4];
            for (int i = 0; i < 2; ++i) {
                const int tile = warp + (first + i) * WARPS;
                if (tile < INPUTS / 16) load_a_transposed(x[i], shared.x, STRIDE_X, 16 * tile, k);
            }
            for (int p = 0; p < PARTS; ++p)
                for (int j = 0; j < OUTPUTS / 16; ++j) {
                    unsigned grad[4];
                    load_b(grad, shared.grad + p * OUTPUTS * STRIDE_GRAD, STRIDE_GRAD, k, 16 * j);
                    for (int i = 0; i < 2; ++i) {
                        if (first + i >= TILES_M || warp + (first + i) * WARPS >= INPUTS / 16) continue;
                        mma_bf16(sums[first + i][2 * j], x[i], grad[0], grad[1]);
                        mma_bf16(sums[first + i][2 * j + 1], x[i], grad[2], grad[3]);
                    }
                }
        }
}

// Parameter i of the later layers: its layer, and its row and column in the layer's (inputs + 1, outputs).
struct Place {
    int l, m, n;

    __device__ __forceinline__ explicit Place(int i) : l(2) {
        i += WEIGHT_AT[1];
        while (i >= WEIGHT_AT[l]) ++l;
        m = (i - WEIGHT_AT[l - 1]) / SIZES[l];
        n = (i - WEIGHT_AT[l - 1]) % SIZES[l];
    }
    __device__ __forceinline__ bool is_weight() const { return m < SIZES[l - 1]; }
};

__device__ __forceinline__ void add_later_grads(Shared& shared) {
    for (int i = threadIdx.x; LATER && i < LATER; i += THREADS) {
        const Place place(i);
        const int inputs = SIZES[place.l - 1], outputs = SIZES[place.l];
        const float* x = shared.values + at(place.l - 1, ROWS) + place.m;
        const float* grad = shared.grads + at(place.l, ROWS) + place.n;
        float sum = 0;
#pragma unroll 4
        for (int row = 0; row < ROWS; ++row) sum += (place.is_weight() ? x[row * inputs] : 1) * grad[row * outputs];
        shared.later_grads[i] += sum;
    }
}

// images (samples, FEATURES), labels (samples, LABELS), weights (samples,), order (rows,): step s trains on rows
// [s * stride, ...) of the order, at most BATCH of them, which weigh batch_weights[s] together. partials (blocks,
// PARAMETERS) and block_sums (blocks, 2) are room; sums (steps, 2) becomes each step's loss and correct rows; arrived
// must be 0.
extern "C" __global__ __launch_bounds__(THREADS, 1) void train_full_batch(
    const uint8* images, const LABEL* labels, const float64* weights, const float64* batch_weights, const int* order,
    int64 rows, int64 stride, int steps, const Rates* rates, float* state, float* partials, float64* block_sums,
    float64* sums, unsigned* arrived) {
    static_assert(sizeof(Shared) == SHARED_BYTES, "the host reckons with another size");
    SHARED_MEMORY(room);
    Shared& shared = *reinterpret_cast<Shared*>(room);
    for (int e = threadIdx.x; e < ROWS * STRIDE_X; e += THREADS) shared.x[e] = 0;  // behind the 1 it stays so
    for (int step = 0; step < steps; ++step) {
        const int batch = int(min(int64(BATCH), rows - step * stride));
        const int* batch_order = order + step * stride;
        const float64 batch_weight = WEIGHTED ? batch_weights[step] : 0;
        int first = blockIdx.x * ROWS;
        unsigned words[FETCHED];
        fetch(words, images, batch_order + first, batch - first);  // arrives while the weights are fetched
#pragma unroll 2  // more, and registers are spilled
        for (int e = threadIdx.x; e < OUTPUTS * padded(FEATURES, 16); e += THREADS) {
            // Eight columns and four rows by a warp: whole sectors of memory are read, and few banks are written twice.
            const int block = e / 32, n = block % (OUTPUTS / 8) * 8 + e % 8, k = block / (OUTPUTS / 8) * 4 + e % 32 / 8;
            shared.weight[n * STRIDE_WEIGHT + k] = k < FEATURES && n < UNITS ? state[k * UNITS + n] : 0;
        }
        for (int i = threadIdx.x; LATER && i < LATER; i += THREADS) {
            const Place place(i);
            const int at = later_start(place.l) + place.m * (SIZES[place.l] | 1) + place.n;
            shared.later_weight[at] = state[PARAMETERS - LATER + i];
            shared.later_grads[i] = 0;
        }
        if (threadIdx.x < ROWS) shared.losses[threadIdx.x] = 0, shared.hits[threadIdx.x] = 0;
        __syncthreads();
        float first_grad[TILES_M][OUTPUTS / 8][4] = {};
        for (; first < batch; first += gridDim.x * ROWS) {
            stage(words, shared.x);
            __syncthreads();
            first_sums(shared);
            __syncthreads();
            first_outputs(shared, state + FEATURES * UNITS);
            __syncthreads();
            through_later_layers<ROWS>(
                shared.values, shared.grads,
                [&](int l) { return LayerWeights{shared.later_weight + later_start(l), SIZES[l] | 1, true}; },
                min(ROWS, batch - first), Targets{labels, weights, batch_order + first, batch, batch_weight},
                [&](int row, float64 loss, bool is_hit) { shared.losses[row] += loss, shared.hits[row] += is_hit; });
            split_grad(shared);
            __syncthreads();
            const int next = first + gridDim.x * ROWS;
            fetch(words, images, batch_order + next, batch - next);  // arrives while the gradients are added up
            add_first_grad(first_grad, shared);
            add_later_grads(shared);
            __syncthreads();
        }

        float* partial = partials + int64(blockIdx.x) * PARAMETERS;
        const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        for (int i = 0; i < TILES_M; ++i)
            for (int j = 0; j < OUTPUTS / 8; ++j)
                for (int c = 0; c < 4; ++c) {
                    const int m = 16 * (warp + i * WARPS) + g + c / 2 * 8, n = 8 * j + 2 * t + c % 2;
                    if (m > FEATURES || n >= UNITS) continue;
                    partial[m * UNITS + n] = m < FEATURES ? first_grad[i][j][c] * float(SCALE) : first_grad[i][j][c];
                }
        for (int i = threadIdx.x; LATER && i < LATER; i += THREADS) partial[PARAMETERS - LATER + i] = shared.later_grads[i];
        if (threadIdx.x == 0) {
            float64 loss = 0, hits = 0;
            for (int row = 0; row < ROWS; ++row) loss += shared.losses[row], hits += shared.hits[row];
            block_sums[2 * blockIdx.x] = loss;
            block_sums[2 * blockIdx.x + 1] = hits;
        }
        grid_barrier(arrived, 2 * step + 1);

        // As many lanes share a parameter as there are, so that they wait for memory as seldom as can be.
        const int all = gridDim.x * THREADS, thread = blockIdx.x * THREADS + threadIdx.x;
        int lanes = 1;
        while (lanes < 32 && 2 * lanes * PARAMETERS <= all) lanes *= 2;
        for (int first = 0; first < PARAMETERS; first += all / lanes) {
            const int i = first + thread / lanes;
            float grad = 0;
            if (i < PARAMETERS) {
#pragma unroll 4
                for (int block = thread % lanes; block < gridDim.x; block += lanes)
                    grad += partials[int64(block) * PARAMETERS + i];
            }
            grad = sum_over(grad, lanes);
            if (i >= PARAMETERS || thread % lanes) continue;
            const bool is_weight = i < WEIGHT_AT[1] ? i < FEATURES * UNITS : Place(i - WEIGHT_AT[1]).is_weight();
            take_step(state, i, grad, is_weight, rates[step]);
        }
        if (blockIdx.x == gridDim.x - 1 && warp < 2) {  // the block with the fewest parameters
            float64 sum = 0;
            for (int block = threadIdx.x % 32; block < gridDim.x; block += 32) sum += block_sums[2 * block + warp];
            sum = sum_over(sum, 32);
            if (threadIdx.x % 32 == 0) sums[2 * step + warp] = sum;
        }
        grid_barrier(arrived, 2 * step + 2);
    }
}
