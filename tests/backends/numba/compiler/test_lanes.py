"""Operations on lanes and microtiles: compiled, they do what the plain Python definition says, number for number."""

import functools

import numba
import numpy as np
import pytest
from numba.core import config
from xpnn.backends.numba.compiler import lanes as numba_lanes
from xpnn.backends.numba.compiler import microtiles as numba_microtiles
from xpnn.backends.numba.compiler.lane_types import Shape, Width
from xpnn.backends.numba.compiler.vector_unit import vector_unit

compiled_only = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled under NUMBA_DISABLE_JIT=1")

LANES = 8
DTYPES = ["float32", "float64"]
both_types = pytest.mark.parametrize("dtype", DTYPES)


def special_numbers(dtype):
    """A cycle through all kinds of numbers, (3, 24): zeros, halves, infinities, NaN, far ones."""
    kinds = [0.0, -0.0, 0.5, 1.5, -2.5, np.inf, -np.inf, np.nan, 1e30, -1e-30, 7.0]
    return np.resize(np.array(kinds, dtype=dtype), (3, 24))


def ordinary_numbers(dtype):
    return np.random.default_rng(1).normal(size=(3, 24)).astype(dtype)


compiled = functools.cache(numba.njit)  # once for each combination of types


def both(function, *args):
    """What a function makes of arrays as plain Python, and compiled: its arrays are changed in place."""
    results = []
    for call in (function, compiled(function)):
        copies = [arg.copy() if isinstance(arg, np.ndarray) else arg for arg in args]
        call(*copies)
        results.append([copy for copy in copies if isinstance(copy, np.ndarray)])
    return results


def assert_same(function, *args, rtol=0.0):
    with np.errstate(all="ignore"):  # plain NumPy warns of what lanes do in silence
        plain, fast = both(function, *args)
    for ours, theirs in zip(fast, plain, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)
    return plain[0]


item, put, load, load_numbers, store = (
    numba_lanes.item,
    numba_lanes.put,
    numba_lanes.load,
    numba_lanes.load_numbers,
    numba_lanes.store,
)
zeros, like, count_of, positions = (
    numba_lanes.zeros,
    numba_lanes.like,
    numba_lanes.count_of,
    numba_lanes.positions,
)
prefetch, square_root, nearest, power_of_two = (
    numba_lanes.prefetch,
    numba_lanes.square_root,
    numba_lanes.nearest,
    numba_lanes.power_of_two,
)
fma, where_less, largest, total, first_equal = (
    numba_lanes.fma,
    numba_lanes.where_less,
    numba_lanes.largest,
    numba_lanes.total,
    numba_lanes.first_equal,
)
add_outer, filled, zero_sums, in_memory, part_of = (
    numba_microtiles.add_outer,
    numba_microtiles.filled,
    numba_microtiles.zero_sums,
    numba_microtiles.in_memory,
    numba_microtiles.part_of,
)
rows_in, panels_in, load_rows, store_rows, transpose_square = (
    numba_microtiles.rows_in,
    numba_microtiles.panels_in,
    numba_microtiles.load_rows,
    numba_microtiles.store_rows,
    numba_microtiles.transpose_square,
)


def move_numbers(out, a, width):
    put(out, 0, item(a, 5))
    put(out, 1, 3)
    prefetch(a, 10**6)
    x = load(a, 25, width)
    store(out, 9, x)
    store(out, 24, like(x, item(a, 2)))
    store(out, 32, zeros(a, width))
    store(out, 40, like(x, 2))
    store(out, 48, positions(x))
    put(out, 56, count_of(x))
    put(out, 57, like(item(a, 2), 2))


@compiled_only
@both_types
def test_numbers_in_and_out(dtype):
    out = assert_same(move_numbers, np.full((3, 24), -1, dtype=dtype), special_numbers(dtype), Width(LANES)).ravel()
    flat = special_numbers(dtype).ravel()
    np.testing.assert_array_equal(out[[0, 1]], [np.inf, 3])
    np.testing.assert_array_equal(out[2:9], -1)
    np.testing.assert_array_equal(out[9:17], flat[25:33])
    np.testing.assert_array_equal(out[17:24], -1)
    np.testing.assert_array_equal(out[24:48], np.repeat([0.5, 0, 2], 8))
    np.testing.assert_array_equal(out[48:58], [0, 1, 2, 3, 4, 5, 6, 7, 8, 2])


def convert(out, a, width):
    store(out, 8, load_numbers(a, 3, load(out, 0, width)))


