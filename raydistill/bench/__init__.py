"""Benchmarks that users can run: ``python -m raydistill.bench step|data|eval RECIPE``."""
