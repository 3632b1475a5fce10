"""Ways to load batches for training: a lake, plain pylance, peers in environments of their own, the bound."""

from benchmarks.loader_readers.decoding import Decoding
from benchmarks.loader_readers.grain import Grain
from benchmarks.loader_readers.huggingface import HuggingFaceMap, HuggingFaceStream
from benchmarks.loader_readers.lance import LanceTorch, ToBatches
from benchmarks.loader_readers.lancedb import LanceDb
from benchmarks.loader_readers.litdata import LitData
from benchmarks.loader_readers.mosaicml import MosaicMl
from benchmarks.loader_readers.ours import Ours, OursInOrder, OursMany
from benchmarks.loader_readers.reader import Job, Level, Reader
from benchmarks.loader_readers.webdataset import WebDataset

READERS: dict[str, type[Reader]] = {
    "ours": Ours,
    "ours_in_order": OursInOrder,
    "to_batches": ToBatches,
    "lance_torch": LanceTorch,
    "lancedb": LanceDb,
    "litdata": LitData,
    "mosaicml": MosaicMl,
    "webdataset": WebDataset,
    "hf_map": HuggingFaceMap,
    "hf_stream": HuggingFaceStream,
    "grain": Grain,
    "decoding": Decoding,
    "ours_many": OursMany,
}

__all__ = ["READERS", "Job", "Level", "Reader"]
