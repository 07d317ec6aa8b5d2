"""What every section shares."""

from __future__ import annotations

from numbers import Integral
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_MOST_SEED = 2**63 - 1  # what torch and numpy take for a whole number
_MOST = 10**9  # of anything that is counted: steps, seconds
_MOST_PROCESSES = 10_000  # or devices
_MOST_CHANNELS = 65_536


def _whole(value: Any) -> Any:
    """Return ``1e2`` as 100, and numpy's whole numbers as Python's; a true or a text stays, and is refused."""
    integral = isinstance(value, Integral) and not isinstance(value, bool)
    return int(value) if integral or (isinstance(value, float) and value.is_integer()) else value


# Strict: ``true`` is no number, nor is ``"5"``. Pydantic alone would read them as 1 and 5.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
NonNegative = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
Whole = Annotated[int, Field(strict=True), BeforeValidator(_whole)]
Count = Annotated[Whole, Field(ge=1, le=_MOST)]
WholeNumber = Annotated[Whole, Field(ge=0, le=_MOST)]
Millions = Annotated[Whole, Field(ge=1, le=10**6)]  # of epochs, or of what a batch holds
Processes = Annotated[Whole, Field(ge=1, le=_MOST_PROCESSES)]
Channels = Annotated[Whole, Field(ge=1, le=_MOST_CHANNELS)]
Seed = Annotated[Whole, Field(ge=0, le=_MOST_SEED)]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A part of the tree: frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


def ascending(name: str, values: tuple[float, ...]) -> None:
    """Raise unless ``values`` rise."""
    if list(values) != sorted(set(values)):
        raise ValueError(f"{name} must be ascending without repeats, got {list(values)}")
