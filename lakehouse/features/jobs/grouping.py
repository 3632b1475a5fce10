"""When staged files become a version: rarely, because every commit writes the whole manifest anew."""

from __future__ import annotations

__all__ = ["is_due"]

# One commit where the job is short; a longer one shows its work at each third.
_THIRD_AFTER_S = 10.0
_EVERY_S = 60.0
# What one feature may add to the table's folder in manifests: 30 that are filled all day long write 2.6 GB.
_MANIFEST_NBYTES_PER_S = 1000.0


def is_due(waited_s: float, share: float, manifest_nbytes: int) -> bool:
    """Decide whether to commit what is staged of a feature.

    Parameters
    ----------
    waited_s
        Since its last commit.
    share
        Staged fragments as a share of all that are to be filled, 0 to 1.
    manifest_nbytes
        The size of the table's manifest.

    Examples
    --------
    >>> is_due(30, 0.1, 20_000), is_due(61, 0.1, 20_000), is_due(11, 0.34, 20_000)
    (False, True, True)
    >>> is_due(1800, 0.1, 3_000_000), is_due(3001, 0.1, 3_000_000)
    (False, True)
    """
    every_s = max(_EVERY_S, manifest_nbytes / _MANIFEST_NBYTES_PER_S)
    return waited_s > every_s or (waited_s > _THIRD_AFTER_S and share >= 1 / 3)
