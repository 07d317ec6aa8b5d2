"""The kinds of faults that need no Ray: on the command itself, and on two ranks as Ray's workers are."""

from __future__ import annotations

import errno
import functools
import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torchvision.io import write_jpeg

from raydistill.runs.stopping import END_SECONDS
from tests.faults.inside import KilledWriting, NotANumber, OutOfMemory, StorageFails
from tests.faults.runs import EVERY, Attempt, Run, equal, new_folder, undisturbed

Kind = Callable[[Path, random.Random], Attempt]
HANG_SECONDS = 15
"""How long a rank waits for another that hangs, in these runs; ``scaling.hang_seconds`` is the setting."""
STEPS = 9  # of a stage


# Attempts -------------------------------------------------------------------------------------------------------------
def _tried(run: Run, disturb: Callable[[], None], expected: set[int | None] | None = None) -> Attempt:
    """Let ``disturb`` happen to a run that was started, wait for its end, and repeat the command until it ends well."""
    whole = undisturbed(run.ranks, tuple(run.settings), run.recipe)
    disturb()
    started = time.monotonic()
    codes = run.end()
    seconds = time.monotonic() - started
    recovered = codes == [0] * run.ranks or run.finish()
    as_expected = None not in codes and (expected is None or set(codes) <= expected)
    said = "" if recovered and as_expected else f"{codes}: {run.said[-1500:]}"
    return Attempt(recovered and as_expected, run.lost, recovered and equal(whole.run, run), seconds, said)


def _at_random(run: Run, chance: random.Random, number: signal.Signals, ranks: list[int]) -> Callable[[], None]:
    """Return what sends a signal at a random moment: one in four while the run starts, else until its end."""
    whole = undisturbed(run.ranks, tuple(run.settings), run.recipe)
    starting = chance.random() < 0.25
    after = chance.uniform(0, whole.to_first_step if starting else whole.from_first_step)

    def disturb() -> None:
        if not starting:
            run.wait_for_step()
        time.sleep(after)
        run.kill(number, ranks)

    run.start(seconds=HANG_SECONDS)
    return disturb


def driver_killed(folder: Path, chance: random.Random) -> Attempt:
    """SIGKILL of the command: at most ``every_steps`` steps and the one at work are lost."""
    run = Run(folder)
    return _tried(run, _at_random(run, chance, signal.SIGKILL, [0]))


def driver_stopped(folder: Path, chance: random.Random) -> Attempt:
    """SIGTERM to the command: it ends with a checkpoint, in time, and nothing is lost."""
    run = Run(folder)
    as_begun = -signal.SIGTERM  # before there is anything that could be lost
    attempt = _tried(run, _at_random(run, chance, signal.SIGTERM, [0]), {0, 130, as_begun})
    return replace(attempt, recovered=attempt.recovered and not attempt.lost and attempt.seconds < END_SECONDS)


def killed_writing(folder: Path, chance: random.Random) -> Attempt:
    """SIGKILL of one process, or of the main one of two ranks, just before a file is made durable, renamed or removed.

    The moment is one of all that an undisturbed run has.
    """
    run = Run(folder, ranks=chance.choice([1, 2]))
    run.start(
        KilledWriting(chance.randint(1, _moments_of_writing(run.ranks)), str(folder / "writes.txt")), HANG_SECONDS
    )
    return _tried(run, lambda: None)


@functools.cache
def _moments_of_writing(ranks: int) -> int:
    run = Run(new_folder("writing"), ranks)
    note = run.folder / "writes.txt"
    run.start(KilledWriting(0, str(note)))
    if run.end() != [0] * ranks:
        raise RuntimeError(f"the run whose files are counted did not end well:\n{run.said}")
    return len(note.read_text(encoding="utf-8").splitlines())


def rank_killed(folder: Path, chance: random.Random) -> Attempt:
    """SIGKILL of one of two ranks; the other one ends by itself."""
    run = Run(folder, ranks=2)
    return _tried(run, _at_random(run, chance, signal.SIGKILL, [chance.randrange(2)]))


def ranks_killed(folder: Path, chance: random.Random) -> Attempt:
    """SIGKILL of both ranks."""
    run = Run(folder, ranks=2)
    return _tried(run, _at_random(run, chance, signal.SIGKILL, [0, 1]))


def rank_hangs(folder: Path, chance: random.Random) -> Attempt:
    """One of two ranks stands still; the other one notices within ``HANG_SECONDS``."""
    run, rank = Run(folder, ranks=2), chance.randrange(2)
    disturb = _at_random(run, chance, signal.SIGSTOP, [rank])
    noticed: list[float] = []

    def hang() -> None:
        disturb()
        started = time.monotonic()
        run.processes[1 - rank].join(4 * HANG_SECONDS)
        noticed.append(time.monotonic() - started)
        run.kill(signal.SIGKILL, [0, 1])

    attempt = _tried(run, hang)
    return replace(attempt, recovered=attempt.recovered and noticed[0] < 2 * HANG_SECONDS, seconds=noticed[0])


def storage_fails_for_a_while(folder: Path, chance: random.Random) -> Attempt:
    """Writing fails up to four times in a row: the run waits and ends well by itself."""
    run = Run(folder)
    run.start(StorageFails(chance.randint(1, 2 * STEPS), errno.EIO, chance.randint(1, 4)))
    return _tried(run, lambda: None, {0})


def storage_stays_away(folder: Path, chance: random.Random) -> Attempt:
    """Writing fails for good: the run ends with a sentence."""
    run = Run(folder)
    run.start(StorageFails(chance.randint(1, 2 * STEPS - 1), errno.ESTALE, 10_000))
    return _tried(run, lambda: None, {2})


