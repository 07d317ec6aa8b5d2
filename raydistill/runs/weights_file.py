"""A run as a directory of plain files, and the files themselves: written whole or not at all, read as data only.

torch is imported where a file of tensors is touched: who only looks what there is does not wait for it.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from raydistill.errors import UserError
from raydistill.runs.directory import BEST, LAST
from raydistill.storage.output import LOCAL, Output
from raydistill.storage.regular import WEIGHTS_BYTES, check_regular, open_regular, size_text

if TYPE_CHECKING:
    from torch import Tensor

    from raydistill.storage.parcels import ShippedFile
    from raydistill.storage.remote_path import Place


# What zipfile and torch.load raise for a file that is truncated, altered or something else altogether.
_DAMAGED = (
    pickle.UnpicklingError,
    struct.error,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Weights:
    """What a weights file holds."""

    model: dict[str, Tensor]  # torchvision's keys
    classes: tuple[str, ...] | None  # in the order of the labels; None: the file does not say
    detector: dict[str, Any] | None  # the settings that the net was built from
    image: dict[str, Any] | None  # min_size and max_size it was trained at


def save(path: Path, state: dict[str, Any], keep: int = 1, output: Output = LOCAL) -> None:
    """Write a dictionary of tensors and plain values, with a checksum of each.

    Args:
        path: of the file, below ``output``.
        state: what it is to hold.
        keep: how many versions stay, as in ``write_atomically``.
        output: what it belongs to.
    """
    import torch

    output.write(path, lambda file: torch.save(state, file), keep)


def load(path: Place | ShippedFile) -> dict[str, Any]:
    """Read what ``save`` wrote; tensors arrive on the CPU. Never runs code from the file.

    Raises:
        UserError: when there is no such file, or it is damaged (a checksum does not fit), or not ours.
    """
    import torch

    try:
        with open_regular(path, WEIGHTS_BYTES) as file:
            damaged = _damaged_entry(file)
            if damaged is not None:
                raise ValueError(f"it is damaged: the checksum of {damaged} does not fit")
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except _DAMAGED as error:
        raise UserError(f"{path}: must be a checkpoint of tensors, cannot be read ({_reason(error)})") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: must hold a dictionary, got {type(state).__name__}")
    return state


def save_weights(
    path: Path,
    model: dict[str, Tensor],
    classes: tuple[str, ...],
    detector: dict[str, Any],
    image: dict[str, Any],
    epoch: int = 0,
    keep: int = 1,
    output: Output = LOCAL,
) -> None:
    """Write a net for deployment: torchvision's state dict under ``model``, and what it takes to build and read it.

    ``epoch`` is the one that the weights are of, ``keep`` and ``output`` as in ``save``.
    """
    state = {"model": model, "classes": list(classes), "detector": detector, "input": image, "epoch": epoch}
    save(path, state, keep, output)


def load_weights(path: Place | ShippedFile) -> Weights:
    """Read a weights file of ours, a run directory, or a state dict of torchvision's (bare or under ``model``)."""
    from torch import Tensor

    from raydistill.storage.parcels import ShippedFile

    state = load(path if isinstance(path, ShippedFile) else weights_file(path))
    model = state.get("model", state)
    if not isinstance(model, dict) or not model or not all(isinstance(value, Tensor) for value in model.values()):
        raise UserError(f"{path}: must hold a state dict (tensors by name), alone or under 'model'")
    classes = state.get("classes") if model is not state else None
    return Weights(
        model,
        tuple(classes) if isinstance(classes, list) else None,
        state.get("detector") if model is not state else None,
        state.get("input") if model is not state else None,
    )


def digest(model: Mapping[str, Tensor]) -> str:
    """Return a text that stands for a state dict: for its names, types, shapes and every bit."""
    import torch

    about = hashlib.blake2b(digest_size=16)
    for name in sorted(model):
        value = model[name].detach().cpu().contiguous()
        about.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        about.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return about.hexdigest()


def weights_file(path: Place) -> Place:
    """Return the weights file that ``path`` means: itself, or the best (else the last) of a run directory."""
    if not path.exists():
        raise UserError(f"{path}: must be a weights file or a run directory, there is no such file")
    if not path.is_dir():
        try:
            check_regular(path, WEIGHTS_BYTES)
        except OSError as error:
            raise UserError(f"{path}: must be a weights file or a run directory, got {error.strerror}") from error
        return path
    for name in (BEST, LAST):
        if (path / name).is_file():
            return path / name
    stages = sorted(inner.parent.name for inner in path.glob("*/best.pt"))
    if stages:
        raise UserError(
            f"{path}: must be one run directory, got the output of several; name one of {', '.join(stages)}"
        )
    raise UserError(
        f"{path}: must hold best.pt or last.pt, got neither; was the run interrupted before its first epoch?"
    )


def _damaged_entry(file: IO[bytes]) -> str | None:
    """Return the first entry that is not as it was written; torch writes checksums (CRC-32) and does not read them."""
    if not zipfile.is_zipfile(file):
        return None  # torch's old format has none
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > size:  # torch stores its entries as they are
            raise ValueError(f"its {size_text(size)} would unpack to {size_text(unpacked)}")
        return archive.testzip()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (pickle.UnpicklingError, LookupError)):
        return "not a file of torch.save, or more in it than tensors and plain values"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
