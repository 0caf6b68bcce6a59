"""Ratios, measured side by side in one run. ``make bench`` takes all of them and writes docs/benchmarks.md."""
