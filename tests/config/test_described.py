"""Tests of the commented config: it reads back to the same, and says what the docstrings say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from raydistill.config import RECIPES, load_config
from raydistill.config.described import dump_with_comments


def _read_back(text: str, tmp_path: Path) -> object:
    (tmp_path / "copy.yaml").write_text(text)
    return load_config(str(tmp_path / "copy.yaml"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_commented_config_reads_back_to_the_same(recipe: str, tmp_path: Path) -> None:
    config = load_config(recipe)
    assert _read_back(dump_with_comments(config), tmp_path) == config


@pytest.mark.parametrize(
    "name", ["out #1", "a: b", "- x", "'quoted'", '"', "two\nlines", "{braces}", "ümlaut", "123", "x" * 200]
)
def test_odd_texts_and_settings_of_ones_own_read_back(name: str, tmp_path: Path) -> None:
    own = {"mine": {"method": "my_losses:Attention", "weight": 2, "settings": {name: [name, {"deep": None}]}}}
    config = load_config("quickstart", {"methods": own}, tmp_path / name)
    assert _read_back(dump_with_comments(config), tmp_path) == config


def test_a_setting_stands_below_what_it_does_or_may_be() -> None:
    lines = dump_with_comments(load_config("finetune")).splitlines()
    place = lines.index("  batch_size: 8")
    assert lines[place - 1] == "  # Images per optimizer step, over all workers and accumulated parts."
    assert lines[lines.index("      divergence: bce") - 1] == "      # bce or kl."
    assert lines[lines.index("training:") - 1].startswith("# One stage of training")


def test_the_comments_change_nothing_that_is_read() -> None:
    config = load_config("voc_r101_r50")
    assert yaml.safe_load(dump_with_comments(config)) == config.model_dump(mode="json")
