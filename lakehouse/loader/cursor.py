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
    _is_over: bool = False  # nothing of the epoch is left
    _loaded: bool = False  # the position was loaded and not iterated from yet
    _named: bool = False  # the epoch was set by its number

    def load(self, epoch: int, received: int) -> None:
        """Stand where a state was saved."""
        self.epoch, self.received, self._start = epoch, received, received
        self._is_over, self._loaded, self._named = False, True, False

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch of the next iteration; a position just loaded stays if it is of this epoch."""
        if not (self._loaded and epoch == self.epoch):
            self.epoch, self.received, self._start = epoch, 0, 0
        self._is_over, self._named = False, True

    def begin(self, num_batches: int) -> tuple[int, int]:
        """Give the epoch and the first batch of an iteration that begins now.

        A finished epoch is followed by the next one, unless it was asked for by its number: a job that saved its
        state after the last batch of epoch 3 and resumes with ``set_epoch(3)`` has nothing left to do in it.
        """
        is_over = self._is_over or 0 < num_batches <= self._start
        if is_over and not self._named:
            self.epoch, self._start = self.epoch + 1, 0
        first = self._start
        self.received, self._start = first, 0  # left early, the epoch starts again
        self._is_over = self._loaded = self._named = False
        return self.epoch, first

    def receive(self, received: int, last: int) -> None:
        """Note a batch that the consumer has; with its last one the epoch is over.

        Lightning takes as many batches as there are and never asks whether there is another one.
        """
        self.received, self._is_over = received, received >= last

    def finish(self, num_batches: int) -> None:
        """Note that an iteration came to the end of its epoch, on a rank that may have had one batch less."""
        self.received, self._is_over = num_batches, True
