"""Another engine than torch for what takes longest in a frozen teacher on a CPU: its feature extractor."""

from __future__ import annotations

import atexit
import importlib
import io
import os
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from raydistill.config.distillation import Engine
from raydistill.config.precision import Precision
from raydistill.errors import UserError, first_line

SETTING = "distillation.teacher_engine"
_PACKAGES: dict[Engine, tuple[str, tuple[str, ...]]] = {
    "torch": ("", ()),
    "onnxruntime": ("export", ("onnx", "onnxruntime")),
    "openvino": ("openvino", ("onnx", "openvino")),
}
"""The extra, and what must be there; torch writes ONNX, which both read."""
_OPSET = 17
_MOST_OFF = 1e-3
"""How far a map may be off in its first check, as a share of its largest value: rounding is far below, a mistake above.

Measured on ResNet-50-FPN: 4e-6, and 9e-5 with random weights. It is made in fp32: what bf16 does to a net is its own.
"""
_MORE = (64, 32)
"""Pixels by which the second batch of that check is wider and higher."""

Run = Callable[[Any], Sequence[Any]]
"""Images [N, 3, H, W] -> maps, both as numpy has them."""


def check_engine(engine: Engine, precision: Precision, device: torch.device, computes_bf16: bool) -> None:
    """Make sure that a teacher can be asked through ``engine`` on this machine.

    Args:
        engine: any.
        precision: type in which the teacher answers.
        device: where it is asked.
        computes_bf16: whether the processor does.

    Raises:
        UserError: without a package, on a GPU, and for a type that the engine does not compute in here.
    """
    if engine == "torch":
        return
    if device.type != "cpu":
        raise UserError(
            f"{SETTING}: {engine} is for teachers on the processor, got one on {device.type}; use torch, with "
            "distillation.teacher_precision=bf16 or compile_teacher"
        )
    extra, packages = _PACKAGES[engine]
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"{SETTING}: {package} must be installed for {engine}, got {first_line(error)!r}; "
                f"pip install 'raydistill[{extra}]'"
            ) from error
    if precision == "bf16" and not (engine == "openvino" and computes_bf16):
        reason = "a processor that does not" if engine == "openvino" else "an engine that does not"
        raise UserError(
            f"distillation.teacher_precision: bf16 needs an engine and a processor that compute with it, got {reason}; "
            f"use fp32 with {SETTING}={engine}"
        )


def run_in(engine: Engine, extractor: nn.Module, dtype: torch.dtype) -> None:
    """Let ``extractor`` (frozen, on the CPU, weights in fp32) compute in ``engine`` from its next call on, in place.

    It still can be copied and pickled; a copy starts an engine of its own, with the weights that it then has.
    """
    extractor.forward = EngineForward(extractor, engine, dtype)


def is_used(extractor: nn.Module) -> bool:
    """Return whether an extractor that was given to ``run_in`` has been asked since."""
    return isinstance(extractor.forward, EngineForward) and extractor.forward.is_started


