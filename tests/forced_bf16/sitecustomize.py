"""Python runs this as it starts where this folder is on its path: its processor computes with bf16, or does not.

``RAYDISTILL_TEST_BF16`` says which, 1 or 0; ``tests/conftest.py`` puts the folder there. It changes what torch says of
the processor, nothing else: torch's bf16 gives results on every processor, on most of them slowly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_NAMES = ("avx512_bf16", "amx_bf16", "bf16")  # what detectors.frozen looks at


class _Force(MetaPathFinder):
    """Changes ``torch.cpu`` as it is imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == "torch.cpu" else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            _force(module)

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec


def _force(torch_cpu: ModuleType) -> None:
    original: Callable[[], Mapping[str, object]] = getattr(torch_cpu, "get_capabilities", dict)
    forced = dict.fromkeys(_NAMES, os.environ["RAYDISTILL_TEST_BF16"] == "1")
    torch_cpu.get_capabilities = lambda: {**original(), **forced}  # type: ignore[attr-defined]


if os.environ.get("RAYDISTILL_TEST_BF16"):
    if "torch.cpu" in sys.modules:
        _force(sys.modules["torch.cpu"])
    else:
        sys.meta_path.insert(0, _Force())
