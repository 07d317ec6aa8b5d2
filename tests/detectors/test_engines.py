from __future__ import annotations

import copy
import io
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from raydistill.detectors.engines import check_engine, is_used, run_in
from raydistill.detectors.frozen import make_fast
from raydistill.errors import UserError
from tests.detectors.test_frozen import answers, teacher_with_statistics
from tests.nets import small_config, small_detector
from tests.small import run_python

# Apart from the rest, as those of clusters: a process that had an engine has crashed in later tests of other libraries.
pytestmark = pytest.mark.long

CPU = torch.device("cpu")
ENGINES = ("onnxruntime", "openvino")
BATCHES = ((2, 3, 96, 96), (1, 3, 96, 128), (3, 3, 64, 96), (1, 3, 96, 80))


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    detector = teacher_with_statistics()
    make_fast(detector)
    return detector.feature_extractor()


def images_of(size: tuple[int, ...]) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("engine", ENGINES)
def test_that_batches_of_all_sizes_get_the_maps_of_torch(engine, plain):
    other = copy.deepcopy(plain)
    run_in(engine, other, torch.float32)
    assert not is_used(other)
    with torch.no_grad():
        for size in BATCHES:
            expected, found = plain(images_of(size)), other(images_of(size))
            assert list(found) == list(expected)
            for name, level in expected.items():
                assert (found[name] - level).abs().max() <= 1e-4 * level.abs().max()
    assert is_used(other)


def test_that_a_fast_teacher_with_an_engine_says_the_same_up_to_rounding():
    detector = teacher_with_statistics("mobilenet_v3_large", "frozen")
    before = answers(detector)
    make_fast(detector, engine="onnxruntime")
    for was, now in zip(before, answers(detector), strict=True):
        assert (now - was).abs().max() <= 1e-4 * was.abs().max()
    assert is_used(detector.feature_extractor())


def test_that_norms_that_stay_are_computed_too():
    config = small_config()  # group norm
    detector = small_detector(config.teacher, config).eval()
    before = answers(detector)
    make_fast(detector, engine="onnxruntime")
    for was, now in zip(before, answers(detector), strict=True):
        assert (now - was).abs().max() <= 1e-4 * was.abs().max()


def test_that_a_bf16_teacher_in_openvino_keeps_its_own_weights_and_is_close(monkeypatch):
    detector = teacher_with_statistics()
    before = answers(detector)
    make_fast(detector, torch.bfloat16, engine="openvino")
    dtypes = {module.weight.dtype for module in detector.feature_extractor().modules() if isinstance(module, nn.Conv2d)}
    assert dtypes == {torch.float32} and detector.model.rpn.head.cls_logits.weight.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        after = answers(detector)
    for was, now in zip(before, after, strict=True):
        assert (now.float() - was).abs().max() <= 0.05 * was.abs().max()


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1)).eval().requires_grad_(False)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: _through_a_file(module)], ids=["copied", "pickled"])
def test_that_a_copy_asks_an_engine_of_its_own(copied: Callable[[nn.Module], nn.Module]):
    first = convolutions()
    run_in("onnxruntime", first, torch.float32)
    images = images_of(BATCHES[0])
    with torch.no_grad():
        before = first(images)
        other = copied(first)
        for parameter in other.parameters():
            parameter.zero_()
        assert other(images).abs().max() == 0
        assert torch.equal(first(images), before)


