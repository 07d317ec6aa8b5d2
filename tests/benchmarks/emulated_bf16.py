"""``python -m tests.benchmarks emulated_bf16 RECIPE ...``: train as ``raydistill.train`` does, bf16 in fp32's time.

A processor without bf16 instructions runs torch's bf16 convolutions and linear layers five times slower than fp32. Here
they compute what such instructions do (bf16 inputs and weights, products summed in fp32, the sum rounded to bf16) with
fp32's kernels; everything else is torch's own bf16. For what a bf16 teacher costs in AP, not for timings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from raydistill import train


@contextmanager
def emulate_bf16() -> Iterator[None]:
    """Let convolutions and linear layers under a CPU's bf16 autocast compute in fp32 and round as bf16 does."""
    conv, linear = nn.Conv2d._conv_forward, nn.Linear.forward

    def conv_forward(self: nn.Conv2d, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            plain: Tensor = conv(self, images, weight, bias)
            return plain
        with torch.autocast("cpu", enabled=False):
            sums: Tensor = conv(self, round_to_bf16(images), round_to_bf16(weight), _rounded(bias))
            return sums.bfloat16()

    def linear_forward(self: nn.Linear, values: Tensor) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            return linear(self, values)
        with torch.autocast("cpu", enabled=False):
            weight, bias = round_to_bf16(self.weight), _rounded(self.bias)
            return nn.functional.linear(round_to_bf16(values), weight, bias).bfloat16()

    nn.Conv2d._conv_forward, nn.Linear.forward = conv_forward, linear_forward  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Conv2d._conv_forward, nn.Linear.forward = conv, linear  # type: ignore[method-assign]


def round_to_bf16(values: Tensor) -> Tensor:
    """Return fp32 numbers that bf16 holds exactly."""
    return values.bfloat16().float()


def _rounded(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else round_to_bf16(bias)


def main(arguments: Sequence[str]) -> None:
    """Train on the command line of ``raydistill.train``; ends the process with its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks emulated_bf16",
        description="Train as raydistill.train does, a bf16 teacher in fp32's time. For its AP, not for timings.",
    )
    parser.add_argument("train", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="what raydistill.train takes")
    options = parser.parse_args(arguments)
    with emulate_bf16():
        code = train.main(options.train)
    sys.exit(code)
