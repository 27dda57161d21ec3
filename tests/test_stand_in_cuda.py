"""The stand-in's CUDA: kernels built for the host, streams, graphs, and refusals of what a device takes in silence."""

# ruff: noqa: ARG005 - the cases of a test take the same arguments

import shutil
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")

KERNELS = """
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
"""


@pytest.fixture
def host(cupy):  # noqa: ARG001
    """The engine below the stand-in."""
    return sys.modules["host_kernels"]


@pytest.fixture
def module(cupy):
    return cupy.RawModule(code=KERNELS)


@pytest.fixture
def together(cupy):
    """The same kernels for cooperative launches."""
    return cupy.RawModule(code=KERNELS, enable_cooperative_groups=True)


# What kernels are given


def test_indices_of_three_dimensions(cupy, module):
    y = cupy.zeros(2 * 3 * 2 * 5 * 4 * 3, dtype=np.int32)
    module.get_function("indices")((2, 3, 2), (5, 4, 3), (y,))
    block, thread = (np.array(list(np.ndindex(sizes))) for sizes in ((2, 3, 2), (3, 4, 5)))  # z, y, x
    expected = (block @ [100000, 10000, 1000])[:, None] + thread @ [100, 10, 1]
    np.testing.assert_array_equal(y.get(), expected.ravel())


@pytest.mark.parametrize("threads", [1, 31, 32, 33, 256, 1024])
@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_a_barrier_holds_every_thread(cupy, module, threads, rounds):
    x = np.arange(3 * threads, dtype=np.float32).reshape(3, threads)
    y = cupy.empty((3, threads), dtype=np.float32)
    for _ in range(2):  # the second time in the other order
        y.fill(0)
        module.get_function("rotate")((3,), (threads,), (cupy.array(x), y, np.int32(rounds)), shared_mem=4 * threads)
        np.testing.assert_array_equal(y.get(), np.roll(x, -rounds, axis=1))


def test_without_a_barrier_the_result_shows_it(cupy, module):
    x, y = cupy.arange(64, dtype=np.float32), cupy.empty(64, dtype=np.float32)
    module.get_function("rotate_without_barrier")((1,), (64,), (x, y), shared_mem=256)
    assert np.isnan(y.get()).any()


def test_sum_through_shared_memory(cupy, module):
    x = np.random.default_rng(0).integers(-100, 100, 1000).astype(np.float32)
    y = cupy.empty(4, dtype=np.float32)
    module.get_function("sum")((4,), (256,), (cupy.array(x), y, np.int32(1000)), shared_mem=1024)
    np.testing.assert_array_equal(y.get(), np.pad(x, (0, 24)).reshape(4, 256).sum(axis=1))


def test_shared_memory_is_garbage_in_every_block(cupy, module):
    y = cupy.zeros(32, dtype=np.float32)
    for _ in range(2):
        module.get_function("read_shared")((3,), (32,), (y,), shared_mem=128)
        assert np.isnan(y.get()).all()


@pytest.mark.parametrize("threads", [1, 48, 1024])
def test_orders_alternate(cupy, module, threads):
    numbers = []
    for _ in range(2):
        y = cupy.empty(3 * threads, dtype=np.uint32)
        module.get_function("order")((3,), (threads,), (cupy.zeros(1, dtype=np.uint32), y))
        numbers.append(y.get().reshape(3, threads))
        np.testing.assert_array_equal(np.sort(numbers[-1].ravel()), np.arange(3 * threads))
    blocks = [list(np.argsort(each[:, 0])) for each in numbers]
    assert blocks[0] == blocks[1][::-1]
    assert threads == 1 or (numbers[0][0, 0] < numbers[0][0, 1]) != (numbers[1][0, 0] < numbers[1][0, 1])


def test_orders_alternate_between_barriers(cupy, module):
    y = cupy.empty((4, 64), dtype=np.uint32)
    args = cupy.zeros(1, dtype=np.uint32), y, np.int32(4)
    module.get_function("order_of_phases")((1,), (64,), args)
    orders = np.argsort(y.get(), axis=1)  # (phases, threads)
    np.testing.assert_array_equal(orders[1:], orders[:-1, ::-1])


