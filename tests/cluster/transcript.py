"""``python -m tests.cluster.transcript``: a sweep submitted to three nodes of this machine, one of which is lost.

What is typed and printed is written as it comes, with the seconds since the sweep was submitted. Folders and addresses
get neutral names, and what Ray says of packing the working directory is left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from raydistill.sweeps.directory import SweepDirectory
from tests.cluster.nodes import RAY, Cluster, Node, started
from tests.commands import Command, until
from tests.small import REPOSITORY

SWEEP = "tune_configs/quickstart.yaml"
SHORT = (
    "data.num_train=40",
    "data.num_val=16",
    "teacher.epochs=1",
    "training.epochs=3",
    "evaluation.every=1",
    "seeds=1",
)
_OF_PACKING = re.compile(r"\b(packaging|working_dir|dashboard_sdk)\.py:")


@dataclass
class _Paper:
    """What the transcript is written on."""

    replaced: list[tuple[str, str]]
    started: float = field(default_factory=time.monotonic)

    def write(self, line: str) -> None:
        """Write a line as it is, but for names."""
        for name, neutral in self.replaced:
            line = line.replace(name, neutral)
        sys.stdout.write(re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() + "\n")
        sys.stdout.flush()

    def at(self, line: str) -> None:
        """Write a line with the time."""
        self.write(f"[{time.monotonic() - self.started:6.1f} s] {line}")


def main() -> int:
    """Write the transcript and return the exit code of the submitted command."""
    folder = Path(tempfile.mkdtemp())
    with started(folder, 0, jobs=True) as cluster:
        cluster.take_first_job("true")
        nodes = {name: cluster.add(1) for name in ("a", "b", "c")}
        paper = _Paper([(str(folder), "/mnt/shared"), (cluster.address, "HEAD:6379"), *_neutral(cluster)])
        paper.write("# A head without CPUs for work, and three nodes with one CPU each.")
        paper.write(f"$ python -m tests.cluster.transcript   # Ray {_ray_version()}")
        return _sweep(cluster, nodes, paper, folder / "runs" / "quickstart")


def _sweep(cluster: Cluster, nodes: dict[str, Node], paper: _Paper, output: Path) -> int:
    sweep = SweepDirectory(output)
    command = ["python", "-m", "raydistill.tune", SWEEP, *SHORT, "--output", str(output)]
    paper.write(f"$ ray job submit --submission-id quickstart --working-dir . -- {' '.join(command)}")
    paper.started = time.monotonic()
    job = cluster.submit("quickstart", *command)
    following = threading.Thread(target=_follow, args=(job, paper), daemon=True)
    following.start()
    until(lambda: not job.running() or all(_at_work(nodes).values()), "the nodes are not all at work")
    paper.at(f"# trials at work: {_shown(_at_work(nodes))}")
    until(lambda: not job.running() or _epochs(sweep) >= 3, "no epochs were trained")
    paper.at(f"# node b is killed: all its processes at once, after {_epochs(sweep)} epochs of all trials together")
    lost = time.monotonic()
    nodes.pop("b").kill()
    until(lambda: not job.running() or "was lost" in job.text, "the loss was not noticed")
    paper.at(
        f"# said {time.monotonic() - lost:.1f} s after the node's death; trials at work: {_shown(_at_work(nodes))}"
    )
    code = job.finish()
    following.join()
    paper.at(f"# `ray job submit` has ended with exit code {code}")
    paper.write("$ ray job status quickstart")
    paper.write(_status(cluster))
    paper.write("$ ls /mnt/shared/runs/quickstart/report")
    paper.write("  ".join(sorted(path.name for path in sweep.report.iterdir())))
    paper.write("$ cut -d, -f1-6 /mnt/shared/runs/quickstart/report/trials.csv")
    for line in (sweep.report / "trials.csv").read_text().splitlines():
        paper.write(",".join(line.split(",")[:6]))
    return code


def _follow(job: Command, paper: _Paper) -> None:
    """Write what the job says, line by line, until it has ended."""
    written = 0
    while True:
        last = not job.running()
        *lines, _ = job.out.split("\n")
        for line in lines[written:]:
            if not _OF_PACKING.search(line):
                paper.at(line)
        written = len(lines)
        if last:
            return
        time.sleep(0.1)


def _at_work(nodes: dict[str, Node]) -> dict[str, int]:
    return {name: len(node.workers()) for name, node in nodes.items()}


def _shown(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} on {name}" for name, count in counts.items())


def _epochs(sweep: SweepDirectory) -> int:
    return sum(len(trial.run.lines()) for trial in sweep.trials() if trial.run.checkpoint.is_file())


def _status(cluster: Cluster) -> str:
    environment = {**cluster.environment, "RAY_ADDRESS": cluster.dashboard}
    command = [*RAY, "job", "status", "quickstart"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def _neutral(cluster: Cluster) -> list[tuple[str, str]]:
    return [(cluster.dashboard, "http://HEAD:8265"), (str(REPOSITORY), "/home/user/raydistill")]


def _ray_version() -> str:
    import ray

    return str(ray.__version__)


if __name__ == "__main__":
    sys.exit(main())
