"""Where the answers of a stage's teacher are kept, and what is said about that before it begins and when it ends."""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torchvision

from raydistill.config.detector import OwnDetector, described
from raydistill.config.sections import Config
from raydistill.data.loading.decoded import transformed
from raydistill.data.loading.loaders import TrainingLoader
from raydistill.detectors.base import Detector
from raydistill.detectors.frozen import computes_bf16
from raydistill.detectors.kept.tensors import InMemory, OnDisk
from raydistill.errors import UserError, counted
from raydistill.runs.events import Note
from raydistill.runs.worker import Worker
from raydistill.storage.free_memory import free_memory
from raydistill.storage.kept_files import KeptFiles, kept_folder, size_in_words
from raydistill.structures import Target
from raydistill.training.distiller import Distiller
from raydistill.training.job import Job

_FORM = 1  # of what is kept, and of how it is computed
_GB = 10**9
_SHARE = 0.5  # of what is free that ``auto`` takes
_MOST_OF_MEMORY = 0.8  # of what is free that ``memory`` takes


@dataclass(frozen=True)
class Need:
    """What keeping all answers of a run takes."""

    images: int
    variants: int  # ways in which each image comes in this run
    bytes_per_image: float

    @property
    def num_bytes(self) -> float:
        """All of it."""
        return self.images * self.variants * self.bytes_per_image

    def __str__(self) -> str:
        """Return it in words."""
        return (
            f"{counted(self.images, 'image')} in {counted(self.variants, 'draw')} at "
            f"{size_in_words(self.bytes_per_image)}, {size_in_words(self.num_bytes)}"
        )


def keep_answers(
    job: Job,
    distiller: Distiller,
    loader: TrainingLoader,
    worker: Worker,
    weights: str,
    shared: bool,
    notify: Callable[[Note], None],
) -> None:
    """Decide where the teacher's answers are kept on this machine, and say what that takes.

    Args:
        job: the distilled student's.
        distiller: its teacher is asked once, for the size of an answer.
        loader: of this worker.
        worker: this one.
        weights: stands for the teacher's.
        shared: whether other runs on this machine will ask the same, as a sweep's trials do.
        notify: hears what was decided.

    Raises:
        UserError: where ``teacher.cache`` is ``disk`` and the folder cannot be written to.
    """
    config, teacher = job.config, distiller.teacher
    if teacher is None or teacher.answering is None or config.teacher.cache == "off":
        return
    need = _need(job, distiller, loader, worker)
    if need is None:
        return
    place = _place(config, need, alone=worker.world_size == 1 and not shared, repeats=shared or _repeats(job))
    if place.kind == "off":
        notify(Note(f"teacher.cache: off: {place.why}"))
        return
    notify(Note(f"teacher.cache: {need}, {place.why}{_held(place, need)}{_break_even(job, need, shared)}"))
    if place.kind == "memory":
        teacher.answering.kept = InMemory(place.num_bytes)
        return
    folder = kept_folder(config.teacher.cache_folder)
    try:
        name, about = _source(config, distiller, worker, weights)
        teacher.answering.kept = OnDisk(KeptFiles(folder, name, about, place.num_bytes))
    except OSError as error:
        problem = f"{folder} must be a folder to write to, got: {error.strerror or error}"
        if config.teacher.cache == "disk":
            raise UserError(f"teacher.cache_folder: {problem}; choose another") from error
        notify(Note(f"teacher.cache: off: {problem}", True))


def tell_what_was_kept(distiller: Distiller, worker: Worker, notify: Callable[[Note], None]) -> None:
    """Say at the end of a stage what the cache has done, on all workers together; every worker calls it."""
    answering = None if distiller.teacher is None else distiller.teacher.answering
    kept = None if answering is None else answering.kept
    own = None
    if answering is not None and kept is not None:
        own = (answering.known, answering.computed, kept.bytes_kept, kept.damaged, kept.full)
    found = [counts for counts in worker.gather(own) if counts is not None]
    if not found:
        return
    known, computed, added, damaged = map(sum, zip(*(counts[:4] for counts in found), strict=True))
    asked = counted(known + computed, "picture")
    text = f"teacher.cache: of {asked} that the teacher was asked about {known} were known"
    text += f"; {size_in_words(added)} were added"
    full = next((counts[4] for counts in found if counts[4]), "")
    notify(Note(f"{text}; no more is kept: {full}" if full else text))
    if damaged:
        notify(Note(f"teacher.cache: {counted(damaged, 'kept answer')} were damaged and computed again", True))


def _repeats(job: Job) -> bool:
    variants = job.config.augmentation.num_variants
    return variants is not None and job.epochs > variants


