"""What Ray has, against what is asked of it; without starting it."""

from __future__ import annotations

import contextlib
import importlib
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raydistill.errors import UserError
from raydistill.on_ray import room, session
from raydistill.on_ray.head import Patience
from tests.small import run_python


def _has(nodes: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])


@pytest.mark.parametrize(
    ("nodes", "workers", "fits"),
    [
        ([{"CPU": 2.0}], 2, True),
        ([{"CPU": 2.0}], 3, False),
        ([{"CPU": 1.0}, {"CPU": 1.0}], 2, True),
        ([{"memory": 1.0}, {"CPU": 1.0}], 2, False),
    ],
)
def test_more_workers_than_the_nodes_hold_are_refused(
    nodes: list[dict[str, float]], workers: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would wait for ever."""
    _has(nodes, monkeypatch)
    with contextlib.nullcontext() if fits else pytest.raises(UserError, match="must fit into the Ray cluster"):
        room.Demand("scaling.num_workers", workers, {"CPU": 1}, "lower it").refuse_what_cannot_be_had()


def test_more_workers_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _has([{"CPU": 8.0, "GPU": 1.0}], monkeypatch)
    with pytest.raises(UserError, match="2 workers of 1 CPU and 1 GPU for nodes of 8 CPU 1 GPU, which hold 1; lower"):
        room.Demand("scaling.num_workers", 2, {"CPU": 1, "GPU": 1}, "lower it").refuse_what_cannot_be_had()


@pytest.mark.parametrize(
    ("nodes", "wanted", "places"),
    [
        ([{"CPU": 8.0}], {"CPU": 3}, 2),
        ([{"CPU": 8.0, "GPU": 1.0}], {"CPU": 1, "GPU": 0.25}, 4),
        ([{"CPU": 8.0, "GPU": 1.0}], {"CPU": 1, "GPU": 0.1}, 8),
        ([{"CPU": 8.0, "GPU": 1.0}], {"CPU": 0.1, "GPU": 0.1}, 10),
        ([{"CPU": 3.0}, {"CPU": 3.0}], {"CPU": 2}, 2),  # a worker does not spread over two nodes
        ([{"CPU": 4.0}, {"CPU": 4.0, "GPU": 2.0}], {"CPU": 1, "GPU": 1}, 2),
        ([], {"CPU": 1}, 0),
    ],
)
def test_places_are_counted_node_by_node(
    nodes: list[dict[str, float]], wanted: dict[str, float], places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _has(nodes, monkeypatch)
    assert room.places_for(wanted) == places


def test_dead_nodes_have_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [{"Alive": False, "Resources": {"CPU": 64.0}}, {"Alive": True, "Resources": {"CPU": 1.0}}]
    monkeypatch.setattr(session.ray, "nodes", lambda: there)
    assert room.places_for({"CPU": 1}) == 1


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that answers at RAY_ADDRESS."""
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    monkeypatch.setattr(session, "check_head", lambda *_: None)
    monkeypatch.setattr(session.ray, "shutdown", lambda: None)


def test_a_cluster_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(session.ray, "init", lambda **_: pytest.fail("was joined"))
    said = "RAY_ADDRESS: must be the address of a running Ray head.* got 127.0.0.1:1, where nothing listens"
    with pytest.raises(UserError, match=said), session.connected(1, patience=Patience(0)):
        pass


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("not here"), "must be a cluster that this machine is a node of, got somewhere"),
        (ValueError("odd\nmore"), "must be a running Ray cluster, got somewhere: ValueError: odd; the traceback is in"),
    ],
)
def test_what_goes_wrong_in_joining_a_head_that_answers_is_a_sentence(
    error: Exception, said: str, joined: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr(session.ray, "init", init)
    with pytest.raises(UserError, match=f"RAY_ADDRESS: {said}"), session.connected(1):
        pass


@pytest.mark.parametrize(("url", "said"), [("127.0.0.1:8265", "Ray's dashboard: http://127.0.0.1:8265"), ("", "none")])
def test_where_the_dashboard_is_is_told_where_that_was_asked_for(
    url: str, said: str, joined: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(session.ray, "init", lambda **_: SimpleNamespace(dashboard_url=url))
    with session.connected(1, patience=Patience(listener=heard.append)):
        assert heard == []
    with session.connected(1, patience=Patience(listener=heard.append), tell_dashboard=True):
        assert said in heard[0].text


def test_what_is_imported_meanwhile_is_there_when_ray_is(
    tmp_path: Path, joined: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.2)\nDONE = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    imported_before_ray = []
    monkeypatch.setattr(
        session.ray,
        "init",
        lambda **_: imported_before_ray.append(hasattr(sys.modules.get("slow_to_import"), "DONE")),
    )
    with session.connected(1, meanwhile="slow_to_import"):
        assert sys.modules["slow_to_import"].DONE
    assert imported_before_ray == [False]


def test_a_module_that_cannot_be_imported_is_reported_where_it_is_needed(
    joined: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session.ray, "init", lambda **_: None)
    with session.connected(1, meanwhile="no_such_module_anywhere"), pytest.raises(ImportError):
        importlib.import_module("no_such_module_anywhere")


def test_an_import_that_fails_in_the_background_is_raised_as_it_is(
    tmp_path: Path, joined: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fails_to_import.py").write_text("raise OSError('no memory left')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(session.ray, "init", lambda **_: None)
    with pytest.raises(OSError, match="no memory left"), session.connected(1, meanwhile="fails_to_import"):
        pass


def test_looking_what_there_is_does_not_import_torch() -> None:
    """The driver starts Ray at once and imports torch meanwhile."""
    modules = (
        "raydistill.runs.settings, raydistill.runs.weights_file, raydistill.on_ray.run, raydistill.inference.scoring"
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rays_dashboard_is_for_this_machine_and_the_token_for_its_owner_and_signals_stay_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, object] = {}

    def init(**settings: object) -> None:
        started.update(settings)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray does

    (tmp_path / ".ray").mkdir()
    token = tmp_path / ".ray" / "auth_token"
    token.write_text("secret")
    token.chmod(0o644)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(session.ray, "init", init)
    monkeypatch.setattr(session.ray, "shutdown", lambda: None)
    before = signal.getsignal(signal.SIGTERM)
    with session.connected(1):
        assert signal.getsignal(signal.SIGTERM) == before
    assert started["dashboard_host"] == "127.0.0.1"
    assert token.stat().st_mode & 0o777 == 0o600


FIRST_IMPORT_OF_RAY = """
import importlib, os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "ray":
            os._exit(0 if os.environ.get("RAY_AUTH_MODE") == "token" else 3)
sys.meta_path.insert(0, Finder())
importlib.import_module("raydistill.on_ray." + sys.argv[1])
"""


@pytest.mark.parametrize("module", ["run", "sweep", "room"])
def test_rays_environment_is_set_before_it_is_imported(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray reads it then: set later, its servers ask for a token that its clients do not send."""
    for name in ("RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert run_python("-c", FIRST_IMPORT_OF_RAY, module).returncode == 0


def test_rays_notes_lie_in_a_folder_of_ours_and_nobody_elses_is_removed(tmp_path: Path) -> None:
    for name in ("ray", ".ray"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("x")
    notes = session.ray_storage(str(tmp_path))
    assert session.ray_storage(str(tmp_path)) == notes == str(tmp_path / ".ray-2")
    (Path(notes) / "state.json").write_text("{}")
    session.remove_ray_storage(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ray", "ray"]
    assert all((tmp_path / name / "mine.txt").is_file() for name in ("ray", ".ray"))


@pytest.mark.parametrize(
    ("allowed", "there", "needed", "told"), [(2, 2, 1, None), (2, 2, 3, 3), (1, 2, 1, 1), (1, 2, 4, 4), (3, 16, 2, 3)]
)
def test_a_ray_that_is_started_here_has_the_cores_that_this_process_may_use(
    allowed: int, there: int, needed: int, told: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(session.os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    monkeypatch.setattr(session.os, "cpu_count", lambda: there)
    monkeypatch.setattr(session.ray, "init", lambda **options: asked.append(options["num_cpus"]))
    session._start_here(needed, dashboard=False)
    assert asked == [told]
