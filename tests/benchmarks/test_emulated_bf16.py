"""What stands in for bf16 instructions gives what torch's own bf16 gives."""

from __future__ import annotations

import torch
from torch import nn

from tests.benchmarks.emulated_bf16 import emulate_bf16


def test_emulated_layers_round_as_torchs_own_bf16() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 5))
    images = torch.rand(2, 8, 8, 8)
    exact = net(images)
    with torch.autocast("cpu", torch.bfloat16):
        own = net(images)
        with emulate_bf16():
            emulated = net(images)
            assert net[0](images).dtype == torch.bfloat16
    torch.testing.assert_close(emulated, own, rtol=2**-7, atol=2**-9)
    assert (emulated.float() - exact).abs().max() > 0


def test_fp32_stays_fp32_and_the_layers_are_as_before_afterwards() -> None:
    layer, images = nn.Conv2d(3, 4, 3), torch.rand(1, 3, 5, 5)
    before = nn.Conv2d._conv_forward, nn.Linear.forward
    with emulate_bf16():
        inside = layer(images)
    assert torch.equal(inside, layer(images))
    assert (nn.Conv2d._conv_forward, nn.Linear.forward) == before
