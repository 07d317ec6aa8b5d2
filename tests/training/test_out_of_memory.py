"""Memory that runs out is a sentence with advice, wherever torch or Python say so."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raydistill import train
from raydistill.errors import UserError
from raydistill.training import loop
from raydistill.training.out_of_memory import memory_explained
from tests.small import SMALL_RUN, small_run

_TOO_MUCH = 10**15


def _explained(error: Exception) -> str:
    with pytest.raises(UserError) as caught, memory_explained(small_run(Path("nowhere"))):
        raise error
    return str(caught.value)


def _raised(allocate: Any) -> Exception:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate(_TOO_MUCH)
    return caught.value


@pytest.mark.parametrize("allocate", [torch.empty, np.empty, lambda number: bytes(number)])
def test_the_machines_memory_is_named_with_what_was_asked_and_what_to_lower(allocate: Any) -> None:
    said = _explained(_raised(allocate))
    assert said.startswith("training.batch_size: must fit into memory, got 4 (")
    assert "lower it or raise training.accumulation" in said
    assert said.endswith("the same command goes on after the last checkpoint")
    assert "\n" not in said


def test_the_gpus_memory_is_named() -> None:
    said = _explained(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"))
    assert said.startswith("training.batch_size: must fit into the GPU's memory, got 4 (CUDA out of memory. Tried to")
    assert "\n" not in said


@pytest.mark.parametrize("number", ["Killed", "Bus error"])
def test_a_loader_process_that_was_ended_for_memory_is_another_setting(number: str) -> None:
    said = _explained(RuntimeError(f"DataLoader worker (pid 7) is killed by signal: {number}. "))
    assert said.startswith("loader.num_workers: its processes must fit into memory, got 0 (DataLoader worker (pid 7)")


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), OSError(errno.ENOMEM, "no"), KeyError("memory")])
def test_other_errors_are_left_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_explained(small_run(Path("nowhere"))):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", [MemoryError(), _raised(torch.empty), torch.OutOfMemoryError("CUDA out of memory.")])
def test_a_run_here_that_finds_no_memory_ends_with_a_sentence_and_code_2(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def step(*_: Any) -> None:
        raise error

    monkeypatch.setattr(loop, "take_step", step)
    assert train.main(["quickstart", *SMALL_RUN, "--local", "--output", str(tmp_path / "run")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("training.batch_size: must fit into ")
