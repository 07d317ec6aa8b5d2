"""Numbers in which a loss is computed under autocast."""

from __future__ import annotations

import torch
from torch import Tensor


def lifted(values: Tensor) -> Tensor:
    """Return ``values`` in float32 where they are of a half type (squares overflow there), else as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