class EngineForward:
    """Stands for the ``forward`` of a feature extractor.

    One graph serves batches of all sizes, as fast as one for each (within 2 %: tests/results/README.md). It is written
    at the first call, and compared with torch on that batch and on a larger image; once more where torch's number of
    threads has changed, which the engine follows.
    """

    def __init__(self, extractor: nn.Module, engine: Engine, dtype: torch.dtype) -> None:
        """Take what ``run_in`` takes."""
        self._extractor, self._engine, self._dtype = extractor, engine, dtype
        self._run: Run | None = None
        self._threads = 0
        self._kind: type | None = None  # of what the extractor gives
        self._names: list[str] = []  # where that is a dictionary
        _KNOWN.add(self)

    @property
    def is_started(self) -> bool:
        """Whether it was ever called."""
        return self._run is not None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the running engine behind: it belongs to these weights and this process."""
        return {**self.__dict__, "_run": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Be another one, without a running engine."""
        self.__dict__.update(state)
        _KNOWN.add(self)

    def leave(self) -> Run | None:
        """Return the running engine and forget it."""
        run, self._run = self._run, None
        return run

    def __call__(self, images: Tensor) -> Any:
        """Return what the extractor gives for images [N, 3, H, W]: a map, several, or a dictionary of them."""
        if self._run is None or self._threads != torch.get_num_threads():
            self._start(images)
        return self._whole(self._maps(images))

    def _maps(self, images: Tensor) -> list[Tensor]:
        assert self._run is not None
        return [torch.from_numpy(found) for found in self._run(images.detach().float().contiguous().numpy())]

    def _whole(self, maps: list[Tensor]) -> Any:
        if self._names:
            return dict(zip(self._names, maps, strict=True))
        return maps[0] if self._kind is None else maps

    @torch.no_grad()
    def _start(self, images: Tensor) -> None:
        self._threads = torch.get_num_threads()
        with torch.autocast("cpu", enabled=False):
            expected = self._by_torch(images.float())
            try:
                model, start = self._written(images.float()), _STARTERS[self._engine]
                self._run = start(model, self._threads, torch.float32)
                self._compare(images, expected)
                self._compare_larger(images)
                if self._dtype != torch.float32:
                    self._run = start(model, self._threads, self._dtype)
            except Exception as error:
                self._run = None
                if isinstance(error, UserError):
                    raise
                raise _unfit(self._engine, f"{type(error).__name__}: {first_line(error)[:200]}") from error

    def _by_torch(self, images: Tensor) -> list[Tensor]:
        """Run the extractor itself, and remember what kind of thing it gives."""
        found = type(self._extractor).forward(self._extractor, images)
        if isinstance(found, Tensor):
            self._kind, self._names = None, []
            return [found]
        self._names = [str(name) for name in found] if isinstance(found, Mapping) else []
        self._kind = type(found)
        maps = [*(found.values() if isinstance(found, Mapping) else found)]
        if not all(isinstance(level, Tensor) for level in maps):
            raise _unfit(self._engine, f"{self._kind.__name__} of {', '.join(type(level).__name__ for level in maps)}")
        return maps

    def _compare_larger(self, images: Tensor) -> None:
        """Compare on one image of another size, where torch takes such a one."""
        larger = F.pad(images[:1].float(), (0, _MORE[0], 0, _MORE[1]))
        try:
            expected = self._by_torch(larger)
        except Exception:  # noqa: BLE001  (a net for one size)
            return
        self._compare(larger, expected)

    def _compare(self, images: Tensor, expected: list[Tensor]) -> None:
        for own, level in zip(self._maps(images), expected, strict=True):
            if own.shape != level.shape:
                raise _unfit(self._engine, f"maps of other sizes ({_size(own)} instead of {_size(level)})")
            off, largest = float((own - level).abs().max()), float(level.abs().max())
            if not off <= _MOST_OFF * largest:
                raise _unfit(self._engine, f"values that are off by {off:.2g} where the largest is {largest:.2g}")

    def _written(self, images: Tensor) -> bytes:
        """Return the extractor as ONNX, number and sizes of images left open."""
        file = io.BytesIO()
        outputs = [f"map{number}" for number in range(len(self._names) or len(self._by_torch(images)))]
        free = {0: "number", 2: "height", 3: "width"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, about what holds for every image
            torch.onnx.export(
                _Maps(self).eval(),
                (images,),
                file,  # type: ignore[arg-type]
                dynamo=False,  # in a second, and without onnxscript
                opset_version=_OPSET,
                input_names=["images"],
                output_names=outputs,
                dynamic_axes={
                    name: {place: f"{name}_{side}" for place, side in free.items()} for name in ("images", *outputs)
                },
            )
        return file.getvalue()


_KNOWN: weakref.WeakSet[EngineForward] = weakref.WeakSet()
_OF_ANOTHER_PROCESS: list[Run | None] = []


def _keep_after_fork() -> None:
    """Let a forked process, as loader processes are, never end an engine: its threads are not there, it would hang."""
    _OF_ANOTHER_PROCESS.extend([forward.leave() for forward in [*_KNOWN]])


def _end_all() -> None:
    """End engines before the libraries below them are unloaded."""
    for forward in [*_KNOWN]:
        forward.leave()


os.register_at_fork(after_in_child=_keep_after_fork)
atexit.register(_end_all)


class _Maps(nn.Module):
    """An extractor that gives a tuple, as files know only that."""

    def __init__(self, forward: EngineForward) -> None:
        super().__init__()
        self.extractor = forward._extractor
        self._by_torch = forward._by_torch

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._by_torch(images))


def _size(level: Tensor) -> str:
    return " x ".join(map(str, level.shape))


def _unfit(engine: Engine, got: str) -> UserError:
    return UserError(
        f"{SETTING}: the teacher's feature_extractor() must take images [N, 3, H, W], be exportable as ONNX and give "
        f"the same in {engine}, got {got}; use torch"
    )


def _start_onnxruntime(model: bytes, threads: int, dtype: torch.dtype) -> Run:  # noqa: ARG001  (fp32: checked)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what is raised is not written as well
    # between calls the cores are torch's
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def _start_openvino(model: bytes, threads: int, dtype: torch.dtype) -> Run:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", settings)

    def run(images: Any) -> list[Any]:
        found = compiled(images)  # copies: the next call may come while they are in use
        return [found[number] for number in range(len(found))]

    return run


_STARTERS: dict[Engine, Callable[[bytes, int, torch.dtype], Run]] = {
    "onnxruntime": _start_onnxruntime,
    "openvino": _start_openvino,
}
