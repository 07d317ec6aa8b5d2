"""A run whose teacher's answers are kept: the same tables, what is said, and what is computed again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from raydistill.config import Config
from raydistill.data.build import build_splits
from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.storage.kept_files import KeptFiles, kept_sources
from raydistill.training import kept_answers
from raydistill.training.stages import run_stages, run_student
from tests.outputs import output_of, refuse_other_settings
from tests.small import Listener, metrics_of, repeatable, same_weights, small_run, weights_of

Again = Callable[..., tuple[Path, Listener]]
SETTINGS = (
    *("distillation.preflight=warn", "distillation.baseline=false", "data.num_train=4", "data.num_val=2"),
    *("augmentation.scale_jitter=[0.8, 1.2]", "augmentation.draws=1"),
)


def config_of(output: Path, *overrides: str) -> Config:
    return small_run(output, *SETTINGS, *overrides)


def run(config: Config) -> Listener:
    """Run what is not finished, and return what was said."""
    heard, worker = Listener(), Worker()
    run_stages(config, output_of(config), worker, lambda place: FileReporter(place, worker, heard))
    return heard


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a run that asked image by image and kept nothing."""
    output = tmp_path_factory.mktemp("begun")
    run(config_of(output, "teacher.cache=off", "teacher.exact=true"))
    return output


@pytest.fixture
def again(begun: Path, tmp_path: Path) -> Again:
    """Return what distils anew under the same teacher with other settings."""

    def distil(*overrides: str) -> tuple[Path, Listener]:
        output = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        shutil.copytree(begun / "teacher", output / "teacher")
        return output, run(config_of(output, *overrides))

    return distil


@pytest.fixture
def given(begun: Path) -> list[str]:
    """Return the settings of that run's teacher as one that is given."""
    return ["teacher.train=false", f"teacher.weights={begun}/teacher/best.pt"]


def is_same(one: Path, other: Path) -> bool:
    runs = [RunDirectory(place / "distilled") for place in (one, other)]
    tables = [repeatable(metrics_of(run)) for run in runs]
    return tables[0] == tables[1] and same_weights(*(weights_of(run.best) for run in runs))


def test_tables_are_the_same_to_the_bit_whether_answers_are_kept_and_wherever(
    begun: Path, again: Again, tmp_path: Path
) -> None:
    output, heard = again()  # auto
    assert is_same(output, begun)
    assert "teacher.cache: 4 images in 1 draw at" in heard.text
    assert "kept in memory" in heard.text
    assert "pays from epoch 2 of 2 on" in heard.text
    folder = f"teacher.cache_folder={tmp_path}/kept"
    output, heard = again("teacher.cache=disk", folder)
    assert is_same(output, begun)
    assert "added" in heard.text
    output, heard = again("teacher.cache=disk", folder)  # another run of the same teacher
    assert is_same(output, begun)
    assert "of 12 pictures that the teacher was asked about 12 were known; 0.00 MB were added" in heard.text
    assert len(kept_sources(tmp_path / "kept")) == 1


def test_whole_batches_are_asked_about_where_nothing_repeats(given: list[str], tmp_path: Path) -> None:
    endless = (*given, "augmentation.draws=null")
    heard = run(config_of(tmp_path / "auto", *endless))
    assert "teacher.cache" not in heard.text
    run(config_of(tmp_path / "off", *endless, "teacher.cache=off"))
    assert is_same(tmp_path / "auto", tmp_path / "off")


