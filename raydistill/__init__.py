"""raydistill: distil object detectors with task-adaptive regularization, on one machine or on a Ray cluster."""

__version__ = "0.1.0"

VERSION = f"raydistill {__version__}"
"""What ``--version`` prints."""
