"""Schemas as code: what the columns are (`model`), and the way there from what they were (`evolution`)."""

from lakehouse.schema.model import Column, Schema

__all__ = ["Column", "Schema"]
