"""Recipes: all shipped ones load, and everything that can be wrong with one is said in plain words."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from search.config import RunConfig, canonical, methods
from search.config_errors import ConfigError
from search.config_keys import keys_of
from search.recipes import list_recipes, load_recipe
from tests.corpora import Case, cases, whole_text, with_base_recipes

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
SHIPPED = [
    "distancing",
    "mnist1d-algorithms",
    "mnist1d-compare",
    "mnist1d-evolution",
    "mnist1d-gradient",
    "paper-bases",
    "paper-deep-subnetworks",
    "paper-depths",
    "paper-noise",
    "paper-outer-steps",
    "paper-three-types",
    "quickstart",
    "scale-safe",
    "smoke",
    "van-der-pol",
    "vgg-scale",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_base_recipes(tmp_path)


def refusal(recipe: str, overrides: Sequence[str], folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe, overrides, folder=folder)
    words = str(caught.value)
    for jargon in ("pydantic", "http", "Traceback", "type=", "Input should", "<range>", "<choices>", "None"):
        assert jargon not in words
    assert len(words.splitlines()) == 1 + len(caught.value.problems)  # nothing given can fake a line
    assert words.isprintable() or words.replace("\n", "").isprintable()
    return words


@pytest.mark.parametrize("case", cases("bad_overrides"), ids=lambda case: case["set"][:40])
def test_bad_override_is_refused_in_plain_words(case: Case, folder: Path) -> None:
    words = refusal("base", [whole_text(case, "set")], folder) + "\n"
    assert [part for part in case["says"] if part not in words] == [], words


@pytest.mark.parametrize("case", cases("bad_recipes"), ids=lambda case: case["toml"][:40])
def test_bad_file_is_refused_in_plain_words(case: Case, folder: Path) -> None:
    (folder / "wrong.toml").write_text(whole_text(case, "toml"))
    words = refusal(str(folder / "wrong.toml"), [], folder)
    assert [part for part in case["says"] if part not in words] == [], words


def test_all_problems_are_said_together(folder: Path) -> None:
    wrong = ["method=genetc", "x", "ldnn.widht=3", "evolution.elites=99", "inner.batch_size=9999", "inner.lr=1"]
    words = refusal("base", wrong, folder)
    assert words.startswith("6 problems in recipe 'base':\n")
    for part in ("'genetc'", "--set 'x'", "ldnn.widht", "elites < population", "rows to train on", "no effect"):
        assert part in words


def test_a_relation_is_not_blamed_for_a_value_that_is_wrong_itself(folder: Path) -> None:
    words = refusal("base", ["task.samples=many", "inner.batch_size=9999"], folder)
    assert "rows to train on" not in words
    assert "1 problem" in words


def test_a_problem_can_be_read_by_programs(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("base", ["ldnn.depth=77"], folder=folder)
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("ldnn.depth", "77")
    assert problem.allowed == "must be a whole number from 1 to 64"


# Files


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bsae", ["'bsae'", "there are base, plain", "Did you mean 'base'?"]),
        ("", ["there is no recipe of this name"]),
        ("base.yaml", ["path of a .toml file", "Did you mean 'base'?"]),
        ("../base", ["there is no recipe of this name"]),
        ("nosuch.toml", ["'nosuch.toml': there is no such file"]),
        ("nul\0.toml", [r"'nul\x00.toml'"]),
        ("x" * 5000 + ".toml", ["cannot be read"]),
    ],
)
def test_recipe_that_is_not_there(name: str, expected: list[str], folder: Path) -> None:
    words = refusal(name, [], folder)
    assert [part for part in expected if part not in words] == [], words


def test_folder_pipe_and_bytes_are_no_recipes(folder: Path) -> None:
    (folder / "folder.toml").mkdir()
    assert "not a regular file" in refusal(str(folder / "folder.toml"), [], folder)
    if sys.platform != "win32":
        os.mkfifo(folder / "pipe.toml")
        assert "not a regular file" in refusal(str(folder / "pipe.toml"), [], folder)
    (folder / "bytes.toml").write_bytes(b"seed = 1 # \xff")
    assert "not UTF-8 text (byte 11 is wrong)" in refusal(str(folder / "bytes.toml"), [], folder)


def test_recipe_by_path_is_named_after_its_file(folder: Path) -> None:
    (folder / "mine.toml").write_text("seed = 7")
    run = load_recipe(str(folder / "mine.toml"), folder=RECIPES)
    assert (run.name, run.seed) == ("mine", 7)


def test_recipe_is_laid_over_the_one_it_extends(folder: Path) -> None:
    (folder / "mine.toml").write_text(
        "extends = 'base'\nseed = 7\n[search]\ntrials = 9\n[search.space]\nwidth = { low = 5, high = 9 }\n"
    )
    run = load_recipe("mine", folder=folder)
    assert (run.name, run.seed, run.search.trials) == ("mine", 7, 9)
    assert run.description == "what the tables below are laid over"
    assert canonical(run)["search"]["space"] == {
        "inner_lr": {"low": 1e-3, "high": 0.1, "log": True, "step": None},
        "width": {"low": 5, "high": 9, "log": False, "step": None},
    }


def test_only_one_level_is_extended(folder: Path) -> None:
    (folder / "one.toml").write_text("extends = 'two'")
    (folder / "two.toml").write_text("extends = 'one'")
    assert "must be a recipe that extends none, but it extends 'one'" in refusal("one", [], folder)


# Overrides


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (["ldnn.depth=2"], "ldnn.depth", 2),
        ([" ldnn.depth = 2 "], "ldnn.depth", 2),
        (["ldnn.depth=2", "ldnn.depth=3"], "ldnn.depth", 3),
        (["ldnn.base=relu"], "ldnn.base", "relu"),
        (["ldnn.base='relu'"], "ldnn.base", "relu"),
        (["inner.noise=1e-1"], "inner.noise", 0.1),
        (["inner.noise=1"], "inner.noise", 1.0),
        (["evaluation.widths=[10, 20]"], "evaluation.widths", (10, 20)),
        (["description=a = b, # c"], "description", "a = b, # c"),
        (["description=1\nseed = 3"], "description", "1\nseed = 3"),
        (["ldnn={depth=3}"], "ldnn.depth", 3),
        (["search.space={}"], "search.space", {}),
        (["search.space={}", "inner.lr=0.5"], "inner.lr", 0.5),
        (["name=other"], "name", "other"),
    ],
)
def test_override_is_read(overrides: list[str], key: str, value: object, folder: Path) -> None:
    found: object = load_recipe("base", overrides, folder=folder)
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


keys = st.sampled_from(sorted(keys_of(RunConfig).known)) | st.from_regex(
    r"[a-z_]{1,8}(\.[a-z_]{1,8}){0,4}", fullmatch=True
)
values = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.lists(st.integers(-5, 5000), max_size=4).map(str),
    st.sampled_from(
        ["{}", "{low = 1, high = 2}", "{choices = ['sin', 1]}", "true", "[[[]]]", "07:32:00", '"""', "'a'"]
    ),
)
overrides = st.text(max_size=60) | st.builds("{}={}".format, keys, values)


