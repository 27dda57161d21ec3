"""The learning rate from epoch to epoch: constant, falling with the rows seen, or lowered where progress ends."""

from __future__ import annotations

LEAST_RATE = 1e-6  # an adaptive rate of this or less is not lowered further: the training ends
LOWERED_BY = 5.0


class LearningRate:
    """A schedule for `nn.train` that the end of an epoch changes.

    Attributes:
        factor: what the optimizer's learning rate is multiplied by now.

    Args:
        kind: "constant", "invscaling" or "adaptive".
        start: the optimizer's learning rate.
        power_t: exponent of "invscaling".
    """

    def __init__(self, kind: str, *, start: float, power_t: float) -> None:
        self.kind, self.start, self.power_t = kind, float(start), float(power_t)
        self.factor = 1.0

    def __call__(self, progress: float) -> float:  # noqa: ARG002
        """Return the factor, whatever the progress."""
        return self.factor

    @property
    def rate(self) -> float:
        """The learning rate now."""
        return self.start * self.factor

    def end_epoch(self, samples_seen: int) -> None:
        """Go on to the next epoch after so many rows in all."""
        if self.kind == "invscaling":
            self.factor = float((samples_seen + 1) ** -self.power_t)

    def lower(self) -> bool:
        """Lower an adaptive rate, now that there is no progress; False where that is of no more use."""
        if self.kind != "adaptive" or self.rate <= LEAST_RATE:
            return False
        self.factor /= LOWERED_BY
        return True
