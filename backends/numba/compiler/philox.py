"""NumPy's Philox generator in kernels: compare eight consecutive draws with a bound, and select lanes by the bits.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", Philox 4x64 with ten rounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from .lane_types import INT32, compiled_as, element_address, shuffled

INT64, INT128 = ir.IntType(64), ir.IntType(128)
MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B  # added to the two words of the key after each round
ROUNDS = 10


def draws_above(number: int, block: int, step: int, seed: int, layer: int, bound: int) -> int:
    """Return a byte whose bits tell which of eight 32-bit draws are above `bound`, the first draw in the lowest bit.

    They are draws `8 * number` to `8 * number + 7` of `Philox(key=[seed, layer], counter=[0, 0, block, step])`.
    """
    words = np.random.Philox(key=[seed, layer], counter=[number, 0, block, step]).random_raw(4)
    draws = words.astype("<u8").view("<u4")  # (8,): the lower half of a word comes first
    return int(np.packbits(draws > bound, bitorder="little")[0])


@compiled_as(draws_above, lambda number, block, step, seed, layer, bound: types.int64)
def _draws_above(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    numbers = [context.cast(builder, arg, kind, types.int64) for arg, kind in zip(args, sig.args, strict=True)]
    number, block, step, seed, layer, bound = numbers
    words = [builder.add(number, INT64(1)), INT64(0), block, step]  # NumPy increments the counter before it draws
    keys = [seed, layer]
    for _ in range(ROUNDS):
        wide = [
            builder.mul(builder.zext(word, INT128), INT128(by))
            for word, by in zip(words[::2], MULTIPLIERS, strict=True)
        ]
        low = [builder.trunc(each, INT64) for each in wide]
        high = [builder.trunc(builder.lshr(each, INT128(64)), INT64) for each in wide]
        words = [
            builder.xor(builder.xor(high[1], keys[0]), words[1]), low[1],
            builder.xor(builder.xor(high[0], keys[1]), words[3]), low[0],
        ]  # fmt: skip
        keys = [builder.add(key, INT64(by)) for key, by in zip(keys, WEYL, strict=True)]
    vector = ir.Constant(ir.VectorType(INT64, len(words)), ir.Undefined)
    for i, word in enumerate(words):
        vector = builder.insert_element(vector, word, INT32(i))
    draws = builder.bitcast(vector, ir.VectorType(INT32, 2 * len(words)))
    bounds = builder.insert_element(
        ir.Constant(ir.VectorType(INT32, 1), ir.Undefined), builder.trunc(bound, INT32), INT32(0)
    )
    above = builder.icmp_unsigned(">", draws, shuffled(builder, bounds, [0] * 2 * len(words)))
    return builder.zext(builder.bitcast(above, ir.IntType(2 * len(words))), INT64)


def chosen_by_bits(bits: Any, at: int, lanes: Any) -> Any:
    """Keep the lanes whose bit is set, and zero the others: lane i has bit `at + i` of `bits`, (bytes,), lowest first.

    At most 25 lanes: four bytes are read, from that of bit `at` on.
    """
    first = at // 8
    return lanes * np.unpackbits(bits[first : first + 4], bitorder="little")[at % 8 :][: len(lanes)]


@compiled_as(chosen_by_bits, lambda bits, at, lanes: lanes)
def _chosen_by_bits(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    at, lanes = context.cast(builder, args[1], sig.args[1], types.int64), args[2]
    place = [args[0], builder.lshr(at, INT64(3))]
    pointer = element_address(context, builder, (sig.args[0], types.int64), place)
    word = builder.load(builder.bitcast(pointer, INT32.as_pointer()))
    word.align = 1
    word = builder.lshr(word, builder.trunc(builder.and_(at, INT64(7)), INT32))
    count = lanes.type.count
    mask = builder.bitcast(builder.trunc(word, ir.IntType(count)), ir.VectorType(ir.IntType(1), count))
    return builder.select(mask, lanes, ir.Constant(lanes.type, [0.0] * count))
