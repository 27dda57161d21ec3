// Kernels that show what CUDA threads do, each alone: for the tests of the stand-in.
#ifndef SHARED_MEMORY
#error "it is defined before the source"
#endif
#define THREADS 256

extern "C" __global__ void indices(int* y) {
    int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    int threads = blockDim.x * blockDim.y * blockDim.z;
    y[block * threads + thread] = threadIdx.x + 10 * threadIdx.y + 100 * threadIdx.z + 1000 * blockIdx.x
        + 10000 * blockIdx.y + 100000 * blockIdx.z;
}

// Each thread hands a number on to its neighbour, `rounds` times.
extern "C" __global__ void rotate(const float* x, float* y, int rounds) {
    SHARED_MEMORY(room);
    float* numbers = reinterpret_cast<float*>(room);
    const int t = threadIdx.x, n = blockDim.x;
    numbers[t] = x[blockIdx.x * n + t];
    for (int k = 0; k < rounds; ++k) {
        __syncthreads();
        const float number = numbers[(t + 1) % n];
        __syncthreads();
        numbers[t] = number;
    }
    y[blockIdx.x * n + t] = numbers[t];
}

extern "C" __global__ void rotate_without_barrier(const float* x, float* y) {
    SHARED_MEMORY(room);
    float* numbers = reinterpret_cast<float*>(room);
    numbers[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = numbers[(threadIdx.x + 1) % blockDim.x];
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) sum(const float* x, float* y, int n) {
    SHARED_MEMORY(room);
    float* parts = reinterpret_cast<float*>(room);
    const int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    parts[t] = i < n ? x[i] : 0;
#pragma unroll
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) parts[t] += parts[t + half];
    }
    if (t == 0) y[blockIdx.x] = parts[0];
}

extern "C" __global__ void read_shared(float* y) {
    SHARED_MEMORY(room);
    y[threadIdx.x] = reinterpret_cast<float*>(room)[threadIdx.x];
    reinterpret_cast<float*>(room)[threadIdx.x] = 1;
}

extern "C" __global__ void write_shared(int at) {
    SHARED_MEMORY(room);
    room[at] = 1;
}

// d (16, 8) += a (16, 16) b (16, 8), bf16 by rows, with the fragments as the PTX ISA has them.
extern "C" __global__ void product(const unsigned short* a, const unsigned short* b, float* d) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    auto pair = [](unsigned low, unsigned high) { return low | high << 16; };
    auto of_a = [&](int m, int k) { return pair(a[16 * m + k], a[16 * m + k + 1]); };
    auto of_b = [&](int k, int n) { return pair(b[8 * k + n], b[8 * (k + 1) + n]); };
    const unsigned fragment[4] = {of_a(g, 2 * t), of_a(g + 8, 2 * t), of_a(g, 2 * t + 8), of_a(g + 8, 2 * t + 8)};
    float sum[4] = {d[8 * g + 2 * t], d[8 * g + 2 * t + 1], d[8 * (g + 8) + 2 * t], d[8 * (g + 8) + 2 * t + 1]};
    mma_bf16(sum, fragment, of_b(2 * t, g), of_b(2 * t + 8, g));
    for (int i = 0; i < 4; ++i) d[8 * (g + i / 2 * 8) + 2 * t + i % 2] = sum[i];
}

// The same with both fragments from shared memory, of blockDim.x / 32 products one after another.
extern "C" __global__ void product_by_ldmatrix(const unsigned short* a, const unsigned short* b, float* d) {
    SHARED_MEMORY(room);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    unsigned short* of_a = reinterpret_cast<unsigned short*>(room) + warp * 384;
    unsigned short* of_b = of_a + 256;
    for (int i = lane; i < 256; i += 32) of_a[i] = a[warp * 256 + i];
    for (int i = lane; i < 128; i += 32) of_b[i] = b[warp * 128 + i];
    __syncwarp();
    unsigned fragment[4], other[4];
    load_matrices(fragment, of_a + 16 * (lane % 16) + 8 * (lane / 16));
    load_matrices_transposed(other, of_b + 8 * (lane % 16));  // the last two matrices are the first two again
    float sum[4] = {};
    mma_bf16(sum, fragment, other[0], other[1]);
    for (int i = 0; i < 4; ++i) d[warp * 128 + 8 * (g + i / 2 * 8) + 2 * t + i % 2] = sum[i];
}