def test_atomics_add(cupy, module):
    arrays = [cupy.zeros(1, dtype=dtype) for dtype in (np.uint32, np.int32, np.float32, np.float64)]
    module.get_function("add")((3,), (100,), tuple(arrays))
    assert [each.get()[0] for each in arrays] == [600, -300, 150, 75]


def test_functions_of_numbers_and_of_a_warp(cupy, module):
    x = np.arange(32, dtype=np.float32)
    x[5] = np.nan
    y, z = cupy.empty((7, 32), dtype=np.float32), cupy.empty(32, dtype=np.float64)
    module.get_function("functions")((1,), (32,), (cupy.array(x), y, z))
    expected = [
        np.fmax(x, 2),
        np.fmin(x, 2),
        x[np.arange(32) ^ 1],
        [*x[30:], *x[2:]],
        np.full(32, x[7]),
        -x,
        np.exp(-x),
    ]
    np.testing.assert_allclose(y.get(), expected, rtol=1e-6)
    np.testing.assert_allclose(z.get(), np.tanh(x.astype(float)))


# A warp's matrices


def bf16(values):
    """The upper halves of float32 values."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any(), "not exact"
    return (bits >> 16).astype(np.uint16)


def matrices(seed, *shape):
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.float32) / 8


def test_product_of_fragments(cupy, module):
    a, b, c = matrices(1, 16, 16), matrices(2, 16, 8), matrices(3, 16, 8)
    d = cupy.array(c)
    module.get_function("product")((1,), (32,), (cupy.array(bf16(a)), cupy.array(bf16(b)), d))
    np.testing.assert_array_equal(d.get(), c + a @ b)


@pytest.mark.parametrize("position", range(16))
def test_every_position_of_the_fragments(cupy, module, position):
    one = np.zeros((16, 16), np.float32)
    one[:, position] = np.arange(1, 17)  # one column of a takes one row of b to every row of d
    b, d = matrices(4, 16, 8), cupy.zeros((16, 8), dtype=np.float32)
    module.get_function("product")((1,), (32,), (cupy.array(bf16(one)), cupy.array(bf16(b)), d))
    np.testing.assert_array_equal(d.get(), np.outer(np.arange(1, 17), b[position]))


@pytest.mark.parametrize("warps", [1, 3])
def test_fragments_by_ldmatrix(cupy, module, warps):
    a, b = matrices(5, warps, 16, 16), matrices(6, warps, 16, 8)
    d = cupy.empty((warps, 16, 8), dtype=np.float32)
    args = cupy.array(bf16(a)), cupy.array(bf16(b)), d
    module.get_function("product_by_ldmatrix")((1,), (32 * warps,), args, shared_mem=768 * warps)
    np.testing.assert_array_equal(d.get(), a @ b)


@pytest.mark.parametrize("transposed", [0, 1])
def test_ldmatrix(cupy, module, transposed):
    x = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    r = cupy.empty((32, 4), dtype=np.uint32)
    args = cupy.array(x), r, np.int32(transposed), np.int32(0)
    module.get_function("ldmatrix")((1,), (32,), args, shared_mem=512)
    g, t = np.arange(32) // 4, 2 * (np.arange(32) % 4)
    low, high = (x[:, t, g], x[:, t + 1, g]) if transposed else (x[:, g, t], x[:, g, t + 1])  # (4, 32) each
    np.testing.assert_array_equal(r.get(), (low + 65536 * high.astype(np.uint32)).T)


@pytest.mark.parametrize(
    ("shift", "said"), [(1, "not at a multiple of 16 bytes"), (8, "outside the block's 512 bytes")]
)
def test_ldmatrix_of_a_wrong_row(cupy, host, module, shift, said):
    args = cupy.empty(256, dtype=np.uint16), cupy.empty(128, dtype=np.uint32), np.int32(0), np.int32(shift)
    with pytest.raises(host.KernelFault, match=f"load_matrices of a row .*{said}"):
        module.get_function("ldmatrix")((1,), (32,), args, shared_mem=512)


# Blocks that wait for each other, and threads that wait for ever


@pytest.mark.parametrize("blocks", [1, 3])
def test_grid_barrier(cupy, together, blocks):
    x = np.random.default_rng(7).integers(0, 9, (blocks, 40))
    numbers, expected = cupy.array(x), x
    together.get_function("exchange")((blocks,), (40,), (numbers, cupy.zeros(1, dtype=np.uint32), np.int32(5)))
    for _ in range(5):
        expected = expected.sum(axis=0) + np.arange(blocks)[:, None]
    np.testing.assert_array_equal(numbers.get(), expected)


def test_a_grid_barrier_needs_a_cooperative_launch(cupy, host, module):
    args = cupy.zeros((2, 40), dtype=np.int64), cupy.zeros(1, dtype=np.uint32), np.int32(1)
    with pytest.raises(host.KernelFault, match=r"deadlock, .*1 of 40 threads wait at pause .*39 .* at __syncthreads"):
        module.get_function("exchange")((2,), (40,), args)


@pytest.mark.parametrize(
    ("name", "threads", "args", "said"),
    [
        ("leave_early", 64, [40], "40 of 64 threads wait at __syncthreads .*, 24 of 64 threads have returned"),
        ("leave_early", 256, [255], "255 of 256 threads wait at __syncthreads .*, 1 of 256 threads have returned"),
        ("two_barriers", 64, [3], "is at __syncthreads in .* while another of its block is at that in "),
        ("part_of_a_warp", 64, [40], "8 of 64 threads wait at mma_bf16 .*, 24 of 64 threads have returned|56 of 64"),
        ("part_of_a_warp", 20, [20], "mma_bf16 in a warp of 20 threads"),
    ],
)
def test_a_meeting_that_some_miss(cupy, host, module, name, threads, args, said):
    for _ in range(2):  # in both orders, and the first fault leaves nothing behind
        with pytest.raises(host.KernelFault, match=f"^kernel {name}.*({said})"):
            module.get_function(name)((2,), (threads,), tuple(map(np.int32, args)))
    test_sum_through_shared_memory(cupy, module)


@pytest.mark.parametrize(("pauses", "said"), [(1, "wait at pause"), (0, r"spins at load_acquire without pause\(\)")])
def test_a_number_that_never_comes(cupy, host, module, pauses, said):
    with pytest.raises(host.KernelFault, match=said):
        module.get_function("wait_for")((1,), (2,), (cupy.zeros(1, dtype=np.uint32), np.int32(pauses)))


def test_waiting_lets_others_go_on(cupy, module):
    for _ in range(2):
        y = cupy.empty(70, dtype=np.uint32)
        module.get_function("wait_for_the_last")((1,), (70,), (cupy.zeros(1, dtype=np.uint32), y))
        assert (y.get() == 5).all()


# Launches that are refused


def test_arguments_of_all_types(cupy, module):
    y = cupy.empty(1, dtype=np.float64)
    kinds = np.int8, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64, np.bool_
    values = [
        kind(value) for kind, value in zip(kinds, (-5, 65535, -7, 2**32 - 1, 2**40, 0.5, 1e-3, True), strict=True)
    ]
    any_array = cupy.zeros(3, dtype=np.int16)
    module.get_function("all_types")((1,), (1,), (cupy.full(1, 2, dtype=np.float32), any_array, y, *values))
    np.testing.assert_allclose(y.get(), sum(map(float, values)) + 2 + 1, rtol=1e-15)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (lambda x, y: (x, y), "has 3 arguments, got 2"),
        (lambda x, y: (x, y, 4), "argument 2 must be numpy.int32, got <class 'int'>"),
        (lambda x, y: (x, y, np.int64(4)), "argument 2 must be numpy.int32, got <class 'numpy.int64'>"),
        (lambda x, y: (x, y, np.uint32(4)), "argument 2 must be numpy.int32"),
        (lambda x, y: (x, y, np.float32(4)), "argument 2 must be numpy.int32"),
        (lambda x, y: (x, y, x), "argument 2 must be numpy.int32"),
        (lambda x, y: (x, x.data.ptr, np.int32(4)), "argument 1 must be a device array"),
        (lambda x, y: (x.get(), y, np.int32(4)), "argument 0 must be a device array"),
        (lambda x, y: (x.astype(np.float64), y, np.int32(4)), "argument 0 must be of float32, got float64"),
        (lambda x, y: (x.view(np.int32), y, np.int32(4)), "argument 0 must be of float32, got int32"),
        (lambda x, y: (x[::2], y, np.int32(4)), "argument 0 must be C-contiguous"),
    ],
)
def test_wrong_arguments(cupy, module, args, said):
    x, y = cupy.zeros(256, dtype=np.float32), cupy.zeros(1, dtype=np.float32)
    with pytest.raises(TypeError, match=f"kernel sum:? ?{said}"):
        module.get_function("sum")((1,), (256,), args(x, y), shared_mem=1024)


@pytest.mark.parametrize(
    ("grid", "block", "error", "said"),
    [
        ((1,), (257,), "KernelFault", "257 threads a block, its __launch_bounds__ are 256"),
        ((1,), (1025,), "CUDADriverError", "CUDA_ERROR_INVALID_VALUE"),
        ((1,), (64, 32), "CUDADriverError", "CUDA_ERROR_INVALID_VALUE"),
        ((0,), (64,), "CUDADriverError", "CUDA_ERROR_INVALID_VALUE"),
        ((1, 65536), (64,), "CUDADriverError", "CUDA_ERROR_INVALID_VALUE"),
        (3, (64,), "TypeError", "grid must be a tuple"),
        ((1,), (np.int32(64),), "TypeError", "block must be a tuple"),
    ],
)
def test_wrong_sizes(cupy, module, grid, block, error, said):
    args = cupy.zeros(256, dtype=np.float32), cupy.zeros(1, dtype=np.float32), np.int32(4)
    with pytest.raises((TypeError, RuntimeError), match=said) as caught:
        module.get_function("sum")(grid, block, args, shared_mem=1024)
    assert type(caught.value).__name__ == error


def test_shared_memory_must_be_asked_for(cupy, module):
    kernel = module.get_function("write_shared")
    invalid = pytest.raises(cupy.cuda.driver.CUDADriverError, match="CUDA_ERROR_INVALID_VALUE")
    with invalid:
        kernel((1,), (1,), (np.int32(0),), shared_mem=49153)
    kernel((1,), (1,), (np.int32(49151),), shared_mem=49152)
    with invalid:
        kernel.max_dynamic_shared_size_bytes = 232449
    kernel.max_dynamic_shared_size_bytes = 232448
    kernel((1,), (1,), (np.int32(232447),), shared_mem=232448)
    with invalid:
        kernel((1,), (1,), (np.int32(0),), shared_mem=232449)


def test_less_shared_memory_on_another_device(cupy, module, monkeypatch):
    monkeypatch.setattr(cupy.cuda.device, "shared_memory", 64 << 10)
    assert cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"] == 65536
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="a block has 65536 bytes, not 65537"):
        module.get_function("write_shared").max_dynamic_shared_size_bytes = 65537


def test_writing_beyond_shared_memory(host, module):
    with pytest.raises(host.KernelFault, match=r"wrote 3 bytes beyond its 100 of shared memory"):
        module.get_function("write_shared")((1,), (1,), (np.int32(102),), shared_mem=100)


def test_a_cooperative_launch_must_fit_the_device(cupy, together, monkeypatch):
    args = cupy.zeros((5, 1), dtype=np.int64), cupy.zeros(1, dtype=np.uint32), np.int32(1)
    with pytest.raises(
        cupy.cuda.driver.CUDADriverError, match=r"COOPERATIVE_LAUNCH_TOO_LARGE: .* of 4 blocks, of which 3"
    ):
        together.get_function("exchange")((4,), (1,), args)
    monkeypatch.setattr(cupy.cuda.device, "multiprocessors", 5)
    together.get_function("exchange")((5,), (1,), args)
    np.testing.assert_array_equal(args[0].get().ravel(), np.arange(5))


# Building


def test_options_reach_the_source(cupy, tmp_path):
    (tmp_path / "number.cuh").write_text("#pragma once\n#define NUMBER 4\n")
    code = '#include "number.cuh"\nextern "C" __global__ void name(float* y) { y[0] = NUMBER + FACTOR; }\n'
    options = ("-std=c++17", "--use_fast_math", "--fmad=false", "-lineinfo", f"-I{tmp_path}", "-DFACTOR=0.5f")
    y = cupy.empty(1, dtype=np.float32)
    cupy.RawModule(code=code, options=options).get_function("name")((1,), (1,), (y,))
    assert y.get()[0] == 4.5
    (tmp_path / "number.cuh").write_text("#pragma once\n#define NUMBER 7\n")  # a header that changed is seen
    cupy.RawModule(code=code, options=options).get_function("name")((1,), (1,), (y,))
    assert y.get()[0] == 7.5


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("{ y[0] = absent; }", "'absent' was not declared"),
        ("{ int unused; y[0] = 1; }", "unused variable 'unused'"),
        ("{ __shared__ float x[4]; y[0] = x[0]; }", "__shared__"),
    ],
)
def test_a_source_that_does_not_compile(cupy, monkeypatch, code, said):
    monkeypatch.setenv("LC_ALL", "C")
    module = cupy.RawModule(code=f'\n\nextern "C" __global__ void name(float* y) {code}')
    with pytest.raises(cupy.cuda.compiler.CompileException, match=rf"cu:3:(.|\n)*{said}"):
        module.get_function("name")


def test_an_option_that_nvrtc_does_not_know(cupy):
    with pytest.raises(ValueError, match="does not know the option '-O3'"):
        cupy.RawModule(code=KERNELS, options=("-O3",)).get_function("sum")


def test_a_kernel_that_is_not_there(cupy, module):
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match=r"CUDA_ERROR_NOT_FOUND: .*: grid_barrier, of "):
        module.get_function("grid_barrier")


# Device arrays


def test_new_memory_is_not_cleared_and_lies_as_on_a_device(cupy):
    for shape in (3, (2, 5)):
        array = cupy.empty(shape, dtype=np.float32)
        assert np.isnan(array.get()).all()
        assert array.data.ptr % 512 == 0
    assert (cupy.empty_like(cupy.zeros(4, dtype=np.int16)).get() == -1).all()
    for copied in (np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2).T):
        on_device = cupy.array(copied)
        assert on_device.strides == copied.strides
        np.testing.assert_array_equal(on_device.get(), copied)


def test_views_share_memory(cupy, module):
    array = cupy.zeros(12, dtype=np.float64)
    view = array[3:7].reshape(2, 2)
    assert view.data.ptr == array.data.ptr + 24
    view[...] = cupy.ones((2, 2))
    view[1].set(np.full(2, 5.0))
    module.get_function("add_number")((1,), (2,), (view[0], np.float64(10)))
    np.testing.assert_array_equal(array.get(), [0, 0, 0, 11, 11, 5, 5, 0, 0, 0, 0, 0])


def test_reads_are_counted(cupy):
    array, before = cupy.arange(3), cupy.reads
    np.testing.assert_array_equal(array.get(), [0, 1, 2])
    np.testing.assert_array_equal(cupy.asnumpy(array), [0, 1, 2])
    assert cupy.reads == before + 2


@pytest.mark.parametrize(
    ("value", "error"),
    [(np.zeros(3, np.float32), TypeError), (np.zeros(2), ValueError), ([0, 0, 0], TypeError)],
)
def test_set_wants_the_same_type_and_shape(cupy, value, error):
    with pytest.raises(error):
        cupy.zeros(3).set(value)


def test_host_arrays_are_not_assigned(cupy):
    with pytest.raises(TypeError, match="Unsupported type"):
        cupy.zeros(3)[...] = np.zeros(3)


# Streams and graphs


@pytest.fixture
def adds(module):
    """`adds(array, number)` launches a kernel that adds a number to an array's elements."""
    kernel = module.get_function("add_number")
    return lambda array, number: kernel((1,), (array.size,), (array, np.float64(number)))


