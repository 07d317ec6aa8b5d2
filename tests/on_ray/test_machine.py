"""What this machine must have for Ray to be started on it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from raydistill.errors import UserError
from raydistill.on_ray import machine
from raydistill.on_ray.machine import check_machine


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of its own, and nothing set."""
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(machine, "_SOCKET_BYTES", 1000)  # where tests keep their files the names are long


def test_a_machine_that_has_all_is_left_as_it_is() -> None:
    check_machine()
    assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_in_which_sockets_would_have_too_long_names_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_SOCKET_BYTES", 107)
    folder = tmp_path / ("scratch" * 10)
    monkeypatch.setenv(name, str(folder))
    said = rf"^{name}: must be a folder for Ray's files of at most 39 letters.* 107, got {len(str(folder))} in"
    with pytest.raises(UserError, match=rf"{said} .*; set RAY_TMPDIR to a short one"):
        check_machine()
    assert not folder.exists()


def test_the_longest_folder_that_is_taken_leaves_room_for_rays_longest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray makes them: its session is called by the time and a process id, on Linux of at most 4194304."""
    monkeypatch.setattr(machine, "_SOCKET_BYTES", 107)
    folder = "/tmp/" + "x" * 34
    monkeypatch.setattr(machine.Path, "mkdir", lambda *_, **__: None)
    monkeypatch.setattr(machine.tempfile, "TemporaryFile", lambda **_: io.BytesIO())
    monkeypatch.setenv("RAY_TMPDIR", folder)
    check_machine()
    assert len(f"{folder}/ray/session_2026-11-27_12-41-55_946282_4194304/sockets/plasma_store") == 107


@pytest.mark.parametrize("folder", ["relative", "/dev/null/x"])
def test_a_folder_that_cannot_be_made_is_refused(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with pytest.raises(UserError, match=f"RAY_TMPDIR: must be a folder for Ray's files.* got .?{folder}"):
        check_machine()


@pytest.mark.parametrize("home", ["/dev/null", "/proc/none"])
def test_without_a_home_that_can_be_written_ray_gets_a_token_of_this_process(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    check_machine()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_file_for_the_token_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"RAY_AUTH_TOKEN_PATH: must be a file with Ray's token, got .*none"):
        check_machine()


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({}, 0.0),
        ({"a/b": "max 100000", "a": "max 100000"}, 0.0),
        ({"a/b": "150000 100000"}, 1.5),
        ({"a/b": "max 100000", "a": "50000 100000"}, 0.5),
        ({"": "300000 100000", "a/b": "400000 100000"}, 3.0),
        ({"a/b": "nonsense"}, 0.0),
    ],
)
def test_the_quota_of_control_groups_is_the_least_from_the_own_group_up(
    limits: dict[str, str], cores: float, tmp_path: Path
) -> None:
    (tmp_path / "mounted" / "a" / "b").mkdir(parents=True)
    for group, text in limits.items():
        (tmp_path / "mounted" / group / "cpu.max").write_text(f"{text}\n")
    (tmp_path / "cgroup").write_text("1:cpu:/elsewhere\n0::/a/b\n")
    assert machine._quota(tmp_path / "cgroup", tmp_path / "mounted") == cores
    assert machine._quota(tmp_path / "none", tmp_path / "mounted") == 0


@pytest.mark.parametrize(
    ("allowed", "quota", "slurm", "cores"),
    [(8, 0, "", 8), (2, 0, "", 2), (8, 1.5, "", 2), (8, 0, "3", 3), (1, 4, "4", 1), (8, 0.1, "x", 1), (8, 0, "0", 8)],
)
def test_the_least_of_affinity_quota_and_slurms_share_is_used(
    allowed: int, quota: float, slurm: str, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(allowed)))
    monkeypatch.setattr(machine, "_quota", lambda *_: quota)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)
    assert machine.usable_cores() == cores
