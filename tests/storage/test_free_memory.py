"""How much memory is free, by the machine and by control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from raydistill.storage.free_memory import free_memory


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:    500 kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/a/b\n")
    return tmp_path / "proc"


def group(folder: Path, limit: str, used: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")


def test_the_least_of_machine_and_groups_counts(proc: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups"
    assert free_memory(proc, groups) == 500 * 1024
    group(groups / "a" / "b", "max", 10)
    assert free_memory(proc, groups) == 500 * 1024
    group(groups / "a", "4000", 1000)
    assert free_memory(proc, groups) == 3000
    group(groups / "a" / "b", "1000", 2000)
    assert free_memory(proc, groups) == 0


def test_a_system_that_says_nothing_has_some(tmp_path: Path) -> None:
    assert free_memory(tmp_path / "none", tmp_path / "none") > 10**6
