"""Which epoch, and how far: the only thing about a loader that moves."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cursor"]


@dataclass
class Cursor:
    """Epoch and batch, by the rules of `Loader`.

    Parameters
    ----------
    epoch
        The one under way, or the last one.
    received
        Batches of it that the consumer has.
    """

    epoch: int = 0
    received: int = 0
    _start: int = 0  # batch the next iteration begins with
    _loaded: bool = False  # the position was loaded and not iterated from yet
    _named: bool = False  # the epoch was set by its number

    def load(self, epoch: int, received: int) -> None:
        """Stand where a state was saved."""
        self.epoch, self.received, self._start = epoch, received, received
        self._loaded, self._named = True, False

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch of the next iteration; a position just loaded stays if it is of this epoch."""
        if not (self._loaded and epoch == self.epoch):
            self.epoch, self.received, self._start = epoch, 0, 0
        self._named = True

    def begin(self, num_batches: int) -> tuple[int, int]:
        """Give the epoch and the first batch of an iteration that begins now.

        A finished epoch is followed by the next one, unless it was asked for by its number: a job that saved its
        state after the last batch of epoch 3 and resumes with ``set_epoch(3)`` has nothing left to do in it.
        """
        if self._start >= max(num_batches, 1) and not self._named:
            self.epoch, self._start = self.epoch + 1, 0
        first = self._start
        self.received, self._start = first, 0  # left early, the epoch starts again
        self._loaded = self._named = False
        return self.epoch, first

    def finish(self, num_batches: int) -> None:
        """Note that an iteration came to the end of its epoch."""
        self._start = max(num_batches, 1)  # an epoch without batches is over as well
