"""Settings of the whole test run.

``RAYDISTILL_TEST_BF16=1 pytest`` lets this process and all that it starts take the processor for one that computes with
bfloat16 (AVX512-BF16, AMX), ``=0`` for one that does not, whatever it is: no test may depend on it.
"""

from __future__ import annotations

import copy
import functools
import logging
import os
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torchvision.models.detection.backbone_utils import BackboneWithFPN

import raydistill.on_ray  # noqa: F401  (Ray reads its environment when it is imported, which tests may do first)
from raydistill.config.sections import Detector
from raydistill.detectors.two_stage import build

collect_ignore_glob = ["*/sitecustomize.py"]  # each is what Python imports as it starts in some processes of tests

# The nets here are so small that a second thread only waits, ten times longer where other processes want the core too.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
os.environ.setdefault("RAY_worker_niceness", "0")  # by default Ray's workers come after whatever else computes

if os.environ.get("RAYDISTILL_TEST_BF16", "") not in ("", "0", "1"):
    raise pytest.UsageError(f"RAYDISTILL_TEST_BF16: must be 0 or 1, got {os.environ['RAYDISTILL_TEST_BF16']}")
if os.environ.get("RAYDISTILL_TEST_BF16"):
    _forced = Path(__file__).with_name("forced_bf16")
    runpy.run_path(str(_forced / "sitecustomize.py"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_forced), os.environ.get("PYTHONPATH"))))


@pytest.fixture(autouse=True, scope="session")
def _without_waiting_for_the_disk() -> Iterator[None]:
    """Let nothing wait until a file would survive a power cut: no test can see it, and it takes a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _ray_is_started_on_purpose_only() -> Iterator[None]:
    """Let a call of Ray's, of a thread that a test has left behind say, start no Ray that ends this process later."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray._private.auto_init_hook.enable_auto_connect", False)
        yield


@pytest.fixture(autouse=True, scope="session")
def _nets_are_drawn_once() -> Iterator[None]:
    """Let a small net that was drawn from the same random numbers before be a copy, which takes half as long."""
    draw = build._backbone

    @functools.lru_cache(maxsize=16)
    def drawn(settings: Detector, random: bytes) -> tuple[BackboneWithFPN, torch.Tensor]:
        return draw(settings), torch.get_rng_state()

    def backbone(settings: Detector) -> BackboneWithFPN:
        if settings.backbone != "mobilenet_v3_small":
            return draw(settings)
        net, random = drawn(settings, torch.get_rng_state().numpy().tobytes())
        torch.set_rng_state(random)
        return copy.deepcopy(net)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_backbone", backbone)
        yield


@pytest.fixture(autouse=True)
def _what_is_logged_is_as_before() -> Iterator[None]:
    """Let a command that logs for its user leave nothing to the next test: which tests come before is chance."""
    logger = logging.getLogger("raydistill")
    level, handlers = logger.level, [*logger.handlers]
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Let ``-n auto`` take one process more than there are cores: tests on Ray wait for most of their time."""
    return None if "not ray" in config.option.markexpr else len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the files that take minutes come first: on several cores the short ones fill what is left."""
    long = {item.path for item in items if item.get_closest_marker("ray")}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the server of forks know what to import before it starts, where tests are to be run that need all of it."""
    if any(item.get_closest_marker("ray") for item in session.items):
        from tests.commands import let_the_server_import

        let_the_server_import()