def test_a_damaged_file_is_computed_again_and_said(begun: Path, again: Again, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    again("teacher.cache=disk", f"teacher.cache_folder={folder}")
    files = sorted(folder.glob("*/*/*maps"))
    raw = bytearray(files[0].read_bytes())
    raw[-200] ^= 1
    files[0].write_bytes(raw)
    files[1].write_bytes(b"")
    output, heard = again("teacher.cache=disk", f"teacher.cache_folder={folder}")
    assert is_same(output, begun)
    assert "damaged and computed again" in heard.warnings
    assert len(files[1].read_bytes()) == len(files[2].read_bytes())


def test_other_pixels_and_other_threads_are_other_answers(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kept"
    settings = (*given, "teacher.cache=disk", f"teacher.cache_folder={folder}")
    run(config_of(tmp_path / "first", *settings))
    heard = run(config_of(tmp_path / "second", *settings, "data.seed=5"))
    assert "of 12 pictures that the teacher was asked about 8 were known" in heard.text  # in this run
    assert len(kept_sources(folder)) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    run(config_of(tmp_path / "third", *settings))
    assert len(kept_sources(folder)) == 2


def test_another_teacher_has_other_answers(again: Again, tmp_path: Path) -> None:
    settings = ("teacher.cache=disk", f"teacher.cache_folder={tmp_path}/kept")
    again(*settings)
    run(config_of(tmp_path / "other", *settings, "seed=3"))
    assert len(kept_sources(tmp_path / "kept")) == 2


def test_a_folder_that_cannot_be_written_to_is_an_error_where_it_was_asked_for(again: Again, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"teacher.cache_folder: .*file/kept must be a folder to write to"):
        again("teacher.cache=disk", f"teacher.cache_folder={tmp_path}/file/kept")


def test_a_full_disk_is_said_and_changes_nothing(begun: Path, again: Again, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(KeptFiles, "_has_room", lambda self, _: setattr(self, "full", "its disk is full"))
    output, heard = again("teacher.cache=disk", f"teacher.cache_folder={tmp_path}/kept")
    assert is_same(output, begun)
    assert "no more is kept: its disk is full" in heard.text


@pytest.mark.parametrize(
    ("memory", "disk", "said"),
    [(10**9, 10**9, "kept in memory"), (10, 10**9, "kept in "), (10, 10, "teacher.cache: off: 4 images in 1 draw")],
)
def test_auto_takes_what_there_is_room_for(again, memory: int, disk: int, said: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_answers, "free_memory", lambda: memory)
    monkeypatch.setattr(kept_answers, "_free_disk", lambda _: disk)
    _, heard = again("training.epochs=2")
    assert said in heard.text
    assert (tmp_path / "cache" / "teacher").exists() == (disk > memory)


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_what_does_not_fit_is_computed_each_time_and_said_beforehand(
    begun: Path, again: Again, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    output, heard = again(f"teacher.cache={place}", "teacher.cache_max_gb=0.00001")
    assert is_same(output, begun)
    assert re.search(r"; 0\.01 MB at most, \d\d% of it: the rest is computed each time", heard.text)
    assert "no more is kept" in heard.text


def test_a_sweeps_trials_share_what_lies_on_disk(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    said = []
    for weight in (1, 2):
        config = config_of(tmp_path / f"trial{weight}", f"methods.tar.rpn.weight={weight}")
        heard, worker = Listener(), Worker()
        run_student(
            config,
            output_of(config),
            worker,
            lambda place, heard=heard, worker=worker: FileReporter(place, worker, heard),
            build_splits(config.data, config.downloads),
            RunDirectory(begun / "teacher"),
        )
        said.append(heard.text)
    assert "shared by all trials on this machine" in said[0]
    assert "of 12 pictures that the teacher was asked about 12 were known" in said[1]


def test_a_run_may_go_on_with_another_place_but_not_with_other_answers(begun: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(begun, output)
    for place in ("memory", "auto", "disk"):
        refuse_other_settings(config_of(output, f"teacher.cache={place}"))
    refuse_other_settings(config_of(output, "teacher.cache_max_gb=1"))
    text = r"teacher.cache=asks image by image then, asks about whole batches now"
    with pytest.raises(UserError, match=text) as problem:
        refuse_other_settings(config_of(output, "teacher.cache=off"))
    assert "teacher:" not in str(problem.value).replace("teacher: ", ""), "the teacher's own stage is not concerned"
    with pytest.raises(UserError, match=r"teacher\.cache_half=False then, True now"):
        refuse_other_settings(config_of(output, "teacher.cache_half=true"))


def test_a_run_begun_before_there_was_a_cache_goes_on_about_whole_batches(begun: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(begun, output)
    for stage in ("teacher", "distilled"):
        file = RunDirectory(output / stage).config
        older = yaml.safe_load(file.read_text())
        del older["augmentation"]["draws"]
        for name in ("cache", "cache_folder", "cache_max_gb", "cache_half", "exact"):
            del older["teacher"][name]
        file.write_text(yaml.safe_dump(older))
    refuse_other_settings(config_of(output, "augmentation.draws=null"))
    with pytest.raises(UserError, match=r"augmentation\.draws=unset then, 1 now"):
        refuse_other_settings(config_of(output))