@compiled_only
@pytest.mark.parametrize("source", ["uint8", "int16", "int64", "float32", "float64"])
@both_types
def test_numbers_of_other_types(source, dtype):
    numbers = np.array([0, 1, 2, 255, 7, 128, 3, 200, 9, 100, 4]).astype(source)
    if source != "uint8":
        numbers[4:6] = [-128, -3]
    out = assert_same(convert, np.zeros(24, dtype=dtype), numbers, Width(LANES))
    np.testing.assert_array_equal(out[8:16], numbers[3:11].astype(dtype))
    assert not out[:8].any()
    assert not out[16:].any()


def calculate(out, a, b, width):
    for at in range(0, a.size, count_of(load(a, 0, width))):
        x, y = load(a, at, width), load(b, at, width)
        store(out[0], at, x + y)
        store(out[1], at, x - y)
        store(out[2], at, x * y)
        store(out[3], at, x / y)
        store(out[4], at, square_root(x))
        store(out[5], at, nearest(x))
        store(out[6], at, where_less(x, y, x, like(x, 3)))


@compiled_only
@both_types
@pytest.mark.parametrize("numbers", [special_numbers, ordinary_numbers])
def test_arithmetic_is_exact_lane_by_lane(dtype, numbers):
    a = numbers(dtype)
    b = a.ravel()[::-1].reshape(a.shape).copy()
    out = assert_same(calculate, np.zeros((7, a.size), dtype=dtype), a, b, Width(LANES))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(out[3], (a / b).ravel())
        np.testing.assert_array_equal(out[6], np.where(a < b, a, 3).ravel())  # 3 where one is NaN


def fused(out, a, width):
    x, y, z = load(a, 0, width), load(a, 8, width), load(a, 16, width)
    store(out, 0, fma(x, y, z))


@compiled_only
@both_types
def test_a_fused_product_and_sum(dtype):
    a = ordinary_numbers(dtype)
    eps = np.finfo(dtype).eps
    out = assert_same(fused, np.zeros(8, dtype=dtype), a, Width(LANES), rtol=16 * eps)
    np.testing.assert_allclose(out, a[0, :8] * a[0, 8:16] + a[0, 16:], rtol=16 * eps)
    # 1 - (1 + e)(1 - e) is e^2, which two roundings lose
    a[0] = np.repeat(np.array([1 + eps, -(1 - eps), 1], dtype=dtype), 8)
    out = np.zeros(8, dtype=dtype)
    compiled(fused)(out, a, Width(LANES))
    np.testing.assert_array_equal(out, np.full(8, eps**2, dtype=dtype))


def raise_two(out, a, width):
    for at in range(0, a.size, count_of(load(a, 0, width))):
        store(out, at, power_of_two(load(a, at, width)))


@compiled_only
@both_types
def test_powers_of_two(dtype):
    end = {"float32": 127, "float64": 1023}[dtype]
    exponents = np.resize(np.array([0, 1, -1, 10, -3, end, -end + 1, 60], dtype=dtype), 24)
    (plain, _), (fast, _) = both(raise_two, np.zeros(24, dtype=dtype), exponents, Width(LANES))
    np.testing.assert_array_equal(fast, np.ldexp(np.ones(24, dtype=dtype), exponents.astype(int)))
    np.testing.assert_allclose(plain, fast, rtol=2 * np.finfo(dtype).eps)  # NumPy's own may be a rounding off


def across(out, whole, a, width):
    x = load(a, 0, width)
    put(out, 0, largest(x))
    put(out, 1, total(x))
    put(whole, 0, first_equal(x, load(a, 8, width)))
    put(whole, 1, first_equal(x, like(x, largest(x))))


@compiled_only
@both_types
@pytest.mark.parametrize(
    ("numbers", "first", "best"),
    [
        ([1, 2, 3, 4, 5, 9, 7, 9], 3, 5),
        ([-5, -2, -3, -4, -8, -9, -7, -6], 8, 1),
        ([np.nan, 2, np.nan, 4, 0, 0, 0, 0], 3, 3),
        ([np.nan] * 8, 8, 8),
        ([-np.inf, 0, -np.inf, 4, 0, 0, 0, np.inf], 3, 7),
    ],
)
def test_across_the_lanes(dtype, numbers, first, best):
    a = np.array([*numbers, 0.1, 0.1, 0.1, 4, 0.1, 0.1, 0.1, 0.1], dtype=dtype)
    arguments = np.zeros(2, dtype=dtype), np.zeros(2, dtype=np.int64), a, Width(LANES)
    with np.errstate(invalid="ignore"):  # inf - inf
        plain, fast = both(across, *arguments)
        np.testing.assert_array_equal(fast[0], plain[0])
        np.testing.assert_array_equal(plain[0], [np.fmax.reduce(a[:8]), a[:8].sum()])
    assert fast[1].tolist() == plain[1].tolist() == [first, best]


