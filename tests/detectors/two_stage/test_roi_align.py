"""Our RoIAlign against torchvision's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from raydistill.detectors.two_stage import roi_align
from raydistill.detectors.two_stage.roi_align import pool_regions, with_pool_regions
from tests.nets import mixed_batch, small_config, small_detector

SIZES = [(96, 128), (90, 120)]
PLAIN = torch.tensor([[10.0, 12, 40, 44], [0, 0, 128, 96], [3.3, 4.7, 90.1, 31.9], [50, 20, 52.5, 90]])
ODD = {
    "plain": PLAIN,
    "outside": torch.tensor([[-40.0, -30, 20, 20], [110, 80, 200, 150], [300, 300, 340, 350], [-90, -90, -50, -50]]),
    "on the edge": torch.tensor([[-4.0, -4, 128, 96], [-4.1, -4.1, 3, 3], [124, 92, 132.1, 100.1], [120, 88, 128, 96]]),
    "without area": torch.tensor([[5.0, 5, 5, 40], [60, 60, 60, 60], [0, 0, 0, 0], [128, 96, 128, 96]]),
    "turned round": torch.tensor([[40.0, 40, 10, 60], [40, 40, 10, 10]]),
    "huge": torch.tensor([[-1e6, -1e6, 1e6, 1e6], [0, 0, 1e9, 1e9], [-1e30, 0, 1e30, 50]]),
    "next to nothing": torch.tensor([[1e-30, 1e-30, 9, 9], [1e-44, 1e-44, 1e-40, 1e-40], [8, 8, 8.0001, 8.0001]]),
}
"""Boxes that training meets, and such as it does not."""


def pooler_of(levels: int = 3, size: int | tuple[int, int] = 7, samples: int = 2) -> MultiScaleRoIAlign:
    return MultiScaleRoIAlign([str(level) for level in range(levels)], size, samples, canonical_scale=28)


def maps_of(levels: int = 3, channels: int = 5, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return maps of two images with strides 4, 8, ..., and one that is not pooled."""
    generator = torch.Generator().manual_seed(3)
    shapes = {str(level): (2, channels, 24 >> level, 32 >> level) for level in range(levels)} | {"pool": (2, 3, 1, 1)}
    return {name: torch.randn(shape, generator=generator).to(dtype).requires_grad_() for name, shape in shapes.items()}


def random_boxes(number: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    middles = torch.rand(number, 2, generator=generator) * torch.tensor([128.0, 96])
    sides = torch.exp(torch.rand(number, 2, generator=generator) * 5)
    return torch.cat([middles - sides / 2, middles + sides / 2], 1)


def both(
    pooler: MultiScaleRoIAlign, maps: dict[str, Tensor], boxes: list[Tensor]
) -> Iterator[tuple[Tensor, list[Tensor | None]]]:
    """Yield what we and what torchvision make of them: regions, and the gradients of their product with noise."""
    ways: list[Callable[..., Tensor]] = [lambda *given: pool_regions(pooler, *given), copy.deepcopy(pooler)]
    for pool in ways:
        pooled = pool(maps, boxes, SIZES)
        noise = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(9)).to(pooled.dtype)
        yield pooled, [*torch.autograd.grad(pooled, [*maps.values()], noise, allow_unused=True)]


