from pathlib import Path

import pytest
import yaml

from raydistill.config import RECIPES, Config, dump, load_config

each_recipe = pytest.mark.parametrize("recipe", RECIPES)


def test_that_the_recipes_are_there():
    assert {"quickstart", "coco_r101_r50", "voc_r101_r50", "finetune"} <= set(RECIPES)


@each_recipe
def test_that_every_recipe_loads(recipe):
    config = load_config(recipe)
    assert isinstance(config, Config)
    assert config.distills
    assert config.output == str(Path.cwd() / "runs" / recipe)


@each_recipe
def test_that_what_is_printed_is_what_runs(recipe, tmp_path):
    config = load_config(recipe)
    (tmp_path / "printed.yaml").write_text(dump(config))
    assert load_config(str(tmp_path / "printed.yaml")) == config


@each_recipe
def test_that_nothing_is_left_unset_that_depends_on_something_else(recipe):
    printed = yaml.safe_load(dump(load_config(recipe)))
    for role in ("teacher", "student"):
        assert None not in [
            printed[role][key] for key in ("norm", "trainable_layers", "returned_layers", "anchor_sizes")
        ]


def test_that_the_coco_recipe_is_the_one_times_schedule_of_the_paper():
    config = load_config("coco_r101_r50")
    training = config.training
    assert (config.teacher.backbone, config.student.backbone) == ("resnet101", "resnet50")
    assert (training.epochs, training.batch_size, training.optimizer.learning_rate) == (12, 16, 0.02)
    assert training.schedule.milestones == pytest.approx((8 / 12, 11 / 12), abs=1e-3)