@pytest.fixture
def stream(cupy):
    return cupy.cuda.Stream(non_blocking=True)


def test_a_launch_runs_at_once_and_is_counted(cupy, adds, stream):
    y = cupy.zeros(3)
    adds(y, 1)
    with stream:
        assert cupy.cuda.get_current_stream() is stream
        adds(y, 2)
        stream.synchronize()
    assert cupy.cuda.get_current_stream() is cupy.cuda.Stream.null
    np.testing.assert_array_equal(y.get(), [3, 3, 3])
    assert (cupy.cuda.launches, cupy.cuda.replays) == (2, 0)


def test_streams_are_restored_in_turn(cupy, stream):
    other = cupy.cuda.Stream()
    other.use()
    with stream, other, stream:
        assert cupy.cuda.get_current_stream() is stream
    assert cupy.cuda.get_current_stream() is other
    cupy.cuda.Stream.null.use()


def test_a_graph_does_what_was_captured(cupy, adds, stream):
    y, z = cupy.zeros(3), cupy.zeros(2)
    number = 1
    with stream:
        stream.begin_capture()
        assert stream.is_capturing()
        adds(y, number)
        adds(z, 10)
        adds(y[1:], 100)
        graph = stream.end_capture()
    number = 2
    np.testing.assert_array_equal(y.get(), [0, 0, 0])
    assert (cupy.cuda.launches, cupy.cuda.replays) == (0, 0)
    graph.launch(stream)
    y[0] = 50
    graph.launch(stream)
    np.testing.assert_array_equal(y.get(), [51, 202, 202])
    np.testing.assert_array_equal(z.get(), [20, 20])
    assert (cupy.cuda.launches, cupy.cuda.replays) == (0, 2)


