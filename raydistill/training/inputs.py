"""What training reads, data and weights: looked at where that is cheap, before anything is started; without torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from raydistill.config.sections import NAMED_WEIGHTS, Config, Downloads, FilesData
from raydistill.data.readable import check_readable
from raydistill.errors import UserError
from raydistill.runs.directory import StageName
from raydistill.runs.weights_file import weights_file
from raydistill.storage.remote_path import file_or_folder


@dataclass(frozen=True)
class Inputs:
    """The files that a run or a sweep reads."""

    data: FilesData | None
    """None: they are made, or another look was taken at them."""
    weights: tuple[tuple[str, str], ...]
    """Settings and the files or run directories they name."""
    downloads: Downloads

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return self.data is not None or bool(self.weights)

    def check(self) -> None:
        """Make sure that this machine can read them.

        Raises:
            UserError: naming what is wrong.
        """
        for setting, name in self.weights:
            try:
                weights_file(file_or_folder(name, self.downloads.cache))
            except UserError as error:
                raise UserError(f"{setting}: {error}") from error
        if self.data is not None:
            check_readable(self.data, self.downloads)

    def parted(self, here: Callable[[str], bool]) -> tuple[Inputs, Inputs]:
        """Return those of the places that ``here`` holds for, and the others."""
        data_here = self.data is not None and here(self.data.root)
        weights = {name: here(name) for _, name in self.weights}
        return (
            replace(
                self,
                data=self.data if data_here else None,
                weights=tuple(pair for pair in self.weights if weights[pair[1]]),
            ),
            replace(
                self,
                data=None if data_here else self.data,
                weights=tuple(pair for pair in self.weights if not weights[pair[1]]),
            ),
        )


def inputs_of(config: Config, stages: Collection[StageName], students: Iterable[str] = ()) -> Inputs:
    """Return what some stages read.

    Args:
        config: their settings.
        stages: which.
        students: more values that ``student.weights`` takes, in a sweep.
    """
    weights = [("teacher.weights", config.teacher.weights)] if "teacher" in stages else []
    if "baseline" in stages or "distilled" in stages:
        weights += [("student.weights", name) for name in sorted({config.student.weights, *students})]
    return Inputs(
        data=config.data if isinstance(config.data, FilesData) else None,
        weights=tuple(pair for pair in weights if pair[1] not in NAMED_WEIGHTS),
        downloads=config.downloads,
    )
