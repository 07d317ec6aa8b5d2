"""Benchmarks against other libraries, and tests that they run."""