def test_only_the_capturing_stream_records(cupy, adds, stream):
    y = cupy.zeros(1)
    stream.begin_capture()
    adds(y, 1)  # on the null stream
    assert y.get()[0] == 1
    stream.end_capture().launch()
    assert y.get()[0] == 1


def test_a_graph_with_a_freed_array(cupy, host, adds, stream):
    y, z = cupy.zeros(4), cupy.zeros(4)
    with stream:
        stream.begin_capture()
        adds(z, 1)
        adds(y[1:3], 1)
        graph = stream.end_capture()
    part = y[3:]  # the memory lives as long as any view of it
    del y
    graph.launch(stream)
    del part
    with pytest.raises(host.KernelFault, match="kernel add_number of a graph: the array of argument 0 has been freed"):
        graph.launch(stream)


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda cupy, y: y.get(),
        lambda cupy, y: cupy.asnumpy(y),
        lambda cupy, y: cupy.cuda.get_current_stream().synchronize(),
        lambda cupy, y: cupy.cuda.Device().synchronize(),
        lambda cupy, y: cupy.array(np.zeros(3)),
        lambda cupy, y: cupy.empty(3),
        lambda cupy, y: cupy.zeros_like(y),
        lambda cupy, y: y @ y,
        lambda cupy, y: y + 1,
        lambda cupy, y: y.sum(),
        lambda cupy, y: y.copy(),
        lambda cupy, y: y.fill(0),
        lambda cupy, y: y.take(y.astype(int), axis=0),
        lambda cupy, y: y.set(np.zeros(3)),
        lambda cupy, y: y.__setitem__(0, 1),
        lambda cupy, y: cupy.where(y, y, y),
    ],
)
def test_a_capturing_stream_takes_only_kernels(cupy, adds, stream, forbidden):
    y = cupy.ones(3)
    with stream:
        stream.begin_capture()
        adds(y[:2].reshape(2, 1), 1)  # views are no work for the device
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureUnsupported"):
            forbidden(cupy, y)
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
            stream.end_capture()
    np.testing.assert_array_equal(y.get(), [1, 1, 1])


