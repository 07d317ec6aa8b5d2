"""Named tensors, kept under a name: in memory, or as files that other processes share."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from raydistill.storage.kept_files import KeptFiles

Tensors = dict[str, Tensor]
"""Name -> tensor on the CPU."""

_MAGIC = b"rdk1"
_LENGTHS = struct.Struct("<4sII")  # the mark, the bytes of the header, its checksum
_ALIGNED = 64  # bytes at whose multiples tensors begin
_COLUMNS = 1024  # words of 8 bytes over which checksums are summed
_DTYPES = {str(dtype): dtype for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.int64)}


class KeptTensors(Protocol):
    """Where tensors are kept."""

    damaged: int
    """How many things were there and could not be used."""

    @property
    def full(self) -> str:
        """Why nothing more is kept; empty while something is."""
        ...

    @property
    def bytes_kept(self) -> int:
        """How much this process has added."""
        ...

    def get(self, name: str) -> Tensors | None:
        """Return what is kept under ``name``, not to be changed; None where there is nothing."""
        ...

    def put(self, name: str, tensors: Tensors) -> None:
        """Keep ``tensors``, which nobody changes any more, where there is room."""
        ...


@dataclass
class InMemory:
    """Kept in this process, and gone with it."""

    max_bytes: int
    full: str = ""
    damaged: int = 0
    bytes_kept: int = 0
    _kept: dict[str, Tensors] = field(default_factory=dict)

    def get(self, name: str) -> Tensors | None:
        """Return what is kept under ``name``."""
        return self._kept.get(name)

    def put(self, name: str, tensors: Tensors) -> None:
        """Keep ``tensors`` unless the limit would be exceeded."""
        size = bytes_of(tensors)
        if self.bytes_kept + size > self.max_bytes:
            self.full = f"{self.max_bytes / 1e9:.2g} GB of memory hold no more"
            return
        self._kept[name] = tensors
        self.bytes_kept += size


@dataclass
class OnDisk:
    """Kept in files; one that is damaged counts as not there, and is written anew."""

    files: KeptFiles
    damaged: int = 0
    _checked: set[str] = field(default_factory=set)

    @property
    def full(self) -> str:
        """Why nothing more is kept."""
        return self.files.full

    @property
    def bytes_kept(self) -> int:
        """How much this process has added."""
        return self.files.bytes_kept

    def get(self, name: str) -> Tensors | None:
        """Read a file; its checksum is looked at when this process first reads it."""
        content = self.files.read(name)
        if content is None:
            return None
        tensors = unpacked(content, check=name not in self._checked)
        if tensors is None:
            self.damaged += 1
            return None
        self._checked.add(name)
        return tensors

    def put(self, name: str, tensors: Tensors) -> None:
        """Write a file."""
        head, parts = packed(tensors)
        self.files.write(name, len(head) + sum(len(part) for part in parts), lambda: iter([head, *parts]))
        self._checked.add(name)


def bytes_of(tensors: Tensors) -> int:
    """Return how much ``tensors`` take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def packed(tensors: Tensors) -> tuple[bytes, list[memoryview]]:
    """Return what stands before the tensors in a file, and the bytes of each up to a multiple of 64."""
    named = {name: _padded_bytes(tensor) for name, tensor in tensors.items()}
    about = [[name, str(tensor.dtype), list(tensor.shape), _checksum(named[name])] for name, tensor in tensors.items()]
    text = json.dumps(about).encode()
    header = text + b" " * (-(len(text) + _LENGTHS.size) % _ALIGNED)
    head = _LENGTHS.pack(_MAGIC, len(header), zlib.crc32(header)) + header
    return head, [raw.numpy().data for raw in named.values()]


def unpacked(content: bytearray, check: bool = True) -> Tensors | None:
    """Return the tensors of a file, views of ``content``; None where it is damaged.

    Args:
        content: the file.
        check: compare the tensors with their checksums, not only the header with its own.
    """
    if len(content) < _LENGTHS.size:
        return None
    magic, length, checksum = _LENGTHS.unpack_from(content)
    start = _LENGTHS.size + length
    header = bytes(content[_LENGTHS.size : start])
    if magic != _MAGIC or len(header) != length or zlib.crc32(header) != checksum:
        return None
    found: Tensors = {}
    for name, kind, shape, expected in json.loads(header):
        dtype = _DTYPES[kind]
        size = dtype.itemsize * _product(shape)
        end = start + size + -size % _ALIGNED
        if end > len(content):
            return None
        if size == 0:
            found[name] = torch.empty(shape, dtype=dtype)
            continue
        raw = torch.frombuffer(content, dtype=torch.uint8, offset=start, count=end - start)
        if check and _checksum(raw) != expected:
            return None
        found[name] = raw[:size].view(dtype).view(shape)
        start = end
    return found


def _padded_bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, and zeros up to a multiple of 64."""
    raw = tensor.contiguous().view(-1).view(torch.uint8)
    missing = -len(raw) % _ALIGNED
    return torch.cat([raw, raw.new_zeros(missing)]) if missing else raw


def _checksum(raw: Tensor) -> int:
    """Return a number that another content would hardly have: CRC 32 of sums of words, as fast as memory is read."""
    words = raw.view(torch.int64)
    whole = len(words) // _COLUMNS * _COLUMNS
    sums = words[:whole].view(-1, _COLUMNS).sum(dim=0)
    return zlib.crc32(words[whole:].numpy().tobytes(), zlib.crc32(sums.numpy().tobytes()))


def _product(shape: list[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
