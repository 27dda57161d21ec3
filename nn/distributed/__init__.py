"""xpnn.nn.distributed: data-parallel training on many processes, on one or several machines.

    world = nn.distributed.world()
    nn.train(net, data, communicator=world)

in a script started by `mpiexec -n 4 python -m xpnn.nn.distributed script.py`.

Every process runs the same script with the same data, seed and options, and computes its part of each batch. The result
is that of a single process up to rounding, and bit-identical for any number of processes with `reproducible=True`.
"""

from ...backends.communicator import ALONE, Communicator
from .mpi_communicator import MpiCommunicator
from .world import world

__all__ = ["ALONE", "Communicator", "MpiCommunicator", "world"]