def test_no_graph_is_launched_on_a_capturing_stream(cupy, adds, stream):
    y = cupy.zeros(1)
    with stream:
        stream.begin_capture()
        adds(y, 1)
        graph = stream.end_capture()
        stream.begin_capture()
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match=r"Graph\.launch on a stream that captures"):
            graph.launch()


def test_which_streams_capture(cupy, stream):
    for blocking in (cupy.cuda.Stream(), cupy.cuda.Stream.null):
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="non_blocking=True"):
            blocking.begin_capture()
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="does not capture"):
        stream.end_capture()
    stream.begin_capture()
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="captures already"):
        stream.begin_capture()


def test_arguments_are_checked_while_capturing(module, stream):
    with stream:
        stream.begin_capture()
        with pytest.raises(TypeError, match="has 2 arguments"):
            module.get_function("add_number")((1,), (1,), ())


# Under a sanitizer

TWO_PHASES = """
__device__ void grid_barrier(unsigned* arrived) {
    __syncthreads();
    if (threadIdx.x == 0) {
        add_release(arrived, 1);
        while (load_acquire(arrived) < gridDim.x) pause();
    }
    __syncthreads();
}

// The sum of x (gridDim.x * blockDim.x): of each block, then by each block of all blocks.
extern "C" __global__ void two_phases(const float* x, float* parts, float* y, unsigned* arrived) {
    SHARED_MEMORY(room);
    float* sums = reinterpret_cast<float*>(room);
    const int t = threadIdx.x;
    sums[t] = x[blockIdx.x * blockDim.x + t];
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();  // of the block
        if (t < half) sums[t] += sums[t + half];
    }
    if (t == 0) parts[blockIdx.x] = sums[0];
    grid_barrier(arrived);  // of the grid
    if (t == 0)
        for (unsigned b = 0; b < gridDim.x; ++b) y[blockIdx.x] += parts[b];
}
"""


