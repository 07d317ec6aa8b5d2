"""Task-adaptive regularization: knowledge where the teacher does better, at three levels (METHOD sections 2 to 6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import nn

from raydistill.config.methods import Tar as TarSettings
from raydistill.detectors.base import AnswersAt, AssignsLevels, Detector, ProposesRegions, ScoresAnchors
from raydistill.detectors.teacher import TeacherPass
from raydistill.detectors.values import Outcome, RawAnswers, Regions
from raydistill.methods.base import Compared, Method, Need
from raydistill.methods.quality import answer_quality
from raydistill.methods.tar.feature import build_adapters, feature_term
from raydistill.methods.tar.heads import Shared, choose_regions, head_terms
from raydistill.methods.tar.rpn import rpn_term
from raydistill.structures import Batch


class Tar(Method):
    """The feature, classification, regression and rpn terms (Sun et al. 2020)."""

    def __init__(self, settings: TarSettings, student: Detector, teacher: Detector) -> None:
        super().__init__(settings, student, teacher)
        self.settings = settings
        self.adapters = nn.ModuleDict()
        if settings.feature.weight:
            self.adapters.update(build_adapters(settings.feature, student, teacher))

    def follow(self, settings: TarSettings) -> None:
        """Take another weight of the background."""
        self.settings = settings

    @property
    def reads_objects_only(self) -> bool:
        """Say so of a feature term under masks of boxes that is alone."""
        feature = self.settings.feature
        masked = feature.mask != "full" and not feature.background_weight and feature.normalization == "none"
        return masked and not self._uses_heads and not self.settings.rpn.weight

    @property
    def _uses_heads(self) -> bool:
        return self.settings.classification.weight > 0 or self.settings.regression.weight > 0

    def needs(self) -> Iterator[Need]:
        """Yield what the terms that have a weight ask of both nets."""
        settings, source = self.settings, self.settings.regions.source
        if settings.feature.weight and settings.feature.levels == "assigned":
            yield Need(
                "methods.tar.feature.levels",
                "student",
                AssignsLevels,
                "assign objects to its levels",
                "use levels 'all'",
            )
        heads = "methods.tar.classification.weight and methods.tar.regression.weight"
        if self._uses_heads:
            off = "set both to 0"
            yield Need(heads, "student", AnswersAt, "answer at given regions", off)
            yield Need(heads, "teacher", AnswersAt, "answer at given regions", off)
        if self._uses_heads and source != "student":
            yield Need("methods.tar.regions.source", "teacher", ProposesRegions, "propose regions", "use student")
        if settings.rpn.weight:
            for who in ("student", "teacher"):
                yield Need("methods.tar.rpn.weight", who, ScoresAnchors, "have anchors to compare", "set it to 0")

    def compare(self, batch: Batch, student: Detector, outcome: Outcome, teacher: TeacherPass) -> Compared:
        """Return the raw terms that have a weight, and their gates."""
        settings, source = self.settings, self.settings.regions.source
        found = Compared()
        shared = None
        # Where the sizes of what follows are read from the device, before the teacher's work is queued there.
        if self._uses_heads and source != "teacher" and outcome.regions is not None:
            shared = choose_regions(settings.classification, outcome.regions)
        theirs = teacher.features
        if self._uses_heads and source != "student":
            _ = teacher.proposals
        if settings.feature.weight:
            found.terms["feature"] = feature_term(
                settings.feature, self.adapters, batch, student, outcome.features, theirs
            )
        if self._uses_heads:
            found.add(self._compare_heads(batch, student, outcome, teacher, shared))
        if settings.rpn.weight and outcome.anchors is not None:
            found.add(rpn_term(settings.rpn, cast(ScoresAnchors, student), outcome.anchors, teacher))
        return found

    def _compare_heads(
        self, batch: Batch, student: Detector, outcome: Outcome, teacher: TeacherPass, shared: Shared | None
    ) -> Compared:
        """Compare on the student's regions, on the teacher's, or on both in one."""
        settings = self.settings
        sets: list[tuple[Regions, RawAnswers]] = []
        if shared is not None:
            sets.append((shared.regions, cast(RawAnswers, outcome.answers).select(shared.rows)))
        if settings.regions.source != "student":
            theirs = choose_regions(settings.classification, teacher.regions).regions
            answers = cast(AnswersAt, student).answer(batch, outcome.features, theirs)
            sets.append((theirs, cast(RawAnswers, answers)))
        regions, own = sets[0]
        if len(sets) == 2:  # one set of both: one pass of the teacher's head
            regions, order = regions.join(sets[1][0])
            own = own.join(sets[1][1], order)
        said = cast(RawAnswers, teacher.answer(regions))
        found = head_terms(settings.classification, settings.regression, regions, own, said)
        if self.measures_quality:
            for who, answers in (("student", own), ("teacher", said)):
                quality = answer_quality(answers, regions)
                found.quality.update({f"{who}_{name}": value for name, value in quality.items()})
        return found