def run_or_refusal(recipe: str, given_overrides: list[str], folder: Path) -> RunConfig | ConfigError:
    try:
        return load_recipe(recipe, given_overrides, folder=folder)
    except ConfigError as error:
        return error


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_overrides=st.lists(overrides, max_size=4))
@example(given_overrides=["inner=3", "inner.lr=3"])
@example(given_overrides=["inner.lr=3", "inner=3"])
@example(given_overrides=["search=3", "inner.lr=3"])
@example(given_overrides=["description=\ud800"])
@example(given_overrides=["ldnn.width=" + "[" * 3900])
def test_any_override_gives_a_run_or_a_refusal(given_overrides: list[str], folder: Path) -> None:
    result = run_or_refusal("base", given_overrides, folder)
    if isinstance(result, RunConfig):
        assert RunConfig.model_validate(canonical(result)).search == result.search
    else:
        assert len(str(result).splitlines()) == 1 + len(result.problems) >= 2


texts = st.binary(max_size=80) | st.lists(st.builds("{} = {}\n".format, keys, values)).map(
    lambda lines: "".join(lines).encode(errors="replace")
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=texts)
def test_any_file_gives_a_run_or_a_refusal(content: bytes, folder: Path) -> None:
    path = folder / "any.toml"
    path.write_bytes(content)
    result = run_or_refusal(str(path), [], folder)
    assert isinstance(result, RunConfig) or len(str(result).splitlines()) == 1 + len(result.problems) >= 2


# What is shipped


def test_shipped_recipes_are_listed_with_a_description() -> None:
    listed = list_recipes(RECIPES)
    assert [name for name, _ in listed] == SHIPPED
    assert all(description for _, description in listed)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_loads_and_starts_with_a_comment(name: str) -> None:
    run = load_recipe(name, folder=RECIPES)
    assert run.name == name
    assert (RECIPES / f"{name}.toml").read_text().startswith("# ")


def test_compared_methods_get_the_same_number_of_inner_steps() -> None:
    run = load_recipe("mnist1d-compare", folder=RECIPES)
    of_gradient = run.gradient.outer_steps * run.gradient.classifiers
    of_evolution = run.evolution.generations * run.evolution.population * run.evolution.classifiers
    assert methods(run) == ("gradient", "evolution")
    assert of_gradient == of_evolution


@pytest.mark.parametrize("method", ["gradient", "evolution"])
def test_recipe_of_one_method_is_that_half_of_the_comparison(method: str) -> None:
    both = canonical(load_recipe("mnist1d-compare", folder=RECIPES))
    one = canonical(load_recipe(f"mnist1d-{method}", folder=RECIPES))
    assert {key for key in both if both[key] != one[key]} == {"name", "description", "method"}


def test_quickstart_is_what_the_first_report_needs() -> None:
    run = load_recipe("quickstart", folder=RECIPES)
    assert methods(run) == ("gradient", "evolution")
    assert len(run.evaluation.widths) >= 3
    assert run.evaluation.seeds >= 10
    assert run.evaluation.best >= 1
    assert set(run.evaluation.usual) >= {"relu", "silu", "tanh", "sin"}
