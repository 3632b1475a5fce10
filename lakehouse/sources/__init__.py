"""Files and folders as data to add: streamed, checked, and resumable file by file."""

from lakehouse.sources.images import read_images
from lakehouse.sources.parquet import read_parquet
from lakehouse.sources.texts import read_texts
from lakehouse.sources.videos import read_videos

__all__ = ["read_images", "read_parquet", "read_texts", "read_videos"]
