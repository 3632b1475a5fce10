"""A folder or a bucket of Lance tables as a multimodal data lake.

Public names are loaded when they are first used: importing this package loads neither Lance nor DuckDB nor PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse import errors
    from lakehouse.features.jobs.backfill import BackfillPlan, BackfillResult
    from lakehouse.features.udfs.udf import UDF, udf
    from lakehouse.index_kinds import FTS, Bitmap, BTree, IvfFlat, IvfPq, LabelList
    from lakehouse.ingest import WriteResult
    from lakehouse.lake import Lake, connect
    from lakehouse.loader import Loader, LoaderOptions
    from lakehouse.loader.forms.clips import Clip
    from lakehouse.loader.forms.packing import Packing
    from lakehouse.loader.forms.sizes import Pad, Resize
    from lakehouse.loader.mixing import Mix, mix
    from lakehouse.loader.saved import SavedSelection
    from lakehouse.media.handles import Audio, Blob, Image, Text, Video
    from lakehouse.schema.model import Column, Schema
    from lakehouse.sources import read_images, read_parquet, read_texts, read_videos
    from lakehouse.splits import split_by
    from lakehouse.sql.limits import SqlLimits
    from lakehouse.table import Table

_HOMES = {
    "lakehouse.features.jobs.backfill": ("BackfillPlan", "BackfillResult"),
    "lakehouse.features.udfs.udf": ("UDF", "udf"),
    "lakehouse.index_kinds": ("FTS", "BTree", "Bitmap", "IvfFlat", "IvfPq", "LabelList"),
    "lakehouse.ingest": ("WriteResult",),
    "lakehouse.lake": ("Lake", "connect"),
    "lakehouse.loader": ("Loader", "LoaderOptions"),
    "lakehouse.loader.forms.clips": ("Clip",),
    "lakehouse.loader.mixing": ("Mix", "mix"),
    "lakehouse.loader.forms.packing": ("Packing",),
    "lakehouse.loader.saved": ("SavedSelection",),
    "lakehouse.loader.forms.sizes": ("Pad", "Resize"),
    "lakehouse.media.handles": ("Audio", "Blob", "Image", "Text", "Video"),
    "lakehouse.schema.model": ("Column", "Schema"),
    "lakehouse.sources": ("read_images", "read_parquet", "read_texts", "read_videos"),
    "lakehouse.splits": ("split_by",),
    "lakehouse.sql.limits": ("SqlLimits",),
    "lakehouse.table": ("Table",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "FTS",
    "UDF",
    "Audio",
    "BTree",
    "BackfillPlan",
    "BackfillResult",
    "Bitmap",
    "Blob",
    "Clip",
    "Column",
    "Image",
    "IvfFlat",
    "IvfPq",
    "LabelList",
    "Lake",
    "Loader",
    "LoaderOptions",
    "Mix",
    "Packing",
    "Pad",
    "Resize",
    "SavedSelection",
    "Schema",
    "SqlLimits",
    "Table",
    "Text",
    "Video",
    "WriteResult",
    "connect",
    "errors",
    "mix",
    "read_images",
    "read_parquet",
    "read_texts",
    "read_videos",
    "split_by",
    "udf",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("lakehouse.errors")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'lakehouse' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
