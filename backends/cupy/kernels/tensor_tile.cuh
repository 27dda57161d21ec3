// A tile of a matrix product on the tensor cores, of bytes with float32 numbers.
//
// A byte is exact in bf16, whose significand has 8 bits. A float32 number is the sum of three bf16 numbers, 8 bits of
// its significand each, so that with PARTS = 3 every product is exact and only sums are rounded, in float32 as the tensor
// cores round it. With PARTS = 1 the numbers are rounded to bf16.
#pragma once

// Split a number: the first part has its 8 leading bits, the next one those of what is left, and so on.
__device__ __forceinline__ void split(float x, uint16 (&parts)[PARTS ? PARTS : 1]) {
    // One part alone is rounded to the nearest; a NaN would be carried over into another number.
    if (PARTS == 1 && x == x) x = __uint_as_float(__float_as_uint(x) + 0x7FFF + (__float_as_uint(x) >> 16 & 1));
    for (int p = 0; p < PARTS; ++p) {
        const unsigned bits = __float_as_uint(x) & 0xFFFF0000u;
        parts[p] = uint16(bits >> 16);
        x -= __uint_as_float(bits);
    }
}

// Two whole numbers in [0, 255] as two bf16 numbers, the first one in the lower half.
__device__ __forceinline__ unsigned bf16_pair(float first, float second) {
    return __float_as_uint(first) >> 16 | (__float_as_uint(second) & 0xFFFF0000u);
}

// The fragment of `a` at (m, k) for mma_bf16, from shared memory that holds it by rows, (m, k) with `stride`, or
// transposed, (k, m).
__device__ __forceinline__ void load_a(unsigned (&a)[4], const uint16* shared, int stride, int m, int k) {
    const int lane = threadIdx.x % 32, j = lane / 8;
    load_matrices(a, shared + (m + j % 2 * 8 + lane % 8) * stride + k + j / 2 * 8);
}
__device__ __forceinline__ void load_a_transposed(unsigned (&a)[4], const uint16* shared, int stride, int m, int k) {
    const int lane = threadIdx.x % 32, j = lane / 8;
    load_matrices_transposed(a, shared + (k + j / 2 * 8 + lane % 8) * stride + m + j % 2 * 8);
}

// The fragments of `b` at (k, n) and (k, n + 8), from shared memory that holds it by columns, (n, k) with `stride`:
// b[0], b[1] of the first, b[2], b[3] of the second.
__device__ __forceinline__ void load_b(unsigned (&b)[4], const uint16* shared, int stride, int k, int n) {
    const int lane = threadIdx.x % 32, j = lane / 8;
    load_matrices(b, shared + (n + j / 2 * 8 + lane % 8) * stride + k + j % 2 * 8);
}

// ROWS x COLUMNS results by WARPS_M x WARPS_N x WARPS_K warps, the last sharing the depth; DEPTH numbers of it lie in
// shared memory at a time. A_TRANSPOSED: a(m, k) is contiguous along m.
template <int ROWS, int COLUMNS, int DEPTH, int WARPS_M, int WARPS_N, int WARPS_K, bool A_TRANSPOSED>
struct TensorTile {
    static constexpr int HEIGHT = ROWS, WIDTH = COLUMNS;
    static constexpr int WARP_THREADS = 32 * WARPS_M * WARPS_N * WARPS_K;
    static constexpr int TILES_M = ROWS / 16 / WARPS_M, TILES_N = COLUMNS / 16 / WARPS_N;  // of a warp, (16, 16) each
    static constexpr int STRIDE_A = (A_TRANSPOSED ? ROWS : DEPTH) + 8, STRIDE_B = DEPTH + 8;  // + 8: no bank conflicts
    static constexpr int SIZE_A = (A_TRANSPOSED ? DEPTH : ROWS) * STRIDE_A, SIZE_B = COLUMNS * STRIDE_B;
    static constexpr int BYTES = larger(2 * (SIZE_A + PARTS * SIZE_B), WARPS_K > 1 ? 4 * WARPS_K * ROWS * COLUMNS : 0);
    static_assert(ROWS == 16 * WARPS_M * TILES_M && COLUMNS == 16 * WARPS_N * TILES_N, "warps must divide the tile");
    static_assert(WARP_THREADS == THREADS && DEPTH % (16 * WARPS_K) == 0, "warps must divide the depth and the block");

