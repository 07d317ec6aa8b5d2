"""The measurement of LibreYOLO, on a size that takes little time."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.benchmarks.__main__ import main
from tests.benchmarks.libreyolo_step import VERSION, Bench, Nets, silence
from tests.benchmarks.nets import calibrate

needs_libreyolo = pytest.mark.skipif(
    importlib.util.find_spec("libreyolo") is None, reason=f"needs libreyolo=={VERSION} (the extra 'bench')"
)
INSTALL = f"install it with: pip install libreyolo=={VERSION}\n"
CASES = ["plain", "plain_and_teacher", "mgd", "cwd"]


def tiny_bench(family: str, student: str, teacher: str) -> Bench:
    with silence():
        return Bench(Nets(family, student, teacher, image_size=64, batch_size=2))


def test_that_a_missing_package_is_named_with_its_command(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "libreyolo", None)
    assert main(["libreyolo", "yolo9", "t", "c"]) == 2
    assert capsys.readouterr().err == f"libreyolo is missing; {INSTALL}"


def test_that_another_version_is_refused(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "libreyolo", types.SimpleNamespace(__version__="1.2.3"))
    assert main(["libreyolo", "yolo9", "t", "c"]) == 2
    assert capsys.readouterr().err == f"libreyolo must be {VERSION}, got 1.2.3; {INSTALL}"


def test_that_norms_take_the_statistics_of_the_images():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.03)).eval()
    images = torch.rand(2, 3, 8, 8)
    calibrate(net, lambda: net(images))
    torch.testing.assert_close(net[1].running_mean, net[0](images).mean(dim=(0, 2, 3)))
    assert net[1].momentum == 0.03
    assert not any(module.training for module in net.modules())


@needs_libreyolo
def test_that_an_unknown_size_is_named_with_the_known_ones(capsys) -> None:
    assert main(["libreyolo", "yolox", "s", "huge"]) == 2
    assert capsys.readouterr().err == "teacher: yolox has the sizes n, t, s, m, l, x, got huge\n"


@needs_libreyolo
@pytest.mark.parametrize(("family", "student", "teacher"), [("yolo9", "t", "s"), ("yolox", "n", "t")])
def test_that_steps_differ_by_the_distilling_loss_alone_and_nothing_is_learnt(family, student, teacher):
    bench = tiny_bench(family, student, teacher)
    before = {name: [p.clone() for p in trainer.model.parameters()] for name, trainer in bench.trainers.items()}
    with silence():
        for name in CASES:
            bench.cases[name]()
    for name in ("mgd", "cwd"):
        assert bench.distilling[name] > 0
        assert bench.totals[name] == pytest.approx(bench.totals["plain"] + bench.distilling[name], rel=1e-5)
        assert not bench.trainers[name].distiller.teacher.training
        assert all(torch.equal(*both) for both in zip(before["plain"], before[name], strict=True))
    for name, trainer in bench.trainers.items():
        assert all(torch.equal(*both) for both in zip(before[name], trainer.model.parameters(), strict=True))
    assert bench.trainers["plain"].distiller is None
    assert 0 < bench.num_boxes < 100


@needs_libreyolo
def test_the_command_prints_a_table_and_writes_the_ratios(tmp_path: Path, capsys) -> None:
    out = tmp_path / "step.json"
    threads = torch.get_num_threads()
    assert main(["libreyolo", "yolox", "n", "t", "--size", "64", "--rounds", "1", "--json", str(out)]) == 0
    torch.set_num_threads(threads)
    printed = capsys.readouterr()
    result = json.loads(out.read_text())
    assert list(result["seconds"]) == CASES
    assert result["ratios"].keys() == {*CASES} - {"plain"}
    assert result["ratios_to"]["plain_and_teacher"].keys() == {*CASES} - {"plain_and_teacher"}
    assert (result["image_size"], result["batch_size"]) == ([64, 64], 2)
    assert all(name in printed.out for name in CASES)
    assert printed.err == ""
    assert len(printed.out.splitlines()) == 2 + 1 + len(CASES)
