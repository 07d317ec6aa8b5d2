"""Seconds from detections to COCO scores on made-up data: pycocotools alone, and each way of ours."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from raydistill.config.training import Backend
from raydistill.errors import UserError
from raydistill.inference.columns import Found, Objects
from raydistill.inference.scoring import Curves, Scores, check_backend, score, scores_of
from tests.benchmarks.commands import count, parser_of, show
from tests.benchmarks.memory import process_memory

ALONE = "pycocotools alone"
_OBJECTS_PER_IMAGE = 7
_WIDTH, _HEIGHT = 640, 480


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line says."""
    parser = parser_of("eval", "Score made-up detections, each time in new processes.")
    parser.add_argument("--images", type=count, default=5000, metavar="N")
    parser.add_argument("--detections", type=count, default=100, metavar="N", help="of each image")
    parser.add_argument("--classes", type=count, default=80, metavar="N")
    parser.add_argument("--workers", type=count, default=1, metavar="N", help="also spread over N workers")
    parser.add_argument("--rounds", type=count, default=5, metavar="N", help="times each way is measured")
    options = parser.parse_args(arguments)
    size = (options.images, options.detections, options.classes)
    result = measure_evaluation(*size, rounds=options.rounds, workers=options.workers)
    show(as_text(result), result, options.json)


@dataclass(frozen=True)
class MadeUp:
    """Objects and detections of images 1 to ``num_images``, made up, with categories 1 to ``num_classes``."""

    num_images: int
    num_classes: int
    truth: Objects
    found: Found

    @property
    def ground_truth(self) -> dict[str, Any]:
        """The objects as COCO annotations."""
        names = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        truth = self.truth
        columns = (truth.image_ids, truth.category_ids, truth.boxes, truth.areas, truth.ignored.astype(int))
        rows = zip(range(1, len(truth.areas) + 1), *(column.tolist() for column in columns), strict=True)
        return {
            "info": {},
            "images": [{"id": number, "width": _WIDTH, "height": _HEIGHT} for number in range(1, self.num_images + 1)],
            "categories": [{"id": number, "name": f"class {number}"} for number in range(1, self.num_classes + 1)],
            "annotations": [dict(zip(names, row, strict=True)) for row in rows],
        }


def make_up(num_images: int, detections_per_image: int, num_classes: int, seed: int) -> MadeUp:
    """Return about 7 objects an image, 1 in 100 a crowd, and detections of which about half lie near an object.

    Frequent classes are 1, 2, ...: class k has a share in proportion to 1/k, as in COCO, where a third of the objects
    are persons.
    """
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, num_classes + 1)
    counts = rng.poisson(_OBJECTS_PER_IMAGE, num_images)
    total = int(counts.sum())
    boxes = _boxes(rng, total)
    truth = Objects(
        image_ids=np.repeat(np.arange(1, num_images + 1), counts),
        category_ids=rng.choice(num_classes, total, p=shares / shares.sum()) + 1,
        boxes=boxes,
        areas=boxes[:, 2] * boxes[:, 3] * rng.uniform(0.5, 1, total),
        ignored=rng.random(total) < 0.01,
    )
    images = np.repeat(np.arange(num_images), detections_per_image)
    categories = rng.choice(num_classes, len(images), p=shares / shares.sum()) + 1
    places, scores = _boxes(rng, len(images)), rng.beta(1, 6, len(images))
    near = np.flatnonzero((rng.random(len(images)) < 0.5) & (counts[images] > 0))
    objects = (np.cumsum(counts) - counts)[images[near]] + rng.integers(0, counts[images[near]])
    jitter = rng.normal(0, 0.1, (len(near), 4))
    sizes = boxes[objects, 2:]
    places[near] = np.concatenate([boxes[objects, :2] + jitter[:, :2] * sizes, sizes * np.exp(jitter[:, 2:])], axis=1)
    right = rng.random(len(near)) < 0.9
    categories[near[right]] = truth.category_ids[objects[right]]
    scores[near] = rng.beta(2, 3, len(near))
    return MadeUp(num_images, num_classes, truth, Found(images + 1, categories, places, scores))


def _boxes(rng: np.random.Generator, number: int) -> NDArray[np.float64]:
    """Return boxes [number, 4], x, y, width, height, as often small as large."""
    sizes = np.exp(rng.uniform(np.log(8), np.log([_WIDTH, _HEIGHT]), (number, 2)))
    corners = rng.random((number, 2)) * (np.array([_WIDTH, _HEIGHT]) - sizes)
    return np.concatenate([corners, sizes], axis=1)


