"""A metric that no object of the validation split counts for is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from raydistill import tune
from raydistill.data.build import build_splits
from raydistill.errors import UserError
from raydistill.training.scored import refuse_missing_metric
from tests.small import small_run, small_sweep


@pytest.mark.parametrize(
    ("metric", "ranges", "said"),
    [
        (
            "AP_large",
            "[1024, 9216]",
            "got AP_large, which is of objects of 9216 square pixels and more, and all",
        ),
        ("AP_small", "[1, 9216]", "got AP_small, which is of objects of 0 to 1 square pixels, and all of"),
        ("AP_medium", "[5000, 9216]", "got AP_medium, which is of objects of 5000 to 9216 square pixels"),
        ("AP_large", "[16, 25]", ""),
        ("AP", "[1024, 9216]", ""),
        ("AP75", "[1024, 9216]", ""),
    ],
)
def test_a_size_that_no_object_has_is_refused(metric: str, ranges: str, said: str, tmp_path: Path) -> None:
    config = small_run(tmp_path, f"evaluation.area_ranges={ranges}")
    splits = build_splits(config.data, config.downloads)
    if not said:
        refuse_missing_metric(metric, config, splits)
        return
    with pytest.raises(UserError, match=rf"^metric: must have an object to score on the validation split, {said}"):
        refuse_missing_metric(metric, config, splits)


def test_an_object_at_the_border_of_two_sizes_counts_in_both_as_in_cocoeval(tmp_path: Path) -> None:
    config = small_run(tmp_path)
    splits = build_splits(config.data, config.downloads)
    splits.val.records.areas[:] = 9216
    for metric in ("AP_medium", "AP_large"):
        refuse_missing_metric(metric, config, splits)
    splits.val.records.ignored[:] = True
    with pytest.raises(UserError, match="and there is none; choose another metric"):
        refuse_missing_metric("AP_large", config, splits)


def test_a_sweep_by_it_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune.main([small_sweep(tmp_path), "metric=AP_large", "--local"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("metric: must have an object to score")
    assert not list(tmp_path.glob("sweep/teacher/*.pt"))
