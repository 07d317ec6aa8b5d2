"""Several nodes: Ray processes of this machine, ended as machines that are lost.

The fixtures share one head and follow one another, so that few nodes have to be started.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from raydistill.config import load_config
from raydistill.runs.directory import RunDirectory
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.sweeps.directory import SweepDirectory
from raydistill.training.stages import run_stages
from tests.cluster.nodes import Cluster, Node, started
from tests.commands import TIMEOUT, Command, train_teacher, until
from tests.outputs import output_of
from tests.ranks import start_ranks
from tests.small import SMALL_RUN, Listener, metrics_of, repeatable, same_weights, small_sweep, weights_of

pytestmark = [pytest.mark.ray, pytest.mark.long]

EPOCHS = 8
# The student alone; batch norm's statistics differ between workers.
ALONE = [
    *(
        *SMALL_RUN,
        *(f"methods.tar.{term}.weight=0" for term in ("feature", "classification", "regression", "rpn")),
        "student.norm=batch",
        "scaling.cpus_per_worker=1",
    ),
    *(f"training.epochs={EPOCHS}", "data.num_train=12", "evaluation.every=4", "student.box_score_thresh=0"),
]


@dataclass
class _Run:
    """A command whose workers were watched."""

    command: Command
    output: Path
    nodes: list[Node]
    seen: list[tuple[int, ...]] = field(default_factory=list)
    """How many workers each node had, whenever that changed."""

    @property
    def baseline(self) -> RunDirectory:
        return RunDirectory(self.output / "baseline")

    def epochs(self) -> int:
        metrics, checkpoint = self.baseline.metrics, self.baseline.checkpoint
        return len(metrics_of(self.baseline)) if metrics.is_file() and checkpoint.is_file() else 0

    def watch(self, condition: Callable[[], object] = lambda: False) -> None:
        """Look where its workers are until ``condition`` holds or it has ended."""
        deadline = time.monotonic() + TIMEOUT
        while self.command.running() and not condition():
            assert time.monotonic() < deadline, self.command.text
            counts = tuple(len(node.workers()) for node in self.nodes)
            if not self.seen or self.seen[-1] != counts:
                self.seen.append(counts)
            time.sleep(0.1)


def _train(cluster: Cluster, output: Path, nodes: list[Node], *settings: str) -> _Run:
    arguments = ["quickstart", *ALONE, *settings, "--output", str(output)]
    return _Run(cluster.run(output.name, "raydistill.train", *arguments), output, nodes)


def _on_rank(worker: Worker, output: str) -> None:
    config = load_config("quickstart", [*ALONE, "scaling.num_workers=2", f"output={output}"])
    run_stages(config, output_of(config), worker, lambda run: FileReporter(run, worker, Listener()))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDirectory]:
    """Two processes of this machine, without Ray and without a fault; they run while the cluster starts."""
    output = tmp_path_factory.mktemp("undisturbed")
    processes = start_ranks(_on_rank, 2, str(output), seconds=TIMEOUT)
    yield RunDirectory(output / "baseline")
    for process in processes:
        process.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, undisturbed: RunDirectory) -> Iterator[Cluster]:
    """A head that trains nothing."""
    with started(tmp_path_factory.mktemp("nodes"), 0) as it:
        yield it


@pytest.fixture(scope="module")
def robbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> _Run:
    """A run of two workers on two nodes; one of them is lost within an epoch, and a larger one is added."""
    first, second = cluster.add(1), cluster.add(1)
    run = _train(cluster, tmp_path_factory.mktemp("two") / "robbed", [first, second], "scaling.num_workers=2")
    run.watch(lambda: run.epochs() >= 2)
    second.kill()
    run.nodes.append(cluster.add(2))
    run.watch()
    return run


@pytest.fixture(scope="module")
def elastic(cluster: Cluster, robbed: _Run, tmp_path_factory: pytest.TempPathFactory) -> _Run:
    """A run of three workers on nodes of one and two CPUs; the small one is lost within an epoch, and none comes."""
    lost, _, kept = robbed.nodes
    settings = ["scaling.num_workers=3", "scaling.min_workers=1", f"scaling.elastic_wait_seconds={TIMEOUT}"]
    run = _train(
        cluster, tmp_path_factory.mktemp("three") / "elastic", [kept, lost], *settings, "training.batch_size=6"
    )
    run.watch(lambda: run.epochs() >= 2)
    lost.kill()
    run.watch()
    return run


@pytest.fixture(scope="module")
def sweep(cluster: Cluster, elastic: _Run, tmp_path_factory: pytest.TempPathFactory) -> _Run:
    """A sweep that begins on one node; another one is added when its first trial is at work, and stands still until
    the second one is at work too.
    """
    folder = tmp_path_factory.mktemp("sweep")
    file = small_sweep(folder, {"scaling.cpus_per_worker": 1}, resources={"cpus_per_worker": 2}, seeds=2)
    train_teacher(file)
    run = _Run(cluster.run("sweep", "raydistill.tune", file), folder / "sweep", [elastic.nodes[0]])
    run.watch(lambda: any(trial.run.metrics.is_file() for trial in SweepDirectory(run.output).trials()))
    first_one = run.nodes[0].workers()
    for pid in first_one:
        os.kill(pid, signal.SIGSTOP)
    run.nodes.append(cluster.add(2))
    run.watch(run.nodes[1].workers)
    for pid in first_one:
        os.kill(pid, signal.SIGCONT)
    run.watch()
    return run


def test_two_workers_of_two_nodes_with_one_cpu_are_on_one_each(robbed: _Run) -> None:
    before_the_loss = [counts for counts in robbed.seen if len(counts) == 2]
    assert (1, 1) in before_the_loss
    assert max(map(max, before_the_loss)) == 1


def test_a_lost_node_is_one_sentence_and_training_goes_on_with_the_added_one(robbed: _Run) -> None:
    assert robbed.command.finish() == 0, robbed.command.text
    (sentence,) = re.findall(r"^.*\bnode\b.*\blost\b.*$", robbed.command.text, flags=re.MULTILINE)
    assert re.fullmatch(
        r"warning: node [\d.]+ was lost, and with it worker [01]; training goes on from the last checkpoint once its "
        r"workers are there again",
        sentence,
    )
    assert f"baseline: {EPOCHS} epochs of 3 steps, going on after epoch" in robbed.command.text
    for word in ("Traceback", "gloo", "raylet"):
        assert word not in robbed.command.text
    assert robbed.seen[-1][1] == 0
    assert any(len(counts) == 3 and counts[2] for counts in robbed.seen), "the added node was used"


def test_on_two_nodes_and_after_a_loss_the_result_is_that_of_one_machine_to_the_bit(
    robbed: _Run, undisturbed: RunDirectory
) -> None:
    until(lambda: undisturbed.finished, "the undisturbed run has not ended")
    assert same_weights(weights_of(undisturbed.last), weights_of(robbed.baseline.last))
    assert repeatable(metrics_of(undisturbed)) == repeatable(metrics_of(robbed.baseline))
    assert torch.cat([value.flatten().float() for value in weights_of(undisturbed.last).values()]).isfinite().all()


def test_a_node_has_as_many_workers_as_it_has_cpus(elastic: _Run) -> None:
    assert (2, 1) in elastic.seen
    assert max(counts[0] for counts in elastic.seen) == 2
    assert max(counts[1] for counts in elastic.seen) == 1


def test_an_elastic_run_goes_on_with_fewer_workers_and_says_what_that_means(elastic: _Run) -> None:
    assert elastic.command.finish() == 0, elastic.command.text
    said = "baseline: goes on with 2 workers after 3; the result is no longer the same to the bit"
    assert said in elastic.command.text
    assert re.findall(r"device: cpu, (\d of \d workers)", elastic.command.text) == ["3 of 3 workers", "2 of 3 workers"]
    assert [line["epoch"] for line in metrics_of(elastic.baseline)] == [*range(1, EPOCHS + 1)]
    assert (2, 0) in elastic.seen[elastic.seen.index((2, 1)) :]


def test_the_batch_of_an_elastic_run_stays_as_large(elastic: _Run) -> None:
    """Its optimizer steps say so: an epoch of 12 images has two of them, whatever the workers."""
    steps = [line["step"] for line in metrics_of(elastic.baseline)]
    assert steps == [*range(2, 2 * EPOCHS + 1, 2)]


def test_trials_run_on_all_nodes_and_on_one_that_was_added_to_a_running_sweep(sweep: _Run) -> None:
    assert sweep.command.finish() == 0, sweep.command.text
    assert [max(counts[n] for counts in sweep.seen if len(counts) > n) for n in range(2)] == [1, 1]
    assert {trial.read().status for trial in SweepDirectory(sweep.output).trials()} == {"finished"}
