"""What the arms that go through torch's DataLoader share: a sample made of a record, a batch made of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.loader_rows import augmented, decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from benchmarks.loader_readers.reader import Job, Level, Sample


def made_by(level: Level, seed: int) -> Callable[[Mapping[str, Any]], Sample]:
    """Return what makes a sample of a record; augmentation is seeded by the id."""

    def sample(record: Mapping[str, Any]) -> Sample:
        number, payload = int(record["id"]), record["payload"]
        if level == "decode":
            payload = decoded(payload)
        elif level == "augment":
            payload = augmented(decoded(payload), np.random.default_rng((seed, number)))
        return {"id": number, "payload": payload}

    return sample


def collated(samples: Iterable[Sample]) -> dict[str, Any]:
    """Put samples into a batch: numbers and pictures as tensors, bytes and text as lists."""
    import torch

    samples = list(samples)
    payloads = [sample["payload"] for sample in samples]
    if isinstance(payloads[0], np.ndarray):
        payloads = torch.from_numpy(np.stack(payloads))
    elif isinstance(payloads[0], torch.Tensor):
        payloads = torch.stack(payloads)
    elif isinstance(payloads[0], float):
        payloads = torch.tensor(payloads, dtype=torch.float64)
    return {"id": torch.tensor([sample["id"] for sample in samples]), "payload": payloads}


def dataloader(dataset: Any, job: Job, *, batched: bool = False, kind: Any = None, **options: Any) -> Any:
    """Return a DataLoader over samples, or over records that are made into samples as they are put together."""
    import torch

    sample = made_by(job.level, job.seed)
    together = collated if batched else _Together(sample)
    return (kind or torch.utils.data.DataLoader)(
        dataset, batch_size=job.batch_size, num_workers=job.num_workers, collate_fn=together, drop_last=True, **options
    )


class _Together:
    def __init__(self, sample: Callable[[Mapping[str, Any]], Sample]) -> None:
        self._sample = sample

    def __call__(self, records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        return collated(map(self._sample, records))
