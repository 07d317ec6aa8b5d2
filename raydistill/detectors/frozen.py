"""A detector that is only asked, never trained, made as fast as it gets: what a teacher is."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

from raydistill.config.distillation import Engine
from raydistill.detectors import engines
from raydistill.detectors.base import Detector
from raydistill.errors import UserError


def make_fast(
    detector: Detector, dtype: torch.dtype = torch.float32, compiled: bool = False, engine: Engine = "torch"
) -> None:
    """Freeze ``detector`` in eval mode, in place: norms folded into convolutions, weights laid out for speed.

    Its answers stay the same up to rounding, in ``float32`` to about 1e-5 of a map's largest value. It can no longer be
    trained or exported. With a half type it must be asked under an autocast of that type.

    Args:
        detector: on the device where it is asked.
        dtype: type of the convolutions' and linear layers' weights.
        compiled: run the feature extractor through ``torch.compile``, once per shape of a batch; from the ninth shape
            on torch runs it plainly.
        engine: what computes the feature maps; see ``engines.check_engine`` for what must hold.
    """
    detector.eval().requires_grad_(False)
    _fold_norms(detector.feature_extractor())
    detector.to(memory_format=torch.channels_last)
    elsewhere = {*detector.feature_extractor().modules()} if engine != "torch" else set()  # has its own weights
    for module in detector.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module not in elsewhere:
            module.to(dtype)
    if engine != "torch":
        engines.run_in(engine, detector.feature_extractor(), dtype)
    if compiled:
        torch.compiler.reset()  # shapes of a teacher before this one would count as shapes of this one
        detector.feature_extractor().compile(dynamic=False)


def computes_bf16() -> bool:
    """Return whether this processor computes with bfloat16; others only emulate it, many times slower."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every release of torch
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _fold_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it; torchvision registers the two one after the other."""
    before: nn.Conv2d | None = None
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d | FrozenBatchNorm2d) and before is not None:
            before.weight, before.bias = fuse_conv_bn_weights(
                before.weight,
                before.bias,
                child.running_mean,  # type: ignore[arg-type]
                child.running_var,  # type: ignore[arg-type]
                child.eps,
                child.weight,
                child.bias,
            )
            before.requires_grad_(False)
            setattr(module, name, nn.Identity().eval())
        else:
            _fold_norms(child)
        before = child if isinstance(child, nn.Conv2d) else None


def check_compiler(device: torch.device) -> None:
    """Compile a trifle, so that a machine without a compiler is found out before anything is trained.

    Raises:
        UserError: where torch finds no compiler that it can use.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(4, device=device))
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"distillation.compile_teacher: must not be true where torch cannot compile ({reason}); install a C++ "
            "compiler, or leave it out"
        ) from error
