"""``ray job submit`` as a user types it, against a head of its own with an autoscaler and a token."""

from __future__ import annotations

import json
import re
import shutil
import urllib.error
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from raydistill import tune
from raydistill.sweeps.directory import SweepDirectory
from tests.cluster.nodes import SPARING, Cluster, started
from tests.commands import Command, until, without_pictures
from tests.small import metrics_of, small_sweep

pytestmark = [pytest.mark.ray, pytest.mark.long]

EPOCHS = {"training.epochs": 3, "scaling.cpus_per_worker": 1}
CLOUD = yaml.safe_load((Path(__file__).parent / "fake_cloud.yaml").read_text())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head with one CPU whose autoscaler may start one node."""
    folder = tmp_path_factory.mktemp("head")

    def with_autoscaler(address: str) -> Sequence[str]:
        CLOUD["provider"]["gcs_address"] = address
        (folder / "cloud.yaml").write_text(yaml.safe_dump(CLOUD))
        return [f"--autoscaling-config={folder / 'cloud.yaml'}"]

    node = CLOUD["provider"]["head_node_id"]
    fake = {"RAY_FAKE_CLUSTER": "1", "RAY_CLOUD_INSTANCE_ID": node, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node}
    autoscaler = {"RAY_enable_autoscaler_v2": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    with started(folder, 1, with_autoscaler, jobs=True, **fake, **autoscaler, **SPARING) as it:
        it.take_first_job("sleep 3600", cpus=1)
        yield it


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> SweepDirectory:
    """A sweep that was run to its end in this process, for its teacher and its controls."""
    folder = tmp_path_factory.mktemp("here")
    with without_pictures():
        assert tune.main([small_sweep(folder, EPOCHS), "--local"]) == 0
    return SweepDirectory(folder / "sweep")


@dataclass(frozen=True)
class _Jobs:
    """A sweep that was stopped and submitted again, and two runs that found no room beside it."""

    sweep: SweepDirectory
    stopped: Command
    ended_before: dict[Path, bytes]
    again: Command
    without_room: dict[str, Command]


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, here: SweepDirectory, tmp_path_factory: pytest.TempPathFactory) -> _Jobs:
    folder = tmp_path_factory.mktemp("jobs")
    file = small_sweep(folder, EPOCHS, seeds=2, resources={"cpus_per_worker": 2})
    sweep = SweepDirectory(folder / "sweep")
    shutil.copytree(here.teacher.path, sweep.teacher.path)

    def ended() -> list[Path]:
        return [trial.record_file for trial in sweep.trials() if trial.read().ended]

    stopped = cluster.submit("first", "python", "-m", "raydistill.tune", file)
    stopped.reach(ended)
    assert cluster.head.workers(), stopped.text
    cluster.stop_job("first")
    stopped.finish()
    until(lambda: not cluster.head.workers(), "workers outlive their job", seconds=60)
    kept = {record: record.read_bytes() for record in ended()}

    def scaling(workers: int, seconds: int) -> list[str]:
        wanted = {"num_workers": workers, "cpus_per_worker": 1, "wait_seconds": seconds}
        return ["quickstart", "training.batch_size=16", *(f"scaling.{key}={value}" for key, value in wanted.items())]

    again = cluster.submit("second", "python", "-m", "raydistill.tune", file)
    output = ("--output", str(folder / "run"))
    too_much = cluster.submit("too-much", "python", "-m", "raydistill.train", *scaling(16, 2), *output)
    too_much.finish()
    busy = cluster.run("busy", "raydistill.train", *scaling(4, 10), *output)  # of four CPUs one is taken
    for command in (busy, again):
        command.finish()
    return _Jobs(sweep, stopped, kept, again, {"too-much": too_much, "busy": busy})


def test_a_sweep_waits_for_the_node_that_the_autoscaler_starts(jobs: _Jobs) -> None:
    assert (
        "resources: 1 worker of 2 CPU for nodes of 1 CPU 0 GPU, which hold 0; waiting up to 60 s" in jobs.stopped.text
    )
    assert "the cluster's autoscaler is starting nodes: waiting up to 900 s for them" in jobs.stopped.text


def test_a_stopped_sweep_goes_on_when_it_is_submitted_again_and_ends_with_its_report(
    cluster: Cluster, jobs: _Jobs
) -> None:
    assert cluster.job("first")["status"] == "STOPPED"
    assert cluster.job("second")["driver_exit_code"] == 0, jobs.again.text
    assert 0 < len(jobs.ended_before) < 6
    assert (
        f"6 trials in {jobs.sweep.path}; {len(jobs.ended_before)} of them ended before and are kept" in jobs.again.text
    )
    assert {record: record.read_bytes() for record in jobs.ended_before} == jobs.ended_before
    assert list(pd.read_csv(jobs.sweep.report / "trials.csv")["status"]) == ["finished"] * 6
    assert (jobs.sweep.report / "report.html").is_file()


def test_a_run_on_a_busy_cluster_gives_up_after_the_time_that_its_user_set(jobs: _Jobs) -> None:
    assert jobs.without_room["busy"].code == 2
    assert re.search(
        r"scaling\.num_workers: must get room on the Ray cluster, got 4 workers of 1 CPU where \d of 4 CPU are free; "
        r"waited 10 s \(scaling\.wait_seconds\); lower it or",
        jobs.without_room["busy"].text,
    )


def test_a_job_that_asks_for_too_much_gives_up_with_the_commands_exit_code(cluster: Cluster, jobs: _Jobs) -> None:
    too_much = jobs.without_room["too-much"]
    assert too_much.code == 1  # all that `ray job submit` says of a failed command
    assert cluster.job("too-much")["driver_exit_code"] == 2
    sentence = next(line for line in too_much.text.splitlines() if "must fit into the Ray cluster" in line)
    assert "scaling.num_workers: must fit into the Ray cluster, got 16 workers of 1 CPU for nodes of " in sentence
    assert "; waited 2 s for nodes (scaling.wait_seconds); lower it" in sentence


def test_who_lacks_the_token_is_turned_away(cluster: Cluster) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        cluster.ask("/api/jobs/", token="wrong")
    assert caught.value.code in (401, 403)


def test_a_trial_of_two_workers_is_one_trial_with_every_epoch_once(
    cluster: Cluster, jobs: _Jobs, here: SweepDirectory, tmp_path: Path
) -> None:
    """On this cluster, as it needs the head's dashboard."""
    sweep = SweepDirectory(tmp_path / "sweep")
    shutil.copytree(here.teacher.path, sweep.teacher.path)
    for control in ("baseline-seed0", "constant-seed0"):  # groups take their time to start: one is enough
        shutil.copytree(here.trial(control).path, sweep.trial(control).path)
    file = small_sweep(tmp_path, EPOCHS, resources={"num_workers": 2, "cpus_per_worker": 1})
    command = cluster.run("group", "raydistill.tune", file)
    assert command.finish() == 0, command.err
    trial = sweep.trial("p0000-seed0")
    assert trial.read().status == "finished"
    assert [line["epoch"] for line in metrics_of(trial.run)] == [1, 2, 3]
    assert json.loads(trial.run.result.read_text())["epochs"] == 3
    assert "2 finished" not in command.out
    assert "3 trials, 3 finished" in command.out