@pytest.fixture
def two_phases(host):
    """`two_phases(code, sanitizer)`: the sum's launch under a sanitizer."""

    def run(code=TWO_PHASES, sanitizer="thread", *, parts=3, shared_mem=256):
        if reason := host.why_no_compiler(sanitizer):
            pytest.skip(reason)
        arrays = (
            np.arange(3 * 64, dtype=np.float32),
            *(np.zeros(n, np.float32) for n in (parts, 3)),
            np.zeros(1, np.uint32),
        )
        launch = host.Launch(code, (), "two_phases", (3,), (64,), arrays, shared_mem, cooperative=True)
        return host.sanitize([launch], sanitizer)

    return run


def line_of(text, code=TWO_PHASES):
    return 1 + next(number for number, line in enumerate(code.splitlines()) if text in line)


@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_a_correct_kernel_is_clean(two_phases, sanitizer):
    results, report = two_phases(sanitizer=sanitizer)
    assert report == ""
    np.testing.assert_array_equal(results[0][1], np.arange(192).reshape(3, 64).sum(axis=1))
    np.testing.assert_array_equal(results[0][2], np.full(3, np.arange(192).sum()))


def test_a_missing_barrier_of_the_block_is_a_race(two_phases):
    report = two_phases(TWO_PHASES.replace("__syncthreads();  // of the block", "")).report
    assert "ThreadSanitizer: data race" in report
    assert f".cu:{line_of('if (t < half)')} " in report


