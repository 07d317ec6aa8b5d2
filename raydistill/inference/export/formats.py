"""The formats that a net can be exported in: how each is made, and how it is run to be measured."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from raydistill.errors import UserError, first_line
from raydistill.inference.export.deployed import OUTPUTS, OneImage, SeveralImages
from raydistill.inference.export.runners import Images, OnnxRunner, OpenVinoRunner, Runner, TorchRunner

FormatName = Literal["onnx", "torchscript", "openvino"]
_OPSET = 17
_EXAMPLE_SIDES = (96, 128)
"""Height and width of the image that the net is traced with; others are taken as well."""
_THRESHOLD = "threshold"
NOTES = "raydistill.json"
"""Inside a TorchScript file: what the other formats have as metadata."""


@dataclass(frozen=True)
class Made:
    """An exported net in a folder of this machine."""

    files: tuple[Path, ...]
    """The first one is what a program opens."""
    run_all: Callable[[int], Runner]
    """Number of threads -> what runs it without its threshold: all that the net finds."""


@dataclass(frozen=True)
class Format:
    """A format."""

    suffix: str
    packages: tuple[str, ...]
    make: Callable[[OneImage | SeveralImages, int, Path, Mapping[str, str]], Made]
    """Net, images at once, the file to write, and what is to be noted in it -> what was made."""


def check_packages(name: FormatName, int8: bool) -> None:
    """Make sure that what a format needs is installed.

    Raises:
        UserError: naming the extra to install.
    """
    extra = "openvino" if name == "openvino" else "export"
    for package in (*FORMATS[name].packages, *(("onnxruntime.quantization",) if int8 else ())):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"--format {name}: {package.partition('.')[0]} must be installed, got {first_line(error)!r}; "
                f"pip install 'raydistill[{extra}]'"
            ) from error


def make_onnx(net: OneImage | SeveralImages, batch_size: int, file: Path, notes: Mapping[str, str]) -> Made:
    """Trace the net; height and width of the images stay free, the threshold is an initializer called ``threshold``."""
    model = _traced(net, batch_size, file, notes)
    file.write_bytes(model.SerializeToString())
    everything = without_threshold(model)
    return Made((file,), lambda threads: OnnxRunner.of(everything, batch_size, threads))


def make_torchscript(net: OneImage | SeveralImages, batch_size: int, file: Path, notes: Mapping[str, str]) -> Made:
    """Script the net; what is noted lies in an extra file, ``NOTES``, inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.export is newer: it does not get through torchvision's detectors
        torch.jit.save(torch.jit.script(net), str(file), _extra_files={NOTES: json.dumps(dict(notes))})

    def run_all(threads: int) -> Runner:  # noqa: ARG001  (those of torch, which the caller sets)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: Any = torch.jit.load(str(file))  # type: ignore[no-untyped-call]
        loaded.threshold.fill_(0)
        return TorchRunner(loaded, batch_size)

    return Made((file,), run_all)


def make_openvino(net: OneImage | SeveralImages, batch_size: int, file: Path, notes: Mapping[str, str]) -> Made:
    """Convert the ONNX of the net; what is noted lies in the model's ``rt_info`` under ``raydistill``."""
    import openvino

    traced = _traced(net, batch_size, file, notes)
    core = openvino.Core()
    model = core.read_model(traced.SerializeToString())  # convert_model would ask the net whether it may count users
    for name, value in notes.items():
        model.set_rt_info(value, ["raydistill", name])
    openvino.save_model(model, str(file), compress_to_fp16=False)
    everything = core.read_model(without_threshold(traced))
    return Made((file, file.with_suffix(".bin")), lambda threads: OpenVinoRunner.of(everything, batch_size, threads))


FORMATS: dict[FormatName, Format] = {
    "onnx": Format(".onnx", ("onnx", "onnxruntime"), make_onnx),
    "torchscript": Format(".torchscript", (), make_torchscript),
    "openvino": Format(".xml", ("onnx", "openvino"), make_openvino),
}


def make_int8(fp32: Path, batch_size: int, file: Path, images: Iterator[Images]) -> Made:
    """Quantize the convolutions and linear layers of an ONNX file to int8, their inputs by what ``images`` give."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = file.with_name("prepared.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Optimized, the threshold would be one with other constants of its value; onnxruntime optimizes as it loads.
        quant_pre_process(str(fp32), str(prepared), skip_optimization=True, skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(file),
            _Calibration(fp32, images, batch_size),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    model, source = onnx.load(str(file)), onnx.load(str(fp32))
    onnx.helper.set_model_props(model, {entry.key: entry.value for entry in source.metadata_props})
    file.write_bytes(model.SerializeToString())
    everything = without_threshold(model)
    return Made((file,), lambda threads: OnnxRunner.of(everything, batch_size, threads))


class _Calibration:
    """Feeds onnxruntime's calibration."""

    def __init__(self, file: Path, images: Iterator[Images], batch_size: int) -> None:
        import onnx

        self._name = onnx.load(str(file)).graph.input[0].name
        self._images, self._batch_size = images, batch_size

    def get_next(self) -> dict[str, Any] | None:
        """Return the next input; None: that was all."""
        images = next(self._images, None)
        return None if images is None else {self._name: images[0] if self._batch_size == 1 else images}


def _traced(net: OneImage | SeveralImages, batch_size: int, beside: Path, notes: Mapping[str, str]) -> Any:
    """Return the net as an ONNX model with ``notes`` as its metadata; it lies ``beside`` a file on the way."""
    import onnx

    sides = {"height": 1, "width": 2} if batch_size > 1 else {"height": 0, "width": 1}
    shape = (*_EXAMPLE_SIDES, 3) if batch_size == 1 else (batch_size, *_EXAMPLE_SIDES, 3)
    generator = torch.Generator().manual_seed(0)
    example = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    outputs = OUTPUTS[: 3 if batch_size == 1 else 4]
    name = "image" if batch_size == 1 else "images"
    file = beside.with_name("traced.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about what holds for every image
        torch.onnx.export(
            net,
            (example,),
            str(file),
            dynamo=False,  # torch's new exporter does not get through torchvision's detectors
            opset_version=_OPSET,
            input_names=[name],
            output_names=list(outputs),
            dynamic_axes={
                name: {place: side for side, place in sides.items()},
                **{output: {0: "num_objects"} for output in outputs},
            },
        )
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, dict(notes))
    return model


def without_threshold(model: Any) -> bytes:
    """Return an ONNX model that gives all that its net finds, as a file has it."""
    import onnx

    everything = type(model)()
    everything.CopyFrom(model)
    (threshold,) = (entry for entry in everything.graph.initializer if entry.name == _THRESHOLD)
    threshold.CopyFrom(onnx.numpy_helper.from_array(np.array(0, np.float32), _THRESHOLD))
    content: bytes = everything.SerializeToString()
    return content
