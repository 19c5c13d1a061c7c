"""What BENCHMARKS.md quotes: `make bench`, or `python -m benchmarks`."""
