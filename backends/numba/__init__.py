"""Numba backend: the steps of a training in one compiled call, gone through by a team of threads.

Glossary, from small to large:

| word | is |
|---|---|
| lane | one number of a vector register; operations on lanes work on all of a vector's at once (`compiler/lanes.py`) |
| panel | the units that one register holds, or several registers for eight: columns of a matrix |
| microtile | rows by one or two panels, whose sums stay in registers (`compiler/vector_unit.py`, `microtiles.py`) |
| block | columns of a matrix that lie together: one panel, or up to four in a sparse first layer |
| chunk | neighbouring features: the rows of the first weight for them |
| tile | rows of a batch that are worked through at once; their gradients are added up over the batch |
| shard | one of 16 parts of a batch, each with a gradient of its own |
| part | of a batch, what one process or one shard of a divided training has; of a sum, what one thread adds to it |

A step is divided among the threads in one of four ways, chosen by the sizes alone (`steps/schedules.py`), so that the
order of every sum, and with it the bits, are the same for any number of threads:

| way | for | a thread has | others read of it | waits |
|---|---|---|---|---|
| `two_layers` | one wide hidden layer, few outputs | hidden units, their weights | its part of the logits | 1 a tile |
| `by_units` | deep, or many outputs | units of layer 1, then rows, then weights | outputs, gradients | 2 a tile |
| `by_rows` | narrow, large batches | shards, then some of all parameters | gradients of shards | 2 a batch |
| `by_features` | very narrow, small batches | chunks, a copy of later layers | products of chunks | 1 a tile |

Read `compiler` (lanes, microtiles, the team), `network` (matrices in buffers, products, masks, optimizers, losses),
`first_layer` (sparse and dense rows), `steps` (a file for each way, `clipping.py` on top of them, and `schedules.py`,
which chooses), then `engine.py`, which brings a job into this form, and the plans that drive it: `plan.py`, and
`divided_plan.py` for several processes or shards. `forward.py` predicts with the same kernels. `docs/speed.md` has what
each idea gained.
"""

from contextlib import suppress

from ..working_folder import import_numba

with suppress(ImportError):  # `NumbaBackend` raises it
    import_numba()
