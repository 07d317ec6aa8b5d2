"""What a distillation method promises: what it needs, its terms, and the comparison of student and teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor, nn

from raydistill.detectors.base import Detector
from raydistill.detectors.teacher import TeacherPass
from raydistill.detectors.values import Outcome
from raydistill.errors import UserError
from raydistill.methods.values import Gate
from raydistill.structures import Batch, LossDict

_FIRST = "tar"  # whose gates had their names before there were other methods


@dataclass(frozen=True)
class Need:
    """Something that teacher or student must be able to do."""

    setting: str  # what needs it
    who: str  # ``teacher`` or ``student``
    ability: type  # a protocol of ``detectors.base``
    text: str  # in words, after "must"
    instead: str  # what to do where it is lacking


@dataclass(frozen=True)
class Compared:
    """What comparing teacher and student on one batch gives, by name."""

    terms: LossDict = field(default_factory=dict)  # raw: without weight and decay
    gates: dict[str, Gate] = field(default_factory=dict)
    quality: dict[str, Gate] = field(default_factory=dict)  # of both nets' answers, where it is asked for

    @classmethod
    def one(cls, term: Tensor) -> Self:
        """Return what a method gives that has one term."""
        return cls({"": term})

    def of_method(self, name: str) -> Compared:
        """Return the same with full names: the method's, and the term's own where it has several."""
        terms = {f"{name}.{term}" if term else name: loss for term, loss in self.terms.items()}
        before = "" if name == _FIRST else f"{name}/"
        gates = {f"{before}{gate}": value for gate, value in self.gates.items()}
        return Compared(terms, gates, {f"{before}{who}": value for who, value in self.quality.items()})

    def add(self, other: Compared) -> None:
        """Take over what ``other`` has."""
        self.terms.update(other.terms)
        self.gates.update(other.gates)
        self.quality.update(other.quality)


class Method(nn.Module, ABC):
    """A distillation method. Its modules are trained with the student and left out of what is exported.

    Neither student nor teacher may become one of its modules: they come with every comparison.
    """

    measures_quality = False
    """Whether ``compare`` is to say how good both nets' answers are, where it can."""

    def __init__(self, settings: Any, student: Detector, teacher: Detector) -> None:  # noqa: ARG002
        """Build what is trained; a method without such modules needs none of its own.

        Args:
            settings: its section of ``methods``; of a method of the user's own what stands under ``settings`` there.
            student: for channels and levels.
            teacher: likewise.
        """
        super().__init__()

    @property
    def reads_objects_only(self) -> bool:
        """Whether ``compare`` reads the teacher's maps on objects alone, and nothing else of it: less is kept then."""
        return False

    def follow(self, settings: Any) -> None:
        """Go on with its section of ``methods`` as it is now, where a ``schedule`` changes more of it than weights.

        A term's weight in it is not 0 where the term ever has one.
        """

    def needs(self) -> Iterable[Need]:
        """Return what teacher and student must be able to do."""
        return ()

    @abstractmethod
    def compare(self, batch: Batch, student: Detector, outcome: Outcome, teacher: TeacherPass) -> Compared:
        """Return the terms that have a weight, each a scalar attached to the graph.

        Args:
            batch: the images as both nets see them, and their objects.
            student: asked for more only where what it has computed does not do.
            outcome: its feature maps, and what its training step gave.
            teacher: what it says about the batch, computed when first asked for.
        """


def check_needs(method: Method, student: Detector, teacher: Detector) -> None:
    """Make sure that two nets can do what ``method`` asks of them.

    Raises:
        UserError: naming what one of them cannot do.
    """
    for need in method.needs():
        net = teacher if need.who == "teacher" else student
        if not isinstance(net, need.ability):
            raise UserError(
                f"{need.setting}: the {need.who} must {need.text}, got {type(net).__name__}; {need.instead}"
            )
