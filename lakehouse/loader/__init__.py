"""Batches of a table for training: which rows, in which order, read, decoded and put together."""

from __future__ import annotations

from lakehouse.loader.loader import Loader
from lakehouse.loader.options import LoaderOptions
from lakehouse.loader.stats import LoaderStats

__all__ = ["Loader", "LoaderOptions", "LoaderStats"]