def test_a_missing_barrier_of_the_grid_is_a_race(two_phases):
    report = two_phases(TWO_PHASES.replace("grid_barrier(arrived);  // of the grid", "(void)arrived;")).report
    assert "ThreadSanitizer: data race" in report
    assert f".cu:{line_of('y[blockIdx.x] += parts[b]')} " in report
    assert f".cu:{line_of('if (t == 0) parts[blockIdx.x]')} " in report


def test_a_barrier_that_does_not_publish_is_a_race(two_phases):
    report = two_phases(TWO_PHASES.replace("add_release(arrived, 1);", "atomicAdd(arrived, 1u);")).report
    assert "ThreadSanitizer: data race" in report


def test_blocks_of_an_ordinary_launch_race(host):
    if reason := host.why_no_compiler("thread"):
        pytest.skip(reason)
    code = 'extern "C" __global__ void name(float* y) {\n    y[threadIdx.x] += blockIdx.x;\n}\n'
    launch = host.Launch(code, (), "name", (1,), (64,), (np.zeros(64, np.float32),))
    assert host.sanitize([launch, launch]).report == ""  # two launches follow each other
    launch.grid = (2,)
    assert ".cu:2 " in host.sanitize([launch]).report


@pytest.mark.parametrize("writer", [0, 40, 63])
def test_a_race_between_two_barriers(host, writer):
    if reason := host.why_no_compiler("thread"):
        pytest.skip(reason)
    code = """
    extern "C" __global__ void name(float* y, int writer) {
        SHARED_MEMORY(room);
        __syncthreads();
        if (int(threadIdx.x) == writer) room[0] = 1;
        if (threadIdx.x == 20) y[0] = room[0];
        __syncthreads();
    }
    """
    launch = host.Launch(code, (), "name", (1,), (64,), (np.zeros(1, np.float32), np.int32(writer)), 1)
    report = host.sanitize([launch]).report
    assert ".cu:5 " in report
    assert ".cu:6 " in report


