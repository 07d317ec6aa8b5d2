"""Tensors in files: the same to the bit, and never something else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raydistill.detectors.kept.tensors import InMemory, OnDisk, Tensors, bytes_of, packed, unpacked
from raydistill.storage.kept_files import KeptFiles


def some() -> Tensors:
    torch.manual_seed(0)
    return {
        "0": torch.randn(3, 70, 90),
        "half": torch.randn(5, 7).bfloat16(),
        "fp16": torch.randn(5, 7).half(),
        "cells": torch.rand(9, 11) > 0.5,
        "none": torch.empty(0, 4),
    }


def content_of(tensors: Tensors) -> bytearray:
    head, parts = packed(tensors)
    return bytearray(b"".join([head, *parts]))


def same(found: Tensors | None, expected: Tensors) -> bool:
    return (
        found is not None
        and list(found) == list(expected)
        and all(
            found[name].dtype == value.dtype and torch.equal(found[name], value) for name, value in expected.items()
        )
    )


def test_tensors_come_back_as_they_were() -> None:
    assert same(unpacked(content_of(some())), some())
    assert same(unpacked(content_of({"t": some()["0"].transpose(0, 1)})), {"t": some()["0"].transpose(0, 1)})


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.2, 0.5, 0.9, 0.9999])
def test_a_flipped_bit_is_found_out(share: float) -> None:
    content = content_of({"0": torch.randn(3, 70, 90)})
    content[int(share * len(content))] ^= 16
    assert unpacked(content) is None


@pytest.mark.parametrize("length", [0, 5, 40, 1000, -1])
def test_a_file_that_was_cut_off_is_found_out(length: int) -> None:
    assert unpacked(content_of(some())[:length]) is None


def test_a_block_of_zeros_is_found_out() -> None:
    content = content_of({"0": torch.randn(3, 70, 90)})
    content[8192:12288] = bytes(4096)
    assert unpacked(content) is None


def test_memory_holds_what_fits_and_says_when_it_is_full() -> None:
    kept = InMemory(2 * bytes_of(some()))
    for name in ("a", "b", "c"):
        kept.put(name, some())
    assert [kept.get(name) is not None for name in ("a", "b", "c")] == [True, True, False]
    assert "hold no more" in kept.full


def test_a_damaged_file_counts_as_not_there_and_is_written_anew(tmp_path: Path) -> None:
    def opened() -> OnDisk:
        return OnDisk(KeptFiles(tmp_path, "source", {}, 10**9))

    opened().put("abc", some())
    (file,) = (tmp_path / "source").glob("*/abc")
    raw = bytearray(file.read_bytes())
    raw[-100] ^= 1
    file.write_bytes(raw)
    kept = opened()
    assert kept.get("abc") is None
    assert kept.damaged == 1
    kept.put("abc", some())
    assert same(opened().get("abc"), some())
