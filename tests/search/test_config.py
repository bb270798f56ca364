"""The models: what they accept, how they are written down, and how a trial follows from a run."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import subprocess
import sys
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from search import config_types
from search.config import RunConfig, TrialConfig, canonical, methods, trial_config, trial_seed
from search.config_errors import ConfigError, checked
from search.config_space import SAMPLED_INTO, Choices, Range, sampled_keys
from search.config_tables import SearchConfig

SPACE: dict[str, Any] = {
    "inner_lr": {"low": 1e-3, "high": 1.0, "log": True},
    "outer_lr": {"low": 0.1, "high": 1},
    "mutation_scale": {"choices": [0.1, 0.3]},
    "width": {"low": 10, "high": 40, "step": 10},
    "num_types": {"choices": [1, 2]},
    "base": {"choices": ["sin", "zero"]},
}


def run_with(**tables: Any) -> RunConfig:
    return checked(RunConfig, {"name": "test", **tables})


def models_within(model: type[BaseModel]) -> set[type[BaseModel]]:
    inside = [
        kind
        for field in model.model_fields.values()
        for kind in (field.annotation, *get_args(field.annotation))
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    ]
    return {model}.union(*(models_within(kind) for kind in inside))


MODELS = sorted(
    models_within(RunConfig) | models_within(TrialConfig) | {Range, Choices}, key=lambda model: model.__name__
)


def test_a_name_is_enough_for_a_run() -> None:
    run = RunConfig(name="test")
    assert (run.method, run.ldnn.width, run.inner.steps, run.search.space) == ("both", 100, 100, {})


@pytest.mark.parametrize("model", MODELS)
def test_every_field_is_documented(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name}"


def numbers_without_limits(node: Any, path: str) -> list[str]:
    if isinstance(node, list):
        return [one for inside in node for one in numbers_without_limits(inside, path)]
    if not isinstance(node, dict):
        return []
    found = []
    if node.get("type") in {"integer", "number"}:
        low = node.keys() & {"minimum", "exclusiveMinimum"}
        high = node.keys() & {"maximum", "exclusiveMaximum"}
        found = [] if low and high else [path]
    return found + [one for key, inside in node.items() for one in numbers_without_limits(inside, f"{path}.{key}")]


def test_every_number_has_limits() -> None:
    assert numbers_without_limits(RunConfig.model_json_schema(), "") == []


def test_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig(name="test").seed = 3  # type: ignore[misc]


def test_importing_the_configuration_is_light() -> None:
    heavy = "{'torch', 'ray', 'optuna', 'numpy', 'pandas', 'pyarrow', 'ldnn_core'}"
    code = f"import search.recipes, sys; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("names", "module", "registry"),
    [
        (config_types.BaseName, "base_functions", "BASE_FUNCTIONS"),
        (config_types.TaskName, "tasks", "TASKS"),
        (config_types.ArchitectureName, "architectures", "ARCHITECTURES"),
        (config_types.EstimatorName, "estimators", "ESTIMATORS"),
        (config_types.AlgorithmName, "algorithms", "ALGORITHMS"),
    ],
)
def test_names_are_those_of_the_core(names: Any, module: str, registry: str) -> None:
    assert set(get_args(names)) == set(getattr(importlib.import_module(f"ldnn_core.{module}"), registry))


def test_usual_activations_are_the_base_functions_that_learn_something() -> None:
    assert set(get_args(config_types.UsualName)) == set(get_args(config_types.BaseName)) - {"zero", "identity"}


@pytest.mark.parametrize(("samples", "fraction", "rows"), [(5000, 0.2, 3200), (10_000, 0.5, 4000), (1001, 0.2, 640)])
def test_training_rows_are_what_test_and_validation_leave(samples: int, fraction: float, rows: int) -> None:
    run = run_with(task={"samples": samples, "validation_fraction": fraction})
    assert run.task.training_rows == rows


# The space


def test_space_entries_keep_the_kind_of_their_field() -> None:
    space = run_with(search={"space": SPACE}).search.space
    width, lr, base = space["width"], space["inner_lr"], space["base"]
    assert isinstance(width, Range)
    assert isinstance(lr, Range)
    assert isinstance(base, Choices)
    assert isinstance(width.low, int)
    assert isinstance(lr.high, float)
    assert base.choices == ("sin", "zero")


def test_space_can_be_made_of_models_too() -> None:
    search = SearchConfig(space={"inner_lr": Range(low=1e-3, high=0.1), "base": Choices(choices=("sin",))})
    assert search == SearchConfig.model_validate(
        {"space": {"inner_lr": {"low": 1e-3, "high": 0.1}, "base": {"choices": ["sin"]}}}
    )
    with pytest.raises(ValidationError, match="greater than 0"):
        SearchConfig(space={"inner_lr": Range(low=-1.0, high=0.1)})


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))])
def test_copies_are_equal(copied: Any) -> None:
    run = run_with(search={"space": SPACE})
    assert copied(run) == run
    assert canonical(copied(run)) == canonical(run)


REGIME = ("repulsion_strength", "repulsion_width")


def test_each_method_samples_its_own_keys() -> None:
    assert sampled_keys("gradient") == ("inner_lr", "outer_lr", "width", "num_types", "base", *REGIME)
    assert sampled_keys("evolution") == ("inner_lr", "mutation_scale", "width", "num_types", "base", *REGIME)
    with pytest.raises(ValueError, match="one of gradient, evolution, but got 'both'"):
        sampled_keys("both")


def test_every_sampled_key_has_a_field_and_every_entry_its_limits() -> None:
    schema = RunConfig.model_json_schema()
    space = schema["$defs"]["_Space"]["properties"]
    assert list(space) == list(SAMPLED_INTO)
    for section, field in SAMPLED_INTO.values():
        assert field in type(getattr(RunConfig(name="test"), section)).model_fields


# The canonical form


def test_canonical_form_is_stable() -> None:
    """Run folders are told apart by it: a changed default or a new key is a change that CHANGELOG has to name."""
    text = json.dumps(canonical(run_with(search={"space": SPACE}))["search"], sort_keys=True)
    assert text == (
        '{"history": 1000, "max_failures": 100000, "max_retries": 2, "max_trial_seconds": 0.0, '
        '"objective_widths": [20, 200], "objectives": ["score"], "population": 8, '
        '"probe_networks": 4, "records": 12, "reduction": 3, "rungs": 2, "sampler": "tpe", "scheduler": "none", '
        '"score_networks": 8, "seeds": "own", '
        '"space": {"base": {"choices": ["sin", "zero"]}, '
        '"inner_lr": {"high": 1.0, "log": true, "low": 0.001, "step": null}, '
        '"mutation_scale": {"choices": [0.1, 0.3]}, "num_types": {"choices": [1, 2]}, '
        '"outer_lr": {"high": 1.0, "log": false, "low": 0.1, "step": null}, '
        '"width": {"high": 40, "log": false, "low": 10, "step": 10}}, '
        '"startup_trials": 4, "trials": 4, "warm_start": [], "wave": 4}'
    )


def test_canonical_form_does_not_know_where_the_work_is_done() -> None:
    assert canonical(run_with(resources={"workers": 7})) == canonical(run_with(resources={"threads": 3}))
    assert "resources" not in canonical(run_with())


def test_canonical_form_does_not_depend_on_how_a_number_is_written() -> None:
    assert canonical(run_with(gradient={"outer_lr": 1})) == canonical(run_with(gradient={"outer_lr": 1.0}))


finite = st.floats(min_value=1e-9, max_value=1e3, allow_nan=False)
sampled_floats = st.one_of(
    st.builds(lambda low, by: {"low": low, "high": low * by}, finite, st.floats(1.5, 100)),
    st.builds(lambda values: {"choices": values}, st.lists(finite, min_size=1, max_size=5, unique=True)),
)
sampled_widths = st.one_of(
    st.builds(lambda low, by: {"low": low, "high": low + by}, st.integers(3, 100), st.integers(1, 100)),
    st.builds(lambda values: {"choices": values}, st.lists(st.integers(3, 4096), min_size=1, max_size=5, unique=True)),
)
runs = st.fixed_dictionaries(
    {"name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)},
    optional={
        "description": st.text(max_size=50),
        "seed": st.integers(0, 2**31 - 1),
        "method": st.sampled_from(["gradient", "evolution", "both"]),
        "inner": st.fixed_dictionaries({}, optional={"lr": finite, "steps": st.integers(1, 1000)}),
        "ldnn": st.fixed_dictionaries(
            {}, optional={"subnet_hidden": st.lists(st.integers(1, 512), min_size=1, max_size=3)}
        ),
        "search": st.fixed_dictionaries(
            {"space": st.fixed_dictionaries({}, optional={"inner_lr": sampled_floats, "width": sampled_widths})}
        ),
    },
)


@settings(max_examples=60, deadline=None)
@given(data=runs)
def test_canonical_form_reads_back_as_the_same_run(data: dict[str, Any]) -> None:
    run = checked(RunConfig, data)
    written = json.loads(json.dumps(canonical(run), allow_nan=False))
    assert checked(RunConfig, written | {"resources": run.resources.model_dump()}) == run
    assert canonical(checked(RunConfig, written)) == canonical(run)


# Trials


def test_sampled_values_are_put_into_the_trial() -> None:
    params = {"inner_lr": 0.5, "outer_lr": 2.0, "width": 20, "num_types": 1, "base": "zero"}
    trial = trial_config(run_with(search={"space": SPACE}), "gradient", 3, params)
    assert trial.trial_id == "gradient-0003"
    assert (trial.inner.lr, trial.ldnn.width, trial.ldnn.num_types, trial.ldnn.base) == (0.5, 20, 1, "zero")
    assert trial.gradient is not None
    assert trial.gradient.outer_lr == 2.0
    assert trial.evolution is None
    assert trial.params == params


def test_trial_is_the_same_whenever_it_is_made() -> None:
    run = run_with(seed=5, search={"space": SPACE})
    trials = [trial_config(run, "evolution", 12, {"mutation_scale": 0.3}) for _ in range(2)]
    assert trials[0] == trials[1]
    assert canonical(trials[0]) == canonical(trials[1])
    assert checked(TrialConfig, json.loads(json.dumps(canonical(trials[0])))) == trials[0]


def test_trial_does_not_depend_on_what_its_numbers_do_not_depend_on() -> None:
    few = run_with(search={"trials": 2}, evaluation={"seeds": 3, "widths": [10]}, resources={"workers": 1})
    many = run_with(search={"trials": 9}, evaluation={"seeds": 50}, description="other words")
    assert trial_config(few, "gradient", 0, {}) == trial_config(many, "gradient", 0, {})


def test_trial_seeds_are_known_and_differ() -> None:
    assert trial_seed(0, "gradient", 3) == 562578056  # a changed derivation changes every result
    seeds = {
        trial_seed(seed, method, n) for seed in range(3) for method in ("gradient", "evolution") for n in range(50)
    }
    assert len(seeds) == 300
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_methods_of_a_run() -> None:
    assert methods(run_with()) == ("gradient", "evolution")
    assert methods(run_with(method="evolution")) == ("evolution",)


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("gradient", {"mutation_scale": 0.1}, "mutation_scale = 0.1: is not sampled for gradient; allowed: inner_lr"),
        ("evolution", {"outer_lr": 0.1}, "outer_lr = 0.1: is not sampled for evolution"),
        ("gradient", {"inner_lr": -1.0}, "trial gradient-0007:\n  inner.lr = -1.0: must be a number above 0"),
        ("gradient", {"width": 2, "num_types": 3}, "`num_types <= width` must hold, but got"),
        ("gradient", {"width": 20.0}, "Write 20, without a point"),
    ],
)
def test_wrong_parameters_are_refused(method: str, params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        trial_config(run_with(), method, 7, params)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"ldnn": {"base": "hat", "table_range": 2.0}}, "table_range > 2 for hat"),
        (
            {"ldnn": {"table_range": 1.5}, "search": {"space": {"base": {"choices": ["sin", "hat"]}}}},
            "ldnn.table_range > 2 when hat is sampled",
        ),
    ],
)
def test_a_table_that_does_not_hold_the_kinks_of_hat_is_refused(tables: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_with(**tables)
    assert words in str(caught.value)
    larger = {**tables, "ldnn": {**tables["ldnn"], "table_range": 2.5}}
    assert run_with(**larger).ldnn.table_range == 2.5


def test_refusal_survives_the_way_between_processes() -> None:
    with pytest.raises(ConfigError) as caught:
        run_with(seed=-1)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (str(copied), copied.problems) == (str(caught.value), caught.value.problems)


def test_a_method_that_the_run_does_not_use_is_refused() -> None:
    with pytest.raises(ValueError, match="one of gradient in this run, but got 'evolution'"):
        trial_config(run_with(method="gradient"), "evolution", 0, {})


WORDS = [
    (table, name, value)
    for table, fields in run_with().model_dump().items()
    if isinstance(fields, dict)
    for name, value in fields.items()
    if isinstance(value, str) and name not in ("label", "path") and (table, name) != ("regime", "name")  # free words
]


@pytest.mark.parametrize(("table", "name", "value"), WORDS)
def test_a_mistyped_word_gets_all_words_and_the_nearest(table: str, name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_with(**{table: {name: f"{value}x"}})
    [problem] = caught.value.problems
    assert problem.key == f"{table}.{name}"
    assert problem.allowed != "must be something else"
    assert problem.nearest == f"Did you mean '{value}'?"
