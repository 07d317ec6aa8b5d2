"""What is said of a sweep before it begins: what a reader of its file may not expect."""

from __future__ import annotations

from raydistill.config.asking import asks_by_image
from raydistill.errors import UserError
from raydistill.runs.comparison import comparison
from raydistill.runs.scores import exists
from raydistill.sweeps.directory import SweepDirectory
from raydistill.sweeps.file import LoadedSweep, OptunaSearch

_TRIED_AGAIN = {"retry": "tried again", "only": "tried again, and nothing else", "leave": "not tried again"}


def counts(loaded: LoadedSweep, kept: int, failed: int) -> str:
    """Return how many trials there are, how many ended before, and what becomes of those that failed."""
    sentences = [f"{loaded.num_trials} trials in {loaded.config.output}"]
    if kept:
        sentences.append(f"{kept} of them ended before and are kept")
    if failed:
        sentences.append(f"{failed} failed before: {_TRIED_AGAIN[loaded.sweep.failed]}")
    return "; ".join(sentences)


def refuse_missing_score(directory: SweepDirectory, metric: str) -> None:
    """Return unless the scores of the teacher show that the validation split has no object for the metric.

    Raises:
        UserError: where they do, and no trial would be better than another.
    """
    for row in comparison(directory.path):
        if row.stage == "teacher" and not exists(row.scores[metric]):
            raise UserError(
                f"metric: must have an object to score on the validation split, got {metric}, which the teacher has no "
                "score of: there is no object of its size; choose another metric"
            )


def said_beforehand(loaded: LoadedSweep) -> list[str]:
    """Return a sentence for each point that is left out, and for what limits the sweep or makes it another."""
    sweep = loaded.sweep
    lines = [*loaded.dropped, *_growth(loaded)]
    asked = sweep.num_trials or 0
    if loaded.points is None and loaded.num_points < asked:
        lines.append(
            f"num_trials: {asked} are asked for and the space has {loaded.num_points} different points; the sweep ends "
            "with these"
        )
    if sweep.mode == "min":
        lines.append(
            f"mode: min takes the lowest {sweep.metric} for the best, which is the worst; leave it out for max"
        )
    if sweep.target is not None:
        lines.append(
            f"target: the sweep ends once the mean of a point over all seeds is {sweep.metric} {sweep.target:g} or "
            "better; trials at work leave a checkpoint"
        )
    if sweep.keep is not None:
        best = "best point" if sweep.keep == 1 else f"{sweep.keep} best points"
        lines.append(
            f"keep: the weights of the {best} and of the controls stay, those of the others are removed as points end; "
            "scores, curves and recipes stay"
        )
    if asks_by_image(loaded.config) and loaded.config.teacher.cache in ("auto", "disk"):
        lines.append(
            "teacher.cache: what the teacher says of a picture is kept on each machine for all trials; "
            "raydistill cache shows and clears it"
        )
    return lines


def does_not_repeat(loaded: LoadedSweep, local: bool) -> str:
    """Return why the same seed will not suggest the same points again; empty where it will."""
    sweep = loaded.sweep
    if not isinstance(sweep.search, OptunaSearch) or local or sweep.max_concurrent == 1 or loaded.num_points < 2:
        return ""
    return (
        "search.seed: Optuna suggests from the scores that are there, so a sweep with several trials at once does not "
        "repeat its points under the same seed; with max_concurrent=1 or --local it does"
    )


def _growth(loaded: LoadedSweep) -> list[str]:
    """Say how many points a sweep has from before it grew."""
    if not loaded.grown:
        return []
    before, seeds = loaded.grown[-1], len(loaded.sweep.seeds)
    grown = (
        f"the sweep has grown from {before.num_points} points under {len(before.seeds)} seed"
        f"{'' if len(before.seeds) == 1 else 's'} to {loaded.num_points} under {seeds}; points keep their numbers"
    )
    if before.num_points == loaded.num_points and before.space != loaded.sweep.space:
        return [f"{grown}; num_trials must be raised to draw from the wider space"]
    return [grown]
