"""A program that disturbs runs, repeats their command and compares what comes out: ``python -m tests.faults``."""
