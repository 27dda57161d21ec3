// A tile of a matrix product in the device's ordinary arithmetic, float32 or float64.
#pragma once

// Each of a block's THREADS sums up a square of 4 x 4 results over its share of the depth.
constexpr int DEPTH = 32;  // of what lies in shared memory at a time

template <int ROWS, int COLUMNS>
struct ScalarTile {
    static constexpr int HEIGHT = ROWS, WIDTH = COLUMNS;
    static constexpr int SQUARES = ROWS / 4 * (COLUMNS / 4);
    static constexpr int GROUPS = THREADS / SQUARES;  // of threads, which share the depth
    static constexpr int STRIDE_A = ROWS + 4, STRIDE_B = COLUMNS + 4;
    static constexpr int BYTES = int(sizeof(REAL)) * larger(DEPTH * (STRIDE_A + STRIDE_B), GROUPS * ROWS * COLUMNS);
    static_assert(GROUPS * SQUARES == THREADS && DEPTH % GROUPS == 0, "the tile must divide among the threads");

    // c(m, n) = sum over k in [first, last) of a(m, k) b(k, n), handed to put(m, n, c) for each result of the tile that
    // begins at (m0, n0). a and b give 0 outside of their matrices; put is called for all of the tile. SECOND_IS_CONTIGUOUS
    // says of each along which of its indices numbers lie side by side in memory: so neighbouring threads read them.
    template <class A, class B, class Put>
    static __device__ __forceinline__ void product(
        const A& a, const B& b, const Put& put, int m0, int n0, int first, int last) {
        SHARED_MEMORY(room);
        REAL* shared_a = reinterpret_cast<REAL*>(room);      // (DEPTH, STRIDE_A)
        REAL* shared_b = shared_a + DEPTH * STRIDE_A;        // (DEPTH, STRIDE_B)
        const int thread = threadIdx.x, group = thread / SQUARES, square = thread % SQUARES;
        const int m = square / (COLUMNS / 4) * 4, n = square % (COLUMNS / 4) * 4;
        REAL sum[4][4] = {};
        for (int k0 = first; k0 < last; k0 += DEPTH) {
            for (int e = thread; e < ROWS * DEPTH; e += THREADS) {
                const int i = A::SECOND_IS_CONTIGUOUS ? e / DEPTH : e % ROWS;
                const int k = A::SECOND_IS_CONTIGUOUS ? e % DEPTH : e / ROWS;
                shared_a[k * STRIDE_A + i] = k0 + k < last ? a(m0 + i, k0 + k) : REAL(0);
            }
            for (int e = thread; e < DEPTH * COLUMNS; e += THREADS) {
                const int k = B::SECOND_IS_CONTIGUOUS ? e / COLUMNS : e % DEPTH;
                const int j = B::SECOND_IS_CONTIGUOUS ? e % COLUMNS : e / DEPTH;
                shared_b[k * STRIDE_B + j] = k0 + k < last ? b(k0 + k, n0 + j) : REAL(0);
            }
            __syncthreads();
            const int share = DEPTH / GROUPS;
#pragma unroll
            for (int k = 0; k < share; ++k) {
                const REAL* x = shared_a + (group * share + k) * STRIDE_A + m;
                const REAL* y = shared_b + (group * share + k) * STRIDE_B + n;
                for (int i = 0; i < 4; ++i)
                    for (int j = 0; j < 4; ++j) sum[i][j] += x[i] * y[j];
            }
            __syncthreads();
        }
        if (GROUPS == 1) {
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 4; ++j) put(m0 + m + i, n0 + n + j, sum[i][j]);
            return;
        }
        REAL* sums = shared_a;  // (GROUPS, ROWS, COLUMNS), over what is no longer needed
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 4; ++j) sums[(group * ROWS + m + i) * COLUMNS + n + j] = sum[i][j];
        __syncthreads();
        for (int e = thread; e < ROWS * COLUMNS; e += THREADS) {
            REAL total = sums[e];
            for (int g = 1; g < GROUPS; ++g) total += sums[g * ROWS * COLUMNS + e];
            put(m0 + e / COLUMNS, n0 + e % COLUMNS, total);
        }
    }
};