def work_on_microtiles(out, a, x, width, shape):
    microtile = add_outer(filled(a, 0, 20, shape), x, 2, 3, a, 40, 11)
    microtile = add_outer(microtile, x, 3, 3, a, 60, 11)
    zero, sums = in_memory(zero_sums(a, shape)), in_memory(microtile)
    for i in range(rows_in(shape) * panels_in(shape) // 2):
        store(out[0], i * 2 * LANES, part_of(sums, i, width))
        store(out[1], i * 2 * LANES, part_of(zero, i, width))


@compiled_only
@both_types
@pytest.mark.parametrize(("rows", "panels"), [(4, 2), (8, 1), (8, 2), (2, 1)])
def test_microtiles(dtype, rows, panels):
    generator = np.random.default_rng(2)
    a, x = (generator.normal(size=size).astype(dtype) for size in (90, 30))
    out = np.ones((2, rows * panels * LANES), dtype=dtype)
    rtol = 16 * float(np.finfo(dtype).eps)
    out = assert_same(work_on_microtiles, out, a, x, Width(2 * LANES), Shape(rows, panels, LANES), rtol=rtol)
    expected = [
        a[20 * panel + lane] + sum(x[2 + n + 3 * row] * a[40 + 20 * n + 11 * panel + lane] for n in (0, 1))
        for panel in range(panels)
        for row in range(rows)
        for lane in range(LANES)
    ]
    np.testing.assert_allclose(out[0], expected, rtol=rtol, atol=rtol)
    assert not out[1].any()


def move_rows(out, a, width, part_width):
    part = load(a, 0, part_width)
    store(out[0], 0, load_rows(a, 1, 9, part, width))
    store_rows(out[1], 3, 9, part, width)


@compiled_only
@both_types
def test_rows_of_a_part(dtype):
    a = np.random.default_rng(2).normal(size=80).astype(dtype)
    out = assert_same(move_rows, np.zeros((2, 80), dtype=dtype), a, Width(LANES), Width(4 * LANES))
    np.testing.assert_array_equal(out[0, :32], [a[1 + 9 * i + j] for i in range(4) for j in range(8)])
    expected = np.zeros(80, dtype=dtype)
    for i in range(4):
        expected[3 + 9 * i : 11 + 9 * i] = a[8 * i : 8 * i + 8]
    np.testing.assert_array_equal(out[1], expected)
    assert not out[0, 32:].any()


def transpose_into(out, a, width):
    transpose_square(a, 3, out, 5, width)


@compiled_only
@both_types
@pytest.mark.parametrize("lanes", [8, 16])
def test_transpose_of_a_square(dtype, lanes):
    a = np.random.default_rng(3).normal(size=3 + lanes**2).astype(dtype)
    out = assert_same(transpose_into, np.zeros(lanes**2 + 6, dtype=dtype), a, Width(lanes))
    np.testing.assert_array_equal(out[5:-1].reshape(lanes, lanes), a[3:].reshape(lanes, lanes).T)
    assert out[:5].tolist() == [0] * 5
    assert out[-1] == 0


@pytest.mark.parametrize(
    ("machine", "features", "lanes", "single", "double"),
    [
        ("x86_64", {"avx2": True, "avx512f": True}, (16, 8), [(8, 2), (8, 1)], [(8, 2), (8, 1)]),
        ("AMD64", {"avx2": True, "avx512f": False}, (8, 8), [(4, 2), (8, 1)], [(4, 1), (4, 1)]),
        ("arm64", {"neon": True}, (8, 8), [(4, 2), (8, 1)], [(4, 1), (4, 1)]),
        ("x86_64", {"sse2": True}, (8, 8), [(4, 1), (4, 1)], [(2, 1), (2, 1)]),
    ],
)
def test_microtiles_take_half_of_the_registers(machine, features, lanes, single, double):
    unit = vector_unit(machine, features)
    for dtype, count, shapes in zip((np.float32, np.float64), lanes, (single, double), strict=True):
        assert unit.lanes(dtype) == count
        assert [(shape.rows, shape.panels) for shape in unit.shapes(dtype, count)] == shapes
        wide = unit.shapes(dtype, count)[0]
        registers = wide.rows * wide.panels * count * np.dtype(dtype).itemsize // unit.vector_bytes
        assert registers == unit.registers // 2