def test_a_race_of_a_warp(host):
    if reason := host.why_no_compiler("thread"):
        pytest.skip(reason)
    code = KERNELS.replace("    __syncwarp();\n    unsigned fragment", "    unsigned fragment")
    arrays = np.zeros((16, 16), np.uint16), np.zeros((16, 8), np.uint16), np.zeros((16, 8), np.float32)
    reports = [
        host.sanitize([host.Launch(text, (), "product_by_ldmatrix", (1,), (32,), arrays, 768)]).report
        for text in (KERNELS, code)
    ]
    assert reports[0] == ""
    assert f".cu:{line_of('load_matrices(fragment', code)} " in reports[1]


@pytest.mark.parametrize(
    ("change", "line"),
    [({"parts": 2}, "if (t == 0) parts[blockIdx.x]"), ({"shared_mem": 252}, "sums[t] = x[")],
)
def test_an_access_beyond_an_array(two_phases, change, line):
    report = two_phases(sanitizer="address", **change).report
    assert "AddressSanitizer: heap-buffer-overflow" in report
    assert f".cu:{line_of(line)}" in report


def test_a_deadlock_under_a_sanitizer(two_phases):
    report = two_phases(TWO_PHASES.replace("< gridDim.x) pause()", "<= gridDim.x) pause()")).report
    assert report.startswith("kernel two_phases: deadlock, block (0, 0, 0): ")
    assert "data race" not in report


def test_what_ran_on_the_stand_in_runs_under_a_sanitizer(cupy, host, adds, stream, module):
    if reason := host.why_no_compiler("thread"):
        pytest.skip(reason)
    y = cupy.zeros(8)
    with stream:
        stream.begin_capture()
        adds(y[2:5], 1)
        graph = stream.end_capture()
    with host.recording() as launches:
        graph.launch(stream)
        adds(y, 10)
        module.get_function("order")((1,), (8,), (cupy.zeros(1, dtype=np.uint32), y.view(np.uint32)[:8]))
    adds(y, 1)  # no longer recorded
    assert [launch.name for launch in launches] == ["add_number", "add_number", "order"]
    results, report = host.sanitize(launches)
    assert report == ""
    np.testing.assert_array_equal(results[0][0], [1, 1, 1])
    np.testing.assert_array_equal(results[1][0], [10, 10, 11, 11, 11, 10, 10, 10])