extern "C" __global__ void ldmatrix(const unsigned short* x, unsigned* r, int transposed, int shift) {
    SHARED_MEMORY(room);
    unsigned short* numbers = reinterpret_cast<unsigned short*>(room);
    for (int i = threadIdx.x; i < 256; i += 32) numbers[i] = x[i];
    __syncwarp();
    unsigned mine[4];
    if (transposed)
        load_matrices_transposed(mine, numbers + 8 * threadIdx.x + shift);
    else
        load_matrices(mine, numbers + 8 * threadIdx.x + shift);
    for (int i = 0; i < 4; ++i) r[4 * threadIdx.x + i] = mine[i];
}

__device__ __forceinline__ void grid_barrier(unsigned* arrived, unsigned phase) {
    __syncthreads();
    if (threadIdx.x == 0) {
        add_release(arrived, 1);
        while (load_acquire(arrived) < phase * gridDim.x) pause();
    }
    __syncthreads();
}

// Each block adds up the others' numbers, `rounds` times.
extern "C" __global__ void exchange(long long* numbers, unsigned* arrived, int rounds) {
    for (int k = 0; k < rounds; ++k) {
        long long sum = 0;
        for (int b = 0; b < int(gridDim.x); ++b) sum += numbers[b * blockDim.x + threadIdx.x];
        grid_barrier(arrived, 2 * k + 1);
        numbers[blockIdx.x * blockDim.x + threadIdx.x] = sum + blockIdx.x;
        grid_barrier(arrived, 2 * k + 2);
    }
}

extern "C" __global__ void leave_early(int n) {
    if (threadIdx.x >= unsigned(n)) return;
    __syncthreads();
}

extern "C" __global__ void two_barriers(int n) {
    if (threadIdx.x < unsigned(n))
        __syncthreads();
    else
        __syncthreads();
}

extern "C" __global__ void part_of_a_warp(int n) {
    float d[4] = {};
    const unsigned a[4] = {};
    if (threadIdx.x < unsigned(n)) mma_bf16(d, a, 0, 0);
}

extern "C" __global__ void wait_for(unsigned* number, int pauses) {
    while (load_acquire(number) == 0)
        if (pauses) pause();
}

extern "C" __global__ void wait_for_the_last(unsigned* number, unsigned* y) {
    if (threadIdx.x == blockDim.x - 1) add_release(number, 5);
    while (load_acquire(number) == 0) pause();
    y[threadIdx.x] = load_acquire(number);
}

extern "C" __global__ void order(unsigned* next, unsigned* y) {
    y[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(next, 1u);
}

extern "C" __global__ void order_of_phases(unsigned* next, unsigned* y, int phases) {
    for (int k = 0; k < phases; ++k) {
        y[k * blockDim.x + threadIdx.x] = atomicAdd(next, 1u);
        __syncthreads();
    }
}

extern "C" __global__ void add(unsigned* a, int* b, float* c, double* d) {
    atomicAdd(a, 2u);
    atomicAdd(b, -1);
    atomicAdd(c, 0.5f);
    atomicAdd(d, 0.25);
}

extern "C" __global__ void functions(const float* x, float* y, double* z) {
    const float number = x[threadIdx.x];
    y[0 * 32 + threadIdx.x] = max(number, 2.0f);
    y[1 * 32 + threadIdx.x] = min(number, 2.0f);
    y[2 * 32 + threadIdx.x] = __shfl_xor_sync(~0u, number, 1);
    y[3 * 32 + threadIdx.x] = __shfl_down_sync(~0u, number, 30);
    y[4 * 32 + threadIdx.x] = __shfl_sync(~0u, number, 7);
    y[5 * 32 + threadIdx.x] = __uint_as_float(__float_as_uint(number) ^ 0x80000000u);
    y[6 * 32 + threadIdx.x] = exp(-__ldg(x + threadIdx.x));
    z[threadIdx.x] = tanh(double(number));
}

extern "C" __global__ void add_number(double* y, double number) { y[threadIdx.x] += number; }

extern "C" __global__ void all_types(
    const float* x, const void* any, double* __restrict__ y, signed char a, unsigned short b, int c, unsigned d,
    long long e, float f, double g, bool h
) {
    y[0] = a + b + c + double(d) + double(e) + f + g + h + x[0] + (any != nullptr);
}
