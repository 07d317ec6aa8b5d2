"""Where the runs and sweeps of tests lie: what the commands open, from their settings."""

from __future__ import annotations

from raydistill.config import Config
from raydistill.runs import settings
from raydistill.runs.directory import RunDirectory, StageName, stage_directory
from raydistill.storage.output import Output
from raydistill.sweeps.file import LoadedSweep
from raydistill.sweeps.plan import Plan


def output_of(config: Config) -> Output:
    """Return where a run lies."""
    return Output.at(config.output)


def stage_of(config: Config, stage: StageName) -> RunDirectory:
    """Return where a stage of a run lies."""
    return stage_directory(output_of(config), stage)


def plan_of(loaded: LoadedSweep) -> Plan:
    """Return the plan of a sweep."""
    return Plan(loaded, output_of(loaded.config))


def refuse_other_settings(config: Config) -> None:
    """Refuse what a run was begun with otherwise."""
    settings.refuse_other_settings(config, output_of(config))


def write_settings(config: Config, stage: StageName) -> None:
    """Write what a stage is begun with."""
    settings.write_settings(config, stage, stage_of(config, stage))
