"""Benchmarks, of this program and beside other libraries, and tests that they run."""