def disk_full(folder: Path, chance: random.Random) -> Attempt:
    """The disk is full: the run ends with a sentence."""
    run = Run(folder)
    run.start(StorageFails(chance.randint(1, 2 * STEPS - 1), errno.ENOSPC, 10_000))
    return _tried(run, lambda: None, {2})


def rank_out_of_memory(folder: Path, chance: random.Random) -> Attempt:
    """One of two ranks finds no memory: a sentence."""
    run = Run(folder, ranks=2)
    run.start(OutOfMemory(chance.randint(1, 2 * STEPS), chance.randrange(2)))
    return _tried(run, lambda: None, {1, 2})


def rank_not_a_number(folder: Path, chance: random.Random) -> Attempt:
    """The loss of one of two ranks becomes NaN: a sentence, and no weight of it in any file."""
    run = Run(folder, ranks=2)
    run.start(NotANumber(chance.randint(1, 2 * STEPS), chance.randrange(2)))
    return _tried(run, lambda: None, {1, 2})


def checkpoint_damaged(folder: Path, chance: random.Random) -> Attempt:
    """SIGKILL, and then the last checkpoint is cut off or has a wrong byte: the one before is gone on from."""
    run = Run(folder)
    disturb = _at_random(run, chance, signal.SIGKILL, [0])

    def damage() -> None:
        disturb()
        run.processes[0].join()
        found = max(run.output.glob("*/checkpoint.pt"), key=lambda path: path.stat().st_mtime_ns, default=None)
        if found is None or not (found.parent / "checkpoint.1.pt").is_file():
            return
        content = bytearray(found.read_bytes())
        content[chance.randrange(len(content) // 4, len(content) // 2)] ^= 0xFF
        found.write_bytes(content if chance.random() < 0.5 else content[: chance.randrange(len(content))])

    return _tried(run, damage)


def rank_without_images(folder: Path, chance: random.Random) -> Attempt:
    """SIGKILL of one of two ranks where there is one image to train on and one to score."""
    run = Run(folder, ranks=2, settings=("data.num_train=1", "data.num_val=1"))
    return _tried(run, _at_random(run, chance, signal.SIGKILL, [chance.randrange(2)]))


def one_object(folder: Path, chance: random.Random) -> Attempt:
    """SIGKILL of a run on images of which one holds an object."""
    run = Run(folder, recipe=str(_with_one_object()))
    return _tried(run, _at_random(run, chance, signal.SIGKILL, [0]))


@functools.cache
def _with_one_object() -> Path:
    """Write a recipe whose images hold nothing but one object in all, and return its file."""
    folder = new_folder("one-object")
    recipe = folder / "hardly-anything.yaml"
    names = {number: f"{number}.jpg" for number in range(1, 13)}
    for number, name in names.items():
        write_jpeg(torch.full((3, 64, 64), 9 * number, dtype=torch.uint8), str(folder / name))
    images = [{"id": number, "file_name": name, "width": 64, "height": 64} for number, name in names.items()]
    thing = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 32, 32], "area": 1024, "iscrowd": 0}
    content = {"images": images, "annotations": [thing], "categories": [{"id": 1, "name": "thing"}]}
    (folder / "all.json").write_text(json.dumps(content))
    data = {"format": "coco", "root": str(folder), "train_annotations": "all.json", "val_annotations": "all.json"}
    data |= {"train_images": ".", "val_images": "."}
    recipe.write_text(yaml.safe_dump({"base": "quickstart", "data": data}))
    return recipe


def records_damaged(folder: Path, chance: random.Random) -> Attempt:
    """SIGKILL, and then a foreign line in the metrics, or the result of a finished stage cut off or emptied."""
    run = Run(folder)
    disturb = _at_random(run, chance, signal.SIGKILL, [0])

    def damage() -> None:
        disturb()
        run.processes[0].join()
        results = sorted(run.output.glob("*/result.json"))
        if results and chance.random() < 0.5:
            content = results[-1].read_bytes()
            results[-1].write_bytes(content[: chance.choice([0, len(content) // 2])])
        at_work = [file for file in run.output.glob("*/metrics.jsonl") if not (file.parent / "result.json").is_file()]
        for metrics in at_work:
            with metrics.open("ab") as file:
                file.write(chance.choice([b"\0" * 40, b"\xff\n", b"not ours\n", b'{"epoch": 2']))

    return _tried(run, damage)


def checkpoint_of_another(folder: Path, chance: random.Random) -> Attempt:
    """SIGKILL, and then the last checkpoint is one of a run with another seed: the one before is gone on from."""
    other = undisturbed(1, ("seed=7",)).run.output
    run = Run(folder)
    disturb = _at_random(run, chance, signal.SIGKILL, [0])

    def exchange() -> None:
        disturb()
        run.processes[0].join()
        for found in run.output.glob("*/checkpoint.pt"):
            foreign = other / found.parent.name / "checkpoint.pt"
            if foreign.is_file() and (found.parent / "checkpoint.1.pt").is_file():
                shutil.copy(foreign, found)

    return _tried(run, exchange)


KINDS: dict[str, Kind] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(
            driver_killed,
            driver_stopped,
            killed_writing,
            rank_killed,
            ranks_killed,
            rank_hangs,
            storage_fails_for_a_while,
        ),
        *(storage_stays_away, disk_full, rank_out_of_memory, rank_not_a_number, checkpoint_damaged),
        *(rank_without_images, one_object, records_damaged, checkpoint_of_another),
    )
}
MOST_LOST = 2 * EVERY
"""Steps that may have to be taken again: those since the last checkpoint, or the one before where that is damaged."""
