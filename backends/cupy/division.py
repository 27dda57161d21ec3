"""Division of a step among the thread blocks of the kernels in steps.cu."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from .device import Device
from .source import KernelSpec
from .tiles import SCALAR_TILES, TENSOR_TILES, THREADS, Tile, choose_tile, count, deepened

# Layers whose weights have so few numbers together are gone through by one kernel, a few rows to a block.
LATER_WEIGHTS = 1 << 16
LATER_ROWS = (8, 4, 2, 1)
# Rows of a shard of the gradients at least, and bytes of all shards at most.
SHARD_ROWS, SHARD_BYTES = 256, 1 << 28
SHARED_BYTES = 48 << 10  # that a block gets without asking


@dataclass(frozen=True)
class Division:
    """Division of the steps of one network.

    Attributes:
        network: compile-time parameters of the kernels.
        batch_size: rows of a step.
        first_tile: tile of the first layer's outputs.
        gradient_tile: tile of its gradient.
        hidden_tile: tile of the outputs and gradients of other layers with kernels of their own.
        first_later: first layer of the kernel that fuses the last layers with the loss; one past the last if none.
        later_rows: rows per block of that kernel.
        shards: parts of the batch whose gradients are computed separately, then summed.
    """

    network: KernelSpec
    batch_size: int
    first_tile: Tile
    gradient_tile: Tile
    hidden_tile: Tile
    first_later: int
    later_rows: int
    shards: int

    @property
    def shard_rows(self) -> int:
        """Rows of a shard; the last one may have fewer."""
        return -(-self.batch_size // self.shards)

    @property
    def hidden(self) -> range:
        """Layers after the first that have kernels of their own."""
        return range(2, self.first_later)

    def shared_bytes(self, *tiles: Tile) -> int:
        """Return the shared memory of a block with such tiles, in bytes."""
        return max(tile.shared_bytes(self.network.real.itemsize, self.network.parts) for tile in tiles)

    def macros(self) -> dict[str, object]:
        """Return the macros of steps.cu."""
        return {
            "THREADS": THREADS,
            "BATCH": self.batch_size,
            "FIRST_TILE": self.first_tile.macro,
            "GRADIENT_TILE": self.gradient_tile.macro,
            "HIDDEN_TILE": self.hidden_tile.macro,
            "FIRST_BYTES": self.shared_bytes(self.first_tile),
            "GRADIENT_BYTES": self.shared_bytes(self.gradient_tile, self.hidden_tile),
            "HIDDEN_BYTES": self.shared_bytes(self.hidden_tile),
            "FIRST_LATER": self.first_later,
            "LATER_ROWS": self.later_rows,
            "SHARDS": self.shards,
            "SHARD_ROWS": self.shard_rows,
        }


def divide(network: KernelSpec, batch_size: int, device: Device) -> Division:
    """Return a division that keeps the multiprocessors busy."""
    tiles: tuple[Tile, ...] = TENSOR_TILES if network.parts else SCALAR_TILES
    first_tile = choose_tile(tiles, batch_size, network.sizes[1], device.multiprocessors)
    first = first_later(network, device)
    widest = max(network.sizes[2:first], default=1)
    hidden_tile = choose_tile(SCALAR_TILES, batch_size, widest, device.multiprocessors)
    gradient_tile, shards = _gradient(network, batch_size, tiles, hidden_tile, device)
    return Division(
        network,
        batch_size,
        first_tile=deepened(first_tile, network.sizes[0], device.shared_bytes),
        gradient_tile=gradient_tile,
        hidden_tile=hidden_tile,
        first_later=first,
        later_rows=_later_rows(network, batch_size, first, device),
        shards=-(-batch_size // -(-batch_size // shards)),  # none of them empty
    )


def first_later(network: KernelSpec, device: Device) -> int:
    """Return the first of the layers 2, 3, ... that are fused into one kernel; one past the last if none.

    From there on the weights are few and a row's outputs fit into the shared memory of a block.
    """
    sizes = network.sizes
    first, weights = len(sizes), 0
    while first > 2:
        weights += sizes[first - 2] * sizes[first - 1]
        if weights > LATER_WEIGHTS or later_bytes(network, first - 1, 1) > device.shared_bytes:
            break
        first -= 1
    return first


def later_bytes(network: KernelSpec, first: int, rows: int) -> int:
    """Return the shared memory of the layers from `first` on in bytes: outputs and gradients of each row."""
    return rows * 2 * sum(network.sizes[first - 1 :]) * network.real.itemsize


def gradient_tiles(network: KernelSpec, tile: Tile, hidden_tile: Tile) -> int:
    """Count the tiles of all layers' gradients, each with the bias as its last row; `tile` is the first layer's."""
    features, units, *_ = network.sizes
    return count(tile, features + 1, units) + sum(count(hidden_tile, n + 1, m) for n, m in pairwise(network.sizes[1:]))


def _gradient(
    network: KernelSpec, batch_size: int, tiles: tuple[Tile, ...], hidden_tile: Tile, device: Device
) -> tuple[Tile, int]:
    """Return the tile of the first layer's gradient and the number of shards of a batch.

    The number of shards gives every multiprocessor two tiles at once, but no third.
    """
    (features, units), busy = network.sizes[:2], device.multiprocessors
    room = SHARD_BYTES // (network.weights_at[-1] * network.real.itemsize)
    most = min(batch_size // SHARD_ROWS, room)
    if most <= 1:
        return choose_tile(tiles, features + 1, units, busy), 1
    tile = next((tile for tile in tiles if 2 * units > tile.columns), tiles[-1])
    return tile, min(most, max(1, 2 * busy // (gradient_tiles(network, tile, hidden_tile) + 1)))


def _later_rows(network: KernelSpec, batch_size: int, first: int, device: Device) -> int:
    """Return the rows per block of the later layers."""
    for rows in LATER_ROWS:
        is_busy = -(-batch_size // rows) >= device.multiprocessors
        if is_busy and later_bytes(network, first, rows) <= SHARED_BYTES:
            return rows
    return 1
