"""CPU seconds and memory of RoIAlign: torchvision's and ours on the same maps and boxes."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from raydistill.detectors.two_stage.roi_align import pool_regions
from tests.benchmarks.commands import count, parser_of, show
from tests.benchmarks.memory import peak_memory, process_memory
from tests.benchmarks.timing import Spread, clock, in_turn, ratios

_WAYS = ("torchvision", "ours")
_PASSES = ("forward", "both")
_STRIDES = (4, 8, 16, 32)
_IMAGES = 2
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """Maps of two images, of a size in pixels, and how many regions of both together are pooled from them."""

    channels: int
    regions: int
    height: int = 640
    width: int = 1088


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line says."""
    parser = parser_of("roi_align", "Pool made-up boxes from maps of noise, torchvision's way and ours in turn.")
    parser.add_argument("--channels", type=count, nargs="*", default=[64, 256], metavar="N")
    parser.add_argument("--regions", type=count, nargs="*", default=[128, 256, 512, 1024], metavar="N")
    parser.add_argument(
        "--size", type=count, nargs=2, default=[640, 1088], metavar="N", help="of the images, in pixels"
    )
    parser.add_argument("--rounds", type=count, default=15, metavar="N", help="times each is measured")
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="torch's threads")
    parser.add_argument("--time-only", action="store_true", help="leave the memory out, which takes new processes")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    cases = [Case(channels, regions, *options.size) for channels in options.channels for regions in options.regions]
    rows = [measure(case, options.rounds) | ({} if options.time_only else memory(case)) for case in cases]
    show(as_text(rows), {"threads": options.threads, "rounds": options.rounds, "rows": rows}, options.json)


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Return seconds of the forward pass and of forward and backward, and their ratios."""
    runs = {f"{way} {what}": run_of(case, way, what) for way in _WAYS for what in _PASSES}
    seconds = in_turn(runs, rounds, clock("cpu", _CPU))
    row: dict[str, Any] = {"channels": case.channels, "regions": case.regions, "height": case.height}
    for what in _PASSES:
        pair = {way: seconds[f"{way} {what}"] for way in _WAYS}
        row |= {f"{what}_{way}": Spread.of(values).median for way, values in pair.items()}
        ratio = ratios(pair, "torchvision")["ours"]
        row |= {f"{what}_ratio": ratio.median, f"{what}_low": ratio.interval[0], f"{what}_high": ratio.interval[1]}
    return row


def memory(case: Case) -> dict[str, float]:
    """Return what forward and backward take at their peak, each in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as alone:
        return {f"mib_{way}": alone.submit(memory_of, case, way).result() for way in _WAYS}


def memory_of(case: Case, way: str) -> float:
    """Return the MiB that pooling and its gradients take at their peak, beyond the maps."""
    run = run_of(case, way, "both")
    run_of(Case(case.channels, 8, 64, 96), way, "both")()  # what is loaded with the first call
    before = process_memory("VmRSS") / 1024**2
    return peak_memory(run, _CPU) - before


def run_of(case: Case, way: str, what: str) -> Callable[[], object]:
    """Return a function that pools the regions of ``case``, and with ``both`` takes the maps' gradients."""
    generator = torch.Generator().manual_seed(0)
    maps = {
        str(number): torch.randn(
            (_IMAGES, case.channels, math.ceil(case.height / stride), math.ceil(case.width / stride)),
            generator=generator,
        ).requires_grad_(what == "both")
        for number, stride in enumerate(_STRIDES)
    }
    boxes = [_boxes(case, generator) for _ in range(_IMAGES)]
    sizes = [(case.height, case.width)] * _IMAGES
    pooler = MultiScaleRoIAlign([*maps], output_size=7, sampling_ratio=2)
    gradient = torch.ones(_IMAGES * len(boxes[0]), case.channels, 7, 7)

    def pool() -> Tensor:
        pooled: Tensor = pool_regions(pooler, maps, boxes, sizes) if way == "ours" else pooler(maps, boxes, sizes)
        return pooled

    return pool if what == "forward" else lambda: torch.autograd.grad(pool(), [*maps.values()], gradient)


def _boxes(case: Case, generator: torch.Generator) -> Tensor:
    """Draw the regions of an image: sides between 12 and 370 pixels, as many small as large by their logarithm."""
    number, frame = case.regions // _IMAGES, torch.tensor([case.width, case.height])
    middles = torch.rand(number, 2, generator=generator) * frame
    sides = torch.exp(torch.rand(number, 1, generator=generator) * 3.4 + 2.5)
    sides = sides * torch.exp(torch.randn(number, 2, generator=generator) * 0.3)
    return torch.cat([(middles - sides / 2).clamp(min=0), torch.minimum(middles + sides / 2, frame)], 1)


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return the measurements as a table."""
    head = f"{'torchvision':>12}{'ours':>8}{'ratio':>24}"
    lines = [
        f"{'':16}{'forward, ms':>44}{'with gradients, ms':>44}{'peak MiB':>20}",
        f"{'channels regions':16}{head}{head}{'torchvision':>12}{'ours':>8}",
    ]
    for row in rows:
        text = f"{row['channels']:>8}{row['regions']:>8}"
        for what in _PASSES:
            milliseconds = (f"{1000 * row[f'{what}_{way}']:.1f}" for way in _WAYS)
            ratio = f"{row[f'{what}_ratio']:.2f} ({row[f'{what}_low']:.2f} to {row[f'{what}_high']:.2f})"
            text += "{:>12}{:>8}{:>24}".format(*milliseconds, ratio)
        memory = (f"{row[f'mib_{way}']:.0f}" if f"mib_{way}" in row else "-" for way in _WAYS)
        lines.append(text + "{:>12}{:>8}".format(*memory))
    return "\n".join(lines)
