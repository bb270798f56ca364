"""What must hold between the keys of [search]: samplers, objectives and warm start."""

from __future__ import annotations

from typing import Any

import pytest

from search.config import RunConfig, trial_config
from search.config_errors import ConfigError, checked

RATE = {"inner_lr": {"low": 0.01, "high": 0.1}}
TWO = RATE | {"width": {"low": 10, "high": 20}}


def refusal(search: dict[str, Any], **tables: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        checked(RunConfig, {"name": "test", "search": search, **tables})
    return str(caught.value)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"sampler": "nsga2", "trials": 8, "space": TWO}, "`population < trials for nsga2, which learns after a"),
        ({"sampler": "cmaes", "trials": 8}, "`population < trials for cmaes, which learns after a whole generat"),
        ({"sampler": "nsga2", "trials": 9, "wave": 9, "space": TWO}, "`wave <= population for nsga2` must hold,"),
        ({"sampler": "cmaes", "trials": 9, "population": 3, "wave": 2}, "`population >= 4 for cmaes` must hold,"),
        ({"sampler": "cmaes", "trials": 9, "objectives": ["score", "num_params"]}, "`objectives = ['score'] for"),
        ({"sampler": "cmaes", "trials": 9, "space": {"base": {"choices": ["sin"]}, **RATE}},
         "the other samplers can do with choices` must hold, but got (space.base.choices = ['sin'], sampler = '"),
        ({"sampler": "nsga2", "trials": 9, "space": RATE}, "`search.space has at least 2 entries of each method"),
        ({"sampler": "random", "warm_start": "runs/x"}, "`warm_start is left out unless sampler is tpe, gp or c"),
        ({"sampler": "nsga2", "trials": 9, "space": TWO, "warm_start": ["a"]}, "`warm_start is left out unless"),
        ({"objectives": ["num_params"]}, "`'score' is among the objectives` must hold, but got (objectives = ['"),
        ({"objectives": ["score", "score"]}, "`no value stands twice in objectives` must hold"),
        ({"objectives": ["score", "accuracy"]}, "must be one of score, cross_size_drop, num_params, flatness"),
        ({"warm_start": ["a", "a"]}, "`no value stands twice in warm_start` must hold"),
        ({"warm_start": ""}, "search.warm_start[0] = '': must be"),
        ({"objective_widths": [0]}, "must be a whole number from 1 to 4096"),
        ({"sampler": "cma-es"}, "Did you mean 'cmaes'?"),
        ({"population": 1}, "must be a whole number from 2 to 4096"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_the_rule(search: dict[str, Any], words: str) -> None:
    assert words in refusal(search)


def test_types_must_fit_into_the_widths_of_the_objective() -> None:
    search = {"objectives": ["score", "cross_size_drop"], "objective_widths": [2, 50]}
    assert "`largest num_types <= smallest of search.objective_widths` must hold" in refusal(
        search, ldnn={"num_types": 3}, evaluation={"widths": [20]}
    )
    # Widths that nothing reads are nobody's problem.
    checked(RunConfig, {"name": "test", "search": {"objective_widths": [2, 50]}, "ldnn": {"num_types": 3}})


def test_keys_of_the_other_method_are_not_counted_for_nsga2() -> None:
    space = RATE | {"mutation_scale": {"low": 0.1, "high": 0.2}}
    search = {"sampler": "nsga2", "trials": 9, "space": space}
    checked(RunConfig, {"name": "test", "method": "evolution", "search": search})
    assert "at least 2 entries" in refusal(search, method="both")


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "nsga2", "gp", "qmc"])
def test_every_sampler_has_a_configuration_that_works(sampler: str) -> None:
    run = checked(RunConfig, {"name": "test", "search": {"sampler": sampler, "trials": 20, "space": TWO}})
    assert run.search.sampler == sampler


def test_a_trial_is_told_of_the_objectives_and_of_widths_only_when_they_are_read() -> None:
    drop = checked(
        RunConfig, {"name": "t", "search": {"objectives": ["score", "cross_size_drop"], "objective_widths": [7]}}
    )
    plain = checked(RunConfig, {"name": "t", "search": {"objective_widths": [7]}})
    assert trial_config(drop, "gradient", 0, {}).objective_widths == (7,)
    assert trial_config(plain, "gradient", 0, {}).objective_widths == ()
    assert trial_config(plain, "gradient", 0, {}).objectives == ("score",)


def test_one_objective_needs_no_brackets() -> None:
    assert checked(RunConfig, {"name": "t", "search": {"objectives": "score"}}).search.objectives == ("score",)
