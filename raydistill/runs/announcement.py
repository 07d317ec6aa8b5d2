"""The first line of a run or a sweep: what is about to be done, before torch and Ray are imported."""

from __future__ import annotations

from raydistill.config.sections import Config, Data, OwnData, ShapesData
from raydistill.runs.events import Note
from raydistill.storage.mirror import named


def announced(name: str, config: Config) -> Note:
    """Return what is said first of a recipe or a sweep: its nets, its data, and where the results go."""
    student = config.student.short_name
    nets = f"{config.teacher.short_name} teaches {student}" if config.distills else f"{student} alone"
    return Note(f"{name}: {nets}, on {_in_words(config.data)}; results go to {named(config.output)}")


def _in_words(data: Data) -> str:
    if isinstance(data, ShapesData):
        return f"{data.num_train} generated images"
    return f"the data of {data.dataset}" if isinstance(data, OwnData) else named(data.root)