def _through_a_file(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    found: nn.Module = torch.load(file, weights_only=False)
    return found


_FORKING = """
import gc, os, signal, sys, time
import torch
from raydistill.detectors.engines import is_used, run_in
from tests.detectors.test_engines import BATCHES, convolutions, images_of

module = convolutions()
run_in(sys.argv[1], module, torch.float32)
gc.collect()
gc.disable()
module(images_of(BATCHES[0]))
assert is_used(module)
del module  # in a cycle: it lives until garbage is collected
child = os.fork()
if not child:
    gc.collect()
    os._exit(7)
deadline = time.monotonic() + 60
while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
    time.sleep(0.02)
if ended[0] == 0:
    os.kill(child, signal.SIGKILL)
    sys.exit("it hangs")
sys.exit(0 if os.waitstatus_to_exitcode(ended[1]) == 7 else f"it ended with {ended[1]}")
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_that_a_forked_process_leaves_engines_alone_that_nobody_needs_any_more(engine):
    """A loader process would hang where it ends an engine whose threads stayed behind.

    In a process of its own: one that had a Ray before must not be forked beside an engine's threads.
    """
    ended = run_python("-c", _FORKING, engine)
    assert ended.returncode == 0, ended.stderr[-500:]


def test_that_an_engine_follows_torchs_threads(monkeypatch):
    from raydistill.detectors import engines

    started = []
    start = engines._STARTERS["onnxruntime"]
    watched = {"onnxruntime": lambda model, threads, dtype: started.append(threads) or start(model, threads, dtype)}
    monkeypatch.setattr(engines, "_STARTERS", watched)
    module = convolutions()
    run_in("onnxruntime", module, torch.float32)
    for threads in (1, 1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        module(images_of(BATCHES[3]))
    assert started == [1, 2]


class OneMap(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=1, keepdim=True)


class Several(nn.Module):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [images * 2, images + 1]


@pytest.mark.parametrize("net", [OneMap(), Several()])
def test_that_an_extractor_of_ones_own_may_give_a_map_or_several(net):
    images, expected = images_of(BATCHES[0]), net(images_of(BATCHES[0]))
    run_in("onnxruntime", net, torch.float32)
    found = net(images)
    assert type(found) is type(expected)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


class OfOneSize(nn.Module):
    """Its export holds the size that it was exported with."""

    def forward(self, images: Tensor) -> Tensor:
        return images + torch.linspace(0, 1, int(images.shape[-1]))


class Untraceable(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.fft.fft2(images).abs()


class ByValue(nn.Module):
    """Its export holds what the first images decided."""

    def forward(self, images: Tensor) -> Tensor:
        return images * 2 if images[0, 0, 0, -1] != 0 else images * 3


class NotMaps(nn.Module):
    def forward(self, images: Tensor) -> dict[str, object]:
        return {"maps": [images]}


@pytest.mark.parametrize("net", [OfOneSize(), Untraceable(), ByValue(), NotMaps()], ids=lambda net: type(net).__name__)
def test_that_an_extractor_that_cannot_be_exported_is_refused_in_a_line(net):
    run_in("onnxruntime", net, torch.float32)
    with pytest.raises(
        UserError, match=r"teacher_engine: .* exportable as ONNX .* in onnxruntime, got .*; use torch"
    ) as e:
        net(images_of(BATCHES[0]))
    assert "\n" not in str(e.value)


def test_that_a_teacher_on_a_gpu_is_refused():
    with pytest.raises(UserError, match="teacher_engine: openvino is for teachers on the processor, got one on cuda"):
        check_engine("openvino", "fp32", torch.device("cuda"), computes_bf16=True)
    check_engine("torch", "fp32", torch.device("cuda"), computes_bf16=False)


@pytest.mark.parametrize(("engine", "extra"), [("onnxruntime", "export"), ("openvino", "openvino")])
def test_that_a_missing_package_names_its_extra(engine, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(UserError, match=rf"{engine} must be installed .*pip install 'raydistill\[{extra}\]'"):
        check_engine(engine, "fp32", CPU, computes_bf16=False)


def test_that_bf16_needs_an_engine_and_a_processor_that_compute_with_it():
    check_engine("openvino", "bf16", CPU, computes_bf16=True)
    with pytest.raises(UserError, match=r"bf16 needs .*got a processor that does not; use fp32"):
        check_engine("openvino", "bf16", CPU, computes_bf16=False)
    with pytest.raises(UserError, match=r"bf16 needs .*got an engine that does not; use fp32"):
        check_engine("onnxruntime", "bf16", CPU, computes_bf16=True)
