"""Sizes of recipes, and all recipes that come with the package at the smallest of them."""

from pathlib import Path

import pytest

from search.config_errors import ConfigError
from search.recipes import list_recipes, load_recipe

RECIPE = """
[evaluation]
widths = [10, 20, 30]
seeds = 50
[search]
trials = 1
[scales.half]
evaluation.seeds = 25
[scales.smoke]
evaluation.epochs = 3
"""
PACKAGE = Path(__file__).parents[2] / "jobs" / "recipes"


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)

    def loaded(*overrides):
        return load_recipe(str(path), overrides, folder=PACKAGE)

    return loaded


def test_the_full_scale_is_the_recipe_as_it_stands(recipe):
    assert recipe() == recipe("scale=full")
    assert recipe().evaluation.seeds == 50


def test_a_scale_is_laid_over_the_recipe_and_overrides_over_both(recipe):
    assert recipe("scale=half").evaluation.seeds == 25
    assert recipe("evaluation.seeds=7", "scale=half").evaluation.seeds == 7
    assert recipe("scale=half").evaluation.widths == (10, 20, 30)


def test_a_smoke_run_has_less_of_everything_and_no_more_of_anything(recipe):
    smoke = recipe("scale=smoke")
    assert (smoke.evaluation.seeds, smoke.search.trials, smoke.inner.steps) == (2, 1, 5)
    assert smoke.evaluation.widths == (10, 20)
    assert smoke.evaluation.epochs == 3  # its own word counts last


@pytest.mark.parametrize(
    ("override", "words"),
    [("scale=tiny", "must be one of full, half, smoke"), ("scale=hafl", "Did you mean 'half'?"), ("scale=3", "scale")],
)
def test_a_scale_that_is_not_there_is_refused(recipe, override, words):
    with pytest.raises(ConfigError) as caught:
        recipe(override)
    assert words in str(caught.value)


def test_scales_that_are_no_tables_are_refused(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text("[scales]\nsmoke = 3\n")
    with pytest.raises(ConfigError, match="must have a table for each scale"):
        load_recipe(str(path), folder=PACKAGE)


@pytest.mark.parametrize("name", [name for name, _ in list_recipes(PACKAGE)])
def test_every_recipe_has_every_scale(name):
    for scale in ("full", "smoke"):
        assert load_recipe(name, [f"scale={scale}"], folder=PACKAGE).name == name
