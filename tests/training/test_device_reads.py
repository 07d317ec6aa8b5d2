"""What makes a GPU wait: values or sizes that Python reads from the device. Counted on the CPU, by operator."""

from __future__ import annotations

import functools
import traceback
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from raydistill.training.distiller import Distiller
from raydistill.training.loop import take_step
from raydistill.training.metrics import MetricSums
from raydistill.training.resume import start
from tests.nets import mixed_batch, pair, small_config
from tests.small import Stage, small_run

# Operators whose result's size, or whose value in Python, depends on data.
READING = {"nonzero", "_local_scalar_dense", "masked_select", "_unique2", "unique_dim", "repeat_interleave", "nms"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class Reads(TorchDispatchMode):
    """Counts such operators: those called by torchvision, and those called by us."""

    def __init__(self) -> None:
        super().__init__()
        self.torchvisions = self.ours = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        masked = name in INDEXING and any(index is not None and index.dtype == torch.bool for index in args[1])
        if name in READING or masked:
            callers = [frame.filename for frame in traceback.extract_stack()]
            if any("torchvision" in file for file in callers):
                self.torchvisions += 1
            else:
                self.ours += 1
        return function(*args, **(kwargs or {}))


class Lists(TorchFunctionMode):
    """Counts tensors that become lists; on a CPU no operator is called for that."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += function is torch.Tensor.tolist
        return function(*args, **(kwargs or {}))


@functools.cache
def reads(source: str, decay: float, *overrides: str) -> Reads:
    config = small_config(f"methods.tar.regions.source={source}", *overrides)
    distiller = Distiller(*pair(config), config)
    distiller(*mixed_batch(), decay)  # the first step sets up the pooling
    torch.manual_seed(0)
    with Lists() as lists, Reads() as counted:
        distiller(*mixed_batch(), decay)
    counted.ours += lists.number
    return counted


def test_that_the_count_sees_a_read():
    with Reads() as counted:
        torch.ones(3)[torch.ones(3) > 0].sum().item()
    assert counted.ours == 2


@pytest.mark.parametrize(("source", "expected"), [("student", 1), ("teacher", 1), ("both", 2)])
def test_that_distilling_reads_how_many_regions_there_are_and_nothing_else(source, expected):
    plain, distilling = reads(source, 0.0), reads(source, 1.0)
    assert distilling.ours - plain.ours == expected


def test_that_sharing_the_students_regions_adds_no_read_of_torchvisions_but_those_of_pooling():
    pooled_levels = 4
    assert reads("student", 1.0).torchvisions - reads("student", 0.0).torchvisions == pooled_levels


@pytest.mark.parametrize(
    "overrides",
    [
        ("methods.tar.feature.mask=full",),
        ("methods.tar.feature.mask=box", "methods.tar.feature.background_weight=0.5"),
        ("methods.tar.classification.divergence=kl", "methods.tar.classification.temperature=2"),
        ("methods.tar.rpn.gate=foreground", "methods.tar.regression.reference=none"),
        ("methods.tar.feature.levels=assigned", "methods.tar.feature.normalization=teacher_variance"),
        ("methods.tar.feature.adapter=conv3x3", "methods.tar.feature.background_weight=0.5"),
        ("methods.tar.classification.gate=teacher_better_all", "methods.tar.regression.reference=proposal"),
        ("methods.tar.classification.gate=all", "methods.tar.rpn.reference=none"),
        ("methods.tar.classification.gate=foreground", "methods.tar.rpn.reference=proposal"),
    ],
)
def test_that_no_setting_adds_a_read(overrides):
    assert reads("student", 1.0, *overrides).ours <= reads("student", 1.0).ours


@pytest.mark.parametrize("setting", ["clip_grad_norm=5", "optimizer.name=adamw", "precision=bf16"])
def test_that_a_step_reads_nothing_else_than_whether_its_loss_is_finite(setting, tmp_path):
    """On a GPU that comes over beside the next step."""
    stage = Stage(small_run(tmp_path, "data.num_train=4", f"training.{setting}"), "distilled")
    state = start(stage.job, stage.distiller(), stage.loader(), stage.worker, stage.reporter)
    (parts,) = state.loader.epoch(0)
    take_step(state, parts, 1.0, 0, MetricSums())  # the first step sets up the pooling
    counted = []
    for run in (lambda: take_step(state, parts, 1.0, 0, MetricSums()), lambda: _forward(state, parts)):
        torch.manual_seed(0)
        with Lists() as lists, Reads() as found:
            run()
        counted.append(found.ours + lists.number)
    step, forward = counted
    assert step - forward == 1


def _forward(state, parts):
    with state.worker.autocast(state.job.config.training.precision):
        state.wrapped(*parts[0], 1.0)