def measure_evaluation(
    num_images: int = 5000,
    detections_per_image: int = 100,
    num_classes: int = 80,
    seed: int = 0,
    rounds: int = 3,
    workers: int = 1,
) -> dict[str, Any]:
    """Time pycocotools alone and our ways, in turn, each time in new processes; making up the data is not counted.

    ``score`` starts from dictionaries as pycocotools does; ``evaluate`` is what follows the last image of an
    evaluation, by as many processes as there are ``workers`` (gloo), from the columns that detectors leave.

    Returns:
        The size, and under ``methods`` for each: ``seconds`` (median), ``least`` and ``most``; ``cpu_seconds`` (median;
        of the busiest process, which others on the machine hardly change); ``ratio`` and ``cpu_ratio`` (of the medians,
        to pycocotools alone); ``memory`` (bytes that a process needed at its peak on top of the data; 0 where the
        system does not tell) and ``difference`` (the largest of any number from pycocotools alone; 0 is equal to the
        bit).
    """
    size = (num_images, detections_per_image, num_classes, seed)
    methods = {ALONE: _Method(None, "score", 1)}
    for backend in _installed():
        methods[f"score, {backend}"] = _Method(backend, "score", 1)
        plural = "worker" if workers == 1 else "workers"
        methods[f"evaluate, {backend}, {workers} {plural}"] = _Method(backend, "evaluate", workers)
    runs: dict[str, list[_Run]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            runs[name].append(_run(method, size))
    return {
        "images": num_images,
        "detections": num_images * detections_per_image,
        "classes": num_classes,
        "rounds": rounds,
        "methods": {name: _summary(found, runs[ALONE]) for name, found in runs.items()},
    }


def as_text(result: dict[str, Any]) -> str:
    """Return a line per method of what `measure_evaluation` found."""
    lines = [
        f"{result['images']} images, {result['detections']} detections, {result['classes']} classes, "
        f"median of {result['rounds']}",
        f"{'':40} {'seconds':>7} {'least':>7} {'most':>7} {'ratio':>6} {'CPU s':>7} {'ratio':>6} {'MiB':>5}  numbers",
    ]
    for name, found in result["methods"].items():
        seconds = " ".join(f"{found[key]:7.2f}" for key in ("seconds", "least", "most"))
        cpu = f"{found['cpu_seconds']:7.2f} {found['cpu_ratio']:6.3f}"
        equal = "equal" if found["difference"] == 0 else f"differ by {found['difference']:.1e}"
        lines.append(f"{name:40} {seconds} {found['ratio']:6.3f} {cpu} {found['memory'] / 2**20:5.0f}  {equal}")
    return "\n".join(lines)


@dataclass(frozen=True)
class _Method:
    """One way to the scores."""

    backend: Backend | None  # none: pycocotools alone
    way: str  # score or evaluate
    workers: int


@dataclass(frozen=True)
class _Run:
    """What one process took, or each at most of several."""

    seconds: float
    cpu_seconds: float
    memory: int  # bytes
    scores: Scores


def _installed() -> list[Backend]:
    found: list[Backend] = []
    for backend in get_args(Backend):
        with contextlib.suppress(UserError):
            check_backend(backend)
            found.append(backend)
    return found


def _summary(runs: list[_Run], alone: list[_Run]) -> dict[str, float]:
    seconds, cpu, usual, usual_cpu = (
        [getattr(run, name) for run in each] for each in (runs, alone) for name in ("seconds", "cpu_seconds")
    )
    return {
        "seconds": statistics.median(seconds),
        "least": min(seconds),
        "most": max(seconds),
        "ratio": statistics.median(seconds) / statistics.median(usual),
        "cpu_seconds": statistics.median(cpu),
        "cpu_ratio": statistics.median(cpu) / statistics.median(usual_cpu),
        "memory": max(run.memory for run in runs),
        "difference": max(_difference(run.scores, alone[0].scores) for run in runs),
    }


def _difference(scores: Scores, reference: Scores) -> float:
    """Return the largest difference of any number; infinite where one has a class that the other lacks."""
    if scores.per_class.keys() != reference.per_class.keys():
        return float("inf")
    pairs = [(scores.summary, reference.summary)]
    pairs += [(scores.per_class[name], reference.per_class[name]) for name in reference.per_class]
    return max(abs(ours[key] - theirs[key]) for ours, theirs in pairs for key in theirs)


def _run(method: _Method, size: tuple[int, int, int, int]) -> _Run:
    """Run ``method`` in processes of its own; of several the largest number counts."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(method.workers, context) as pool:
        futures = [pool.submit(_in_process, method, size, rank, folder) for rank in range(method.workers)]
        runs = [future.result() for future in futures]
    seconds, cpu_seconds, memory = (
        max(values) for values in zip(*((run.seconds, run.cpu_seconds, run.memory) for run in runs), strict=True)
    )
    return _Run(seconds, cpu_seconds, int(memory), runs[0].scores)


def _in_process(method: _Method, size: tuple[int, int, int, int], rank: int, folder: str) -> _Run:
    data = make_up(*size)
    prepare = _evaluate if method.way == "evaluate" else _score
    with prepare(method, data, rank, folder) as work:
        held = process_memory("VmRSS")
        wall, cpu = time.perf_counter(), time.process_time()
        scores = work()
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    return _Run(seconds, cpu_seconds, max(0, process_memory("VmHWM") - held), scores)


@contextlib.contextmanager
def _score(method: _Method, data: MadeUp, *_: object) -> Iterator[Callable[[], Scores]]:
    """Prepare the dictionaries."""
    truth, found, backend = data.ground_truth, data.found.as_coco(), method.backend
    yield lambda: _alone(truth, found) if backend is None else score(truth, found, backend)


def _alone(truth: dict[str, Any], found: list[dict[str, Any]]) -> Scores:
    """Use pycocotools as its example does."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = [category["name"] for category in truth["categories"]]
    return scores_of(Curves(evaluation.eval["precision"], evaluation.eval["recall"]), names)


@contextlib.contextmanager
def _evaluate(method: _Method, data: MadeUp, rank: int, folder: str) -> Iterator[Callable[[], Scores]]:
    """Prepare one of ``method.workers`` processes, with the detections on its share of the images."""
    import torch.distributed as dist  # takes a second or two

    from raydistill.inference.evaluation import score_together
    from raydistill.runs.worker import Worker

    worker = Worker(rank, method.workers)
    if method.workers > 1:
        dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=method.workers)
    own = data.found.rows(data.found.image_ids % method.workers == rank)
    id_of = {f"class {number}": number for number in range(1, data.num_classes + 1)}
    worker.wait()
    yield lambda: score_together(data.truth, own, id_of, worker, method.backend or "pycocotools")[0]
    if method.workers > 1:
        dist.destroy_process_group()
