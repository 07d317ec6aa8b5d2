"""The stages of a run in this process, without Ray."""

from __future__ import annotations

from raydistill.config import Config
from raydistill.errors import UserError
from raydistill.runs.directory import StageName, unfinished
from raydistill.runs.events import Listener, Note
from raydistill.runs.reporter import FileReporter
from raydistill.runs.stopping import Stop
from raydistill.runs.worker import Worker, local_device
from raydistill.storage.output import Output
from raydistill.training import stages


def run_locally(config: Config, output: Output, listener: Listener, stop: Stop, only: StageName | None = None) -> None:
    """Run what is missing of ``config``, or one of its stages, in ``output`` on this machine's first GPU, or its CPU.

    Raises:
        UserError: as ``run_stages``, and where the settings want a GPU that is not there.
        Stopped: when ``stop`` was asked for and a checkpoint is written.
    """
    to_do = unfinished(config, output, only)
    if config.scaling.use_gpu is True and local_device().type != "cuda" and to_do:
        raise UserError("scaling.use_gpu: must not be true on a machine without a GPU; leave it out")
    if config.scaling.num_workers > 1 and to_do:
        listener(Note(f"--local: one process instead of scaling.num_workers={config.scaling.num_workers}"))
    worker = Worker(device=local_device(bool(config.scaling.use_gpu)), stop=stop)
    stages.run_stages(
        config, output, worker, lambda run: FileReporter(run, worker, listener, config.logging.tensorboard), only
    )
