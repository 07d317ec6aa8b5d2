"""Settings of the whole test run."""

from __future__ import annotations

import os

import pytest
import torch

# The nets here are so small that a second thread only waits, ten times longer where other processes want the core too.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the files that take minutes come first: on several cores the short ones fill what is left."""
    long = {item.path for item in items if item.get_closest_marker("ray")}
    items.sort(key=lambda item: item.path not in long)
