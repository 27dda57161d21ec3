"""xpnn.nn.distributed: one training on many processes, of one machine or of many.

    world = nn.distributed.world()
    nn.train(net, data, communicator=world)

in a script that is started by `mpiexec -n 4 python -m xpnn.nn.distributed script.py`.

Every process runs the same script with the same data, seed and settings, and takes its part of each batch. What comes
out is what one process alone gets, up to rounding, and with `reproducible=True` the same bits on any number of them.
"""

from ...backends.communicator import ALONE, Communicator
from .mpi_communicator import MpiCommunicator
from .world import world

__all__ = ["ALONE", "Communicator", "MpiCommunicator", "world"]
