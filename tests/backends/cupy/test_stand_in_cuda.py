"""The stand-in's kernels, built for the host: threads, warps, memory; and what a device takes in silence is refused."""

# ruff: noqa: ARG005 - the cases of a test take the same arguments

import shutil
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")

KERNELS = (Path(__file__).parents[2] / "stand_in" / "examples.cu").read_text(encoding="utf-8")


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