    // As ScalarTile::product; a.four(m, k) gives four pixels, along m where A_TRANSPOSED and else along k.
    template <class A, class B, class Put>
    static __device__ __forceinline__ void product(
        const A& a, const B& b, const Put& put, int m0, int n0, int first, int last) {
        SHARED_MEMORY(room);
        uint16* shared_a = reinterpret_cast<uint16*>(room);  // (ROWS, STRIDE_A), or (DEPTH, STRIDE_A) transposed
        uint16* shared_b = shared_a + SIZE_A;                // (PARTS, COLUMNS, STRIDE_B)
        const int warp = threadIdx.x / 32, warp_k = warp % WARPS_K;
        const int m = warp / WARPS_K % WARPS_M * 16 * TILES_M, n = warp / (WARPS_K * WARPS_M) * 16 * TILES_N;
        float sum[TILES_M][2 * TILES_N][4] = {};
        for (int k0 = first; k0 < last; k0 += DEPTH) {
            stage_a(a, shared_a, m0, k0, last);
            stage_b(b, shared_b, n0, k0, last);
            __syncthreads();
#pragma unroll
            for (int k = 16 * warp_k; k < DEPTH; k += 16 * WARPS_K) {
                unsigned fragment_a[TILES_M][4];
                for (int i = 0; i < TILES_M; ++i)
                    if (A_TRANSPOSED) load_a_transposed(fragment_a[i], shared_a, STRIDE_A, m + 16 * i, k);
                    else load_a(fragment_a[i], shared_a, STRIDE_A, m + 16 * i, k);
                for (int part = 0; part < PARTS; ++part)
                    for (int j = 0; j < TILES_N; ++j) {
                        unsigned fragment_b[4];
                        load_b(fragment_b, shared_b + part * SIZE_B, STRIDE_B, k, n + 16 * j);
                        for (int i = 0; i < TILES_M; ++i) {
                            mma_bf16(sum[i][2 * j], fragment_a[i], fragment_b[0], fragment_b[1]);
                            mma_bf16(sum[i][2 * j + 1], fragment_a[i], fragment_b[2], fragment_b[3]);
                        }
                    }
            }
            __syncthreads();
        }
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        float* sums = reinterpret_cast<float*>(room);  // (WARPS_K, ROWS, COLUMNS), over what is no longer needed
        for (int i = 0; i < TILES_M; ++i)
            for (int j = 0; j < 2 * TILES_N; ++j)
                for (int c = 0; c < 4; ++c) {
                    const int row = m + 16 * i + g + c / 2 * 8, column = n + 8 * j + 2 * t + c % 2;
                    if (WARPS_K == 1) put(m0 + row, n0 + column, sum[i][j][c]);
                    else sums[(warp_k * ROWS + row) * COLUMNS + column] = sum[i][j][c];
                }
        if (WARPS_K == 1) return;
        __syncthreads();
        for (int e = threadIdx.x; e < ROWS * COLUMNS; e += WARP_THREADS) {
            float total = sums[e];
            for (int w = 1; w < WARPS_K; ++w) total += sums[w * ROWS * COLUMNS + e];
            put(m0 + e / COLUMNS, n0 + e % COLUMNS, total);
        }
    }

    // Loads that are on their way at once, before the first of them is waited for.
    static constexpr int AT_ONCE = 8;

    template <class A>
    static __device__ __forceinline__ void stage_a(const A& a, uint16* shared_a, int m0, int k0, int last) {
        constexpr int LINES = A_TRANSPOSED ? DEPTH : ROWS, LENGTH = A_TRANSPOSED ? ROWS : DEPTH;
        constexpr int COUNT = LINES * LENGTH / 4;
        for (int first = threadIdx.x; first < COUNT; first += AT_ONCE * WARP_THREADS) {
            Pixels four[AT_ONCE];
#pragma unroll
            for (int i = 0; i < AT_ONCE; ++i) {
                const int e = first + i * WARP_THREADS, line = e / (LENGTH / 4), at = e % (LENGTH / 4) * 4;
                if (e < COUNT) four[i] = A_TRANSPOSED ? a.four(m0 + at, k0 + line, last) : a.four(m0 + line, k0 + at, last);
            }
#pragma unroll
            for (int i = 0; i < AT_ONCE; ++i) {
                const int e = first + i * WARP_THREADS, line = e / (LENGTH / 4), at = e % (LENGTH / 4) * 4;
                if (e >= COUNT) break;
                unsigned* pair = reinterpret_cast<unsigned*>(shared_a + line * STRIDE_A + at);
                pair[0] = bf16_pair(four[i].x[0], four[i].x[1]);
                pair[1] = bf16_pair(four[i].x[2], four[i].x[3]);
            }
        }
    }

    template <class B>
    static __device__ __forceinline__ void stage_b(const B& b, uint16* shared_b, int n0, int k0, int last) {
        constexpr int COUNT = COLUMNS * DEPTH / 2;
        for (int first = threadIdx.x; first < COUNT; first += AT_ONCE * WARP_THREADS) {
            float low[AT_ONCE], high[AT_ONCE];
#pragma unroll
            for (int i = 0; i < AT_ONCE; ++i) {
                const int e = first + i * WARP_THREADS, n = column_of(e), k = depth_of(e);
                low[i] = e < COUNT && k0 + k < last ? b(k0 + k, n0 + n) : 0.0f;
                high[i] = e < COUNT && k0 + k + 1 < last ? b(k0 + k + 1, n0 + n) : 0.0f;
            }
#pragma unroll
            for (int i = 0; i < AT_ONCE; ++i) {
                const int e = first + i * WARP_THREADS;
                if (e >= COUNT) break;
                uint16 low_parts[PARTS ? PARTS : 1], high_parts[PARTS ? PARTS : 1];
                split(low[i], low_parts);
                split(high[i], high_parts);
                for (int part = 0; part < PARTS; ++part)
                    *reinterpret_cast<unsigned*>(shared_b + part * SIZE_B + column_of(e) * STRIDE_B + depth_of(e)) =
                        low_parts[part] | unsigned(high_parts[part]) << 16;
            }
        }
    }

    // Pair e of b: eight columns and four pairs of the depth by a warp, so that neither reads nor writes get into each
    // other's way.
    static __device__ __forceinline__ int column_of(int e) { return e / 32 % (COLUMNS / 8) * 8 + e % 8; }
    static __device__ __forceinline__ int depth_of(int e) { return (e / 32 / (COLUMNS / 8) * 4 + e % 32 / 8) * 2; }
};
