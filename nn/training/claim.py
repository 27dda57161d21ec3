"""Claim of a training on its network: two trainings at a time would each overwrite the other's steps."""

from __future__ import annotations

import os
import threading

from ...backends import ConfigError
from ..network.mlp import MLP


class Claim:
    """Claim of the calling thread on a network.

    Args:
        net: the network.
    """

    def __init__(self, net: MLP) -> None:
        self._net, self._thread = net, threading.get_ident()

    def take(self) -> None:
        """Claim the network.

        Raises:
            ConfigError: it is claimed already.
        """
        holder = CLAIMS.setdefault(id(self._net), self)  # one call of C: of two threads one becomes the holder
        if holder is self:
            return
        if holder._thread == self._thread:
            raise ConfigError(
                f"{self._net!r} is being trained already, by the training that called this: "
                "train it after that has ended, or train another network"
            )
        raise ConfigError(
            f"{self._net!r} is being trained in another thread: wait for the end of that training, or train another "
            "network"
        )

    def give_back(self) -> None:
        """Free the network, if this claim holds it."""
        if CLAIMS.get(id(self._net)) is self:
            del CLAIMS[id(self._net)]


CLAIMS: dict[int, Claim] = {}  # by the network's identity

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CLAIMS.clear)  # the child has none of the other threads