def assert_alike(pooler: MultiScaleRoIAlign, maps: dict[str, Tensor], boxes: list[Tensor], rtol: float = 1e-5) -> None:
    (ours, our_gradients), (theirs, their_gradients) = both(pooler, maps, boxes)
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=2e-5)
    for mine, expected in zip(our_gradients, their_gradients, strict=True):
        if expected is None:
            assert mine is None
        else:
            assert mine is not None and mine.dtype == expected.dtype
            torch.testing.assert_close(mine, expected, rtol=rtol, atol=2e-5)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each pooling by us."""
    calls: list[int] = []
    sampling = roi_align._sampling
    monkeypatch.setattr(roi_align, "_sampling", lambda *given: calls.append(1) or sampling(*given))
    return calls


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("levels", [1, 3])
def test_regions_and_gradients_are_torchvisions(kind: str, levels: int, counted: list[int]) -> None:
    assert_alike(pooler_of(levels), maps_of(levels), [ODD[kind], PLAIN])
    assert counted


@pytest.mark.parametrize("levels", [1, 3])
def test_boxes_that_are_no_numbers_give_zeros_where_torchvision_reads_beyond_its_memory(levels: int) -> None:
    boxes = torch.tensor([[torch.nan, 0, 10, 10], [0, 0, torch.inf, torch.inf], [1, 1, 30, 30]])
    pooled = pool_regions(pooler_of(levels), maps_of(levels), [boxes, PLAIN], SIZES)
    assert not pooled[:2].any() and pooled[2:].any()


@pytest.mark.parametrize("seed", range(4))
def test_those_of_random_boxes_are_too(seed: int, counted: list[int]) -> None:
    assert_alike(pooler_of(), maps_of(channels=20), [random_boxes(70, seed), random_boxes(30, seed + 10)])
    assert counted


@pytest.mark.parametrize("at_once", [16, 32])
def test_channels_are_pooled_some_at_a_time(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roi_align._Sampling, "channels_at_once", lambda self, channels: min(at_once, channels))
    assert_alike(pooler_of(size=(3, 5)), maps_of(channels=36), [random_boxes(5), random_boxes(9, 1)])


def test_big_maps_and_many_regions_are_worked_on_in_small_parts() -> None:
    sampling = roi_align._sampling(*_primed(pooler_of(), maps_of()), [PLAIN, PLAIN])
    assert sampling.channels_at_once(256) == 256
    assert sampling.channels_at_once(8) == 8
    sampling.num_cells = 40_000
    assert sampling.channels_at_once(256) == 32
    sampling.num_cells = 10**7
    assert sampling.channels_at_once(256) == 16


def _primed(pooler: MultiScaleRoIAlign, maps: dict[str, Tensor]) -> tuple[MultiScaleRoIAlign, list[Tensor]]:
    pooler(maps, [PLAIN, PLAIN], SIZES)
    return pooler, [level for name, level in maps.items() if name != "pool"]


@pytest.mark.parametrize("boxes", [[PLAIN[:0], PLAIN], [PLAIN, PLAIN[:0]], [PLAIN[:0], PLAIN[:0]]])
def test_images_without_regions_are_no_matter(boxes: list[Tensor]) -> None:
    assert_alike(pooler_of(), maps_of(), boxes)


def test_levels_without_regions_have_gradients_of_zero() -> None:
    maps = maps_of()
    gradients = next(both(pooler_of(), maps, [PLAIN[:1], PLAIN[:1]]))[1]
    assert gradients[0] is not None and not gradients[0].any()
    assert any(gradient is not None and gradient.any() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_autocast_is_as_torchvisions(dtype: torch.dtype, autocast: torch.dtype, counted: list[int]) -> None:
    with torch.autocast("cpu", autocast):
        assert_alike(pooler_of(), maps_of(dtype=dtype), [random_boxes(20), PLAIN], rtol=1e-2)
    assert counted


def test_half_types_without_autocast_are_left_to_torchvision(counted: list[int]) -> None:
    maps, boxes = maps_of(dtype=torch.float16), [PLAIN.half(), PLAIN.half()]
    assert torch.equal(pool_regions(pooler_of(), maps, boxes, SIZES), pooler_of()(maps, boxes, SIZES))
    with pytest.raises(RuntimeError, match="same type"):
        pool_regions(pooler_of(), maps, [PLAIN, PLAIN], SIZES)
    assert not counted


def test_what_is_not_two_samples_on_a_cpu_is_left_to_torchvision(counted: list[int]) -> None:
    boxes = [PLAIN, random_boxes(5)]
    for pooler in (pooler_of(samples=0), pooler_of(samples=3), type("Mine", (MultiScaleRoIAlign,), {})(["0"], 7, 2)):
        assert torch.equal(
            pool_regions(pooler, maps_of(), boxes, SIZES), copy.deepcopy(pooler)(maps_of(), boxes, SIZES)
        )
    meta = {name: level.to("meta") for name, level in maps_of(1).items()}
    pooled = pool_regions(pooler_of(1), meta, [rows.to("meta") for rows in boxes], SIZES)
    assert pooled.device.type == "meta" and not counted


def test_what_is_traced_holds_torchvisions_operator() -> None:
    maps = maps_of(1)
    pooler = pooler_of(1)
    pooler(maps, [PLAIN, PLAIN], SIZES)
    traced = torch.jit.trace(
        lambda level, rows: pool_regions(pooler, {"0": level}, [rows, rows], SIZES), (maps["0"].detach(), PLAIN)
    )
    assert "roi_align" in str(traced.graph) and "embedding_bag" not in str(traced.graph)


def test_the_first_and_the_second_derivatives_are_right() -> None:
    """They are held against differences, in double precision."""
    maps = [level.detach().double()[:, :2].requires_grad_() for level in list(maps_of().values())[:3]]
    pooler, boxes = pooler_of(size=2), [PLAIN[1:3].double(), random_boxes(2).double()]

    def pool(*levels: Tensor) -> Tensor:
        return pool_regions(pooler, {str(number): level for number, level in enumerate(levels)}, boxes, SIZES)

    assert torch.autograd.gradcheck(pool, maps, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *levels: pool(*levels) ** 2, maps, fast_mode=True)


def test_a_map_that_needs_no_gradient_gets_none() -> None:
    maps = maps_of()
    maps["1"].requires_grad_(False)
    pool_regions(pooler_of(), maps, [PLAIN, random_boxes(30)], SIZES).sum().backward()
    assert maps["0"].grad is not None and maps["1"].grad is None
    frozen = {name: level.detach() for name, level in maps.items()}
    assert not pool_regions(pooler_of(), frozen, [PLAIN, PLAIN], SIZES).requires_grad


def test_the_layout_of_maps_and_gradients_in_memory_is_no_matter() -> None:
    maps, boxes = maps_of(channels=20), [PLAIN, random_boxes(30)]
    last = {name: level.detach().to(memory_format=torch.channels_last) for name, level in maps.items()}
    assert torch.equal(pool_regions(pooler_of(), maps, boxes, SIZES), pool_regions(pooler_of(), last, boxes, SIZES))
    pooled = pool_regions(pooler_of(), maps, boxes, SIZES)
    noise = torch.randn_like(pooled)
    levels = [maps[str(level)] for level in range(3)]
    one = torch.autograd.grad(pooled, levels, noise, retain_graph=True)
    other = torch.autograd.grad(pooled, levels, noise.to(memory_format=torch.channels_last))
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_the_same_boxes_give_the_same_bits() -> None:
    maps, boxes = maps_of(), [random_boxes(40), random_boxes(40, 1)]
    (first, gradients), (second, again) = (next(both(pooler_of(), maps, boxes)) for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(*pair) for pair in zip(gradients[:3], again[:3], strict=True))  # type: ignore[arg-type]


def test_it_learns_the_strides_from_its_first_batch_as_torchvision_does() -> None:
    ours, theirs = pooler_of(), pooler_of()
    pool_regions(ours, maps_of(), [PLAIN, PLAIN], SIZES)
    theirs(maps_of(), [PLAIN, PLAIN], SIZES)
    assert ours.scales == theirs.scales
    assert ours.map_levels is not None and theirs.map_levels is not None
    assert ours.map_levels([PLAIN]).tolist() == theirs.map_levels([PLAIN]).tolist()


def test_a_detector_pools_fast_where_it_is_told_to_and_the_net_inside_stays_torchvisions(counted: list[int]) -> None:
    config = small_config()
    detector = small_detector(config.student, config)
    images, targets = mixed_batch()
    batch = detector.prepare(images, targets)
    torch.manual_seed(1)
    exact = detector.train_step(batch, detector.extract_features(batch)).losses
    found = detector.eval().detect(images)
    assert not counted
    detector.fast_roi_align = True
    torch.manual_seed(1)
    fast = detector.train().train_step(batch, detector.extract_features(batch)).losses
    assert len(counted) == 1
    for name, loss in exact.items():
        torch.testing.assert_close(fast[name], loss, rtol=1e-5, atol=1e-6)
    again = detector.eval().detect(images)
    assert len(counted) == 2 and sum(len(one["boxes"]) for one in found) > 0
    for one, other in zip(found, again, strict=True):
        torch.testing.assert_close(other["boxes"], one["boxes"], rtol=1e-4, atol=1e-3)
    for net in (detector.exported(), detector.deployable()):
        assert type(net.roi_heads.box_roi_pool) is MultiScaleRoIAlign
        assert not any("raydistill.detectors.two_stage" in type(module).__module__ for module in net.modules())
    detector.exported()(images)
    assert len(counted) == 2


def test_a_net_pooled_otherwise_shares_all_else_with_the_one_it_is_made_of() -> None:
    config = small_config()
    model = small_detector(config.student, config).model
    other = with_pool_regions(model)
    assert [*other.state_dict()] == [*model.state_dict()]
    assert all(mine is own for mine, own in zip(other.parameters(), model.parameters(), strict=True))
    assert type(model.roi_heads.box_roi_pool) is MultiScaleRoIAlign
