"""Benchmarks of `lakehouse` against a physical bound, plain pylance and tuned peers.

Run one with ``python -m benchmarks.point_query``; turn results into the README's tables with
``python -m benchmarks.report``. How a figure is taken is written in `benchmarks.harness`.
"""