def _need(job: Job, distiller: Distiller, loader: TrainingLoader, worker: Worker) -> Need | None:
    """Ask the teacher about one image, and return what all of them take; None where there is no image to ask about."""
    sample, teacher = loader.sample_batch(), distiller.teacher
    if sample is None or teacher is None:
        return None
    images, targets = worker.to_device(sample[0][:1], sample[1][:1])
    batch = distiller.student.prepare(images, targets)
    answering = teacher.answering
    assert answering is not None
    probe = InMemory(2**60)
    known: list[Target] = [{**target, "digest": "probe"} for target in batch.targets]
    answering.kept = probe
    _ = teacher.look(replace(batch, targets=known)).features
    answering.kept, answering.computed = None, 0
    area = batch.image_sizes[0][0] * batch.image_sizes[0][1]
    areas = [width * height for width, height in _sizes(job)]
    variants = job.config.augmentation.num_variants or job.epochs
    return Need(len(areas), min(variants, job.epochs), probe.bytes_kept * sum(areas) / len(areas) / area)


def _sizes(job: Job) -> list[tuple[int, int]]:
    """Return the (width, height) that the images have when the nets see them."""
    return [transformed(int(width), int(height), job.config.input) for width, height in job.train.records.sizes]


@dataclass(frozen=True)
class _Place:
    kind: Literal["memory", "disk", "off"]
    why: str  # in words
    num_bytes: int = 0  # most that is kept there


def _place(config: Config, need: Need, alone: bool, repeats: bool) -> _Place:
    """Return where answers are kept."""
    wanted, most = config.teacher.cache, int(config.teacher.cache_max_gb * _GB)
    folder, room = kept_folder(config.teacher.cache_folder), free_memory()
    in_memory = f"kept in memory ({size_in_words(room)} are free)"
    if wanted == "memory":
        return _Place("memory", in_memory, min(most, int(_MOST_OF_MEMORY * room)))
    disk = _free_disk(folder)
    on_disk = _Place("disk", f"kept in {folder} ({size_in_words(disk)} are free)", most)
    if wanted == "disk":
        return on_disk
    if not repeats:
        return _Place("off", "no picture comes twice")
    if alone and need.num_bytes <= min(most, _SHARE * room):
        return _Place("memory", in_memory, min(most, int(_MOST_OF_MEMORY * room)))
    if need.num_bytes <= min(most, _SHARE * disk):
        return on_disk
    why = (
        f"{need} exceed teacher.cache_max_gb={config.teacher.cache_max_gb:g} or half of what is free, "
        f"{size_in_words(room)} of memory and {size_in_words(disk)} in {folder}; use teacher.cache_half or fewer draws"
    )
    return _Place("off", why)


def _held(place: _Place, need: Need) -> str:
    """Say how much of what is needed the place takes, where that is not all."""
    if need.num_bytes <= place.num_bytes:
        return ""
    share = place.num_bytes / need.num_bytes
    return f"; {size_in_words(place.num_bytes)} at most, {share:.0%} of it: the rest is computed each time"


def _break_even(job: Job, need: Need, shared: bool) -> str:
    if shared:
        return "; shared by all trials on this machine"
    if not _repeats(job):
        return "; pays only for a run that comes after this one"
    return f"; pays from epoch {need.variants + 1} of {job.epochs} on"


def _free_disk(folder: Path) -> int:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _source(config: Config, distiller: Distiller, worker: Worker, weights: str) -> tuple[str, dict[str, object]]:
    """Return what all that decides the answers is known by, and what a person is told of it."""
    student, teacher = distiller.student, distiller.teacher
    assert teacher is not None
    net = described(config.teacher)
    about: dict[str, object] = {
        "teacher": config.teacher.short_name,
        "weights": weights,
        "input": config.input.model_dump(mode="json"),
        "precision": distiller.precision,
        "half": config.teacher.cache_half,
        "torch": torch.__version__,
        "device": _device(worker.device),
        "threads": torch.get_num_threads(),
    }
    decides = {
        **about,
        "form": _FORM,
        "net": net,
        "torchvision": torchvision.__version__,
        "prepared_by": [*_code(student, config.student), repr(student.normalization)],
        "answered_by": [*_code(teacher.detector, config.teacher), repr(teacher.detector.normalization)],
        "compiled": config.distillation.compile_teacher,
        "engine": config.distillation.teacher_engine,
    }
    text = json.dumps(decides, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), about


def _code(detector: Detector, settings: object) -> list[str]:
    """Return what a detector's way of computing is known by: for one of the user's own its code and settings too."""
    kind = type(detector)
    if not isinstance(settings, OwnDetector):
        return [f"{kind.__module__}.{kind.__qualname__}"]
    try:
        code = inspect.getsource(sys.modules[kind.__module__])
    except (OSError, TypeError, KeyError):  # typed into a session
        code = ""
    return [f"{kind.__module__}.{kind.__qualname__}", code, settings.model_dump_json()]


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.backends.cpu.get_cpu_capability()}{' bf16' if computes_bf16() else ''}"
