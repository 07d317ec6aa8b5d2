"""Settings of the whole test run."""

from __future__ import annotations

import os

import torch

# The nets here are so small that a second thread only waits, ten times longer where other processes want the core too.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
