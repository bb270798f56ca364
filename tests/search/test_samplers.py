"""Every sampler keeps the same promises: one suite, run for each of them."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest

from search.config_tables import SearchConfig
from search.config_types import SamplerName
from search.objectives import Teller
from search.plan import PENALTY, Outcome
from search.sampling import optuna_suggesters
from search.schema import Status
from search.search_plan import Finished, SamplingChangedError, SearchPlan, trial_id
from search.warm_start import EarlierTrial

RANGES = {
    "inner_lr": {"low": 1e-4, "high": 1.0, "log": True},
    "outer_lr": {"low": 0.01, "high": 0.1},
    "mutation_scale": {"low": 0.1, "high": 0.9, "step": 0.2},
    "width": {"low": 10, "high": 40, "step": 10},
}
CHOICES = {"base": {"choices": ["relu", "sin", "tanh"]}}
SAMPLERS = get_args(SamplerName)
SEVERAL = ("score", "num_params", "flatness")
TRIALS, WAVE = 8, 2
LEARNERS = ["tpe", "cmaes", "nsga2", "gp"]

# CMA-ES knows numbers and one objective only; the Gaussian process needs seconds where the others need hundredths.
CASES = [(name, ("score",)) for name in SAMPLERS] + [
    (name, SEVERAL) for name in SAMPLERS if name not in ("cmaes", "gp")
]


def settings(name: str, objectives: tuple[str, ...] = ("score",), **changes: Any) -> SearchConfig:
    space = RANGES if name == "cmaes" else RANGES | CHOICES
    trials = TRIALS if name != "gp" else 5
    base = {"startup_trials": 2, "population": 4, "trials": trials, "wave": WAVE, "space": space}
    return SearchConfig.model_validate(base | {"sampler": name, "objectives": list(objectives)} | changes)


def outcome_of(params: dict[str, Any], number: int) -> Outcome:
    """Best near an inner learning rate of 0.01 and at great width; some trials do not end well."""
    if number % 5 == 3:
        return Outcome(Status.DIVERGED, PENALTY)
    score = 0.8 - 0.1 * abs(math.log10(params.get("inner_lr", 0.01)) + 2) + params.get("width", 0) / 1000
    values = {"num_params": 10.0 * params.get("width", 1), "flatness": params.get("inner_lr", 0.01)}
    return Outcome(Status.OK, score, values=values)


def plan_of(
    search: SearchConfig, finished: dict[str, Finished], *, methods: tuple[str, ...] = ("gradient",), **options: Any
) -> SearchPlan:
    made = optuna_suggesters(search, methods=methods, seed=options.get("seed", 3), earlier=options.get("earlier", ()))
    return SearchPlan(
        made, trials=search.trials, wave=search.wave, finished=dict(finished), objectives=search.objectives
    )


def run(
    search: SearchConfig, finished: dict[str, Finished] | None = None, *, stop_after: int = -1, **options: Any
) -> Any:
    """Run a search to its end, or until so many trials have ended."""
    finished = dict(finished or {})
    plan = plan_of(search, finished, **options)
    while stop_after != 0 and (unit := plan.next_unit()) is not None:
        outcome = outcome_of(unit.payload["params"], unit.payload["number"])
        finished[unit.key] = Finished(unit.payload["params"], outcome)
        plan.finish(unit, outcome)
        stop_after -= 1
    return finished


def params_of(finished: dict[str, Finished]) -> list[dict[str, Any]]:
    return [dict(finished[key].params) for key in sorted(finished)]


@pytest.fixture(scope="module")
def whole() -> Any:
    """Searches that nothing has interrupted, each made once."""
    made: dict[Any, Any] = {}

    def of(name: str, objectives: tuple[str, ...]) -> dict[str, Finished]:
        if (name, objectives) not in made:
            made[name, objectives] = run(settings(name, objectives))
        return made[name, objectives]

    return of


@pytest.mark.parametrize(("name", "objectives"), CASES)
def test_samples_are_the_same_when_resumed_at_every_wave_boundary_and_within_waves(
    name: str, objectives: tuple[str, ...], whole: Any
) -> None:
    expected = whole(name, objectives)
    stops = range(1, TRIALS) if name != "gp" else (3,)
    for stop in stops:
        search = settings(name, objectives)
        assert run(search, run(search, stop_after=stop)) == expected, f"resumed after {stop} trials"


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gp"])
def test_samples_are_the_same_when_resumed_again_and_again(name: str, whole: Any) -> None:
    finished: dict[str, Finished] = {}
    for _ in range(TRIALS):
        finished = run(settings(name), finished, stop_after=1)
    assert finished == whole(name, ("score",))


@pytest.mark.parametrize(("name", "objectives"), CASES)
def test_samples_keep_to_bounds_steps_and_choices(name: str, objectives: tuple[str, ...], whole: Any) -> None:
    for params in params_of(whole(name, objectives)):
        assert set(params) == {"inner_lr", "outer_lr", "width"} | (set() if name == "cmaes" else {"base"})
        assert 1e-4 <= params["inner_lr"] <= 1.0
        assert 0.01 <= params["outer_lr"] <= 0.1
        assert type(params["width"]) is int
        assert params["width"] in (10, 20, 30, 40)
        assert params.get("base", "sin") in ("relu", "sin", "tanh")


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gp"])
def test_methods_and_seeds_are_sampled_independently(name: str) -> None:
    search = settings(name, space={"inner_lr": RANGES["inner_lr"]}, trials=6)
    both = run(search, methods=("gradient", "evolution"))
    alone, other = run(search), run(search, seed=4)
    rates = [params["inner_lr"] for found in (both, other) for params in params_of(found)]
    assert len(set(rates)) == len(rates) == 18
    # The other method changes nothing about the first.
    assert {key: one for key, one in both.items() if key.startswith("gradient")} == alone


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "cmaes"])
def test_a_single_choice_is_sampled_too(name: str) -> None:
    search = settings(
        name, space={"base": {"choices": ["sin"]}, "inner_lr": RANGES["inner_lr"]}, trials=5, startup_trials=5
    )
    assert {params["base"] for params in params_of(run(search))} == {"sin"}


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_beat_chance(name: str) -> None:
    space = {"inner_lr": RANGES["inner_lr"], "outer_lr": RANGES["outer_lr"]}
    trials = 28 if name != "gp" else 8

    def late_mean(sampler: str) -> float:
        scores = []
        for seed in range(3 if sampler != "gp" else 1):
            found = run(settings(sampler, trials=trials, space=space), seed=seed)
            late = [found[trial_id("gradient", number)] for number in range(trials // 2, trials)]
            scores += [one.outcome.score for one in late if one.outcome.status is Status.OK]
        return sum(scores) / len(scores)

    assert late_mean(name) > late_mean("random") + 0.02


def test_qmc_fills_the_space_more_evenly_than_chance() -> None:
    def largest_gap(name: str) -> float:
        found = run(
            settings(name, trials=16, space={"outer_lr": {"low": 0.5, "high": 1.5}, "inner_lr": RANGES["inner_lr"]})
        )
        rates = sorted(params["outer_lr"] for params in params_of(found))
        return max(b - a for a, b in zip([0.5, *rates], [*rates, 1.5], strict=True))

    # Each sixteenth of the range holds one of sixteen points of a Sobol sequence.
    assert largest_gap("qmc") <= 2 / 16
    assert largest_gap("random") > 2 / 16


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("bases", "types"), [(6, 2), (3, 3), (5, 1)])
def test_qmc_goes_through_every_combination_of_choices_before_it_repeats_one(bases: int, types: int, seed: int) -> None:
    names = ["zero", "identity", "sigmoid", "sin", "tanh", "elu"][:bases]
    space = {"base": {"choices": names}, "num_types": {"choices": [1, 2, 3][:types]}}
    every = bases * types
    found = run(settings("qmc", trials=2 * every, space=space), seed=seed)
    drawn = [tuple(sorted(params.items())) for params in params_of(found)]
    assert len(set(drawn[:every])) == every
    assert drawn[every:] == drawn[:every]
    # the first half of them already has every base
    assert {dict(one)["base"] for one in drawn[: -(-every // 2)]} == set(names) or types == 1


def test_a_replayed_search_that_samples_otherwise_is_refused() -> None:
    finished = run(settings("nsga2"))
    with pytest.raises(SamplingChangedError, match="trial gradient-0000 differs"):
        plan_of(settings("nsga2", trials=TRIALS + 1), finished, seed=99)


# Several objectives


def test_a_teller_tells_one_objective_as_it_is_and_failures_as_the_penalty() -> None:
    wave = [
        Outcome(Status.OK, 0.5, values={}),
        Outcome(Status.KILLED, 0.9, values={}),
        Outcome(Status.OK, 0.0, values={}),
    ]
    assert Teller(["score"]).told(wave) == [{"score": 0.5}, {"score": PENALTY}, {"score": PENALTY}]


def test_a_teller_tells_of_failures_what_the_worst_trial_so_far_was() -> None:
    teller = Teller(["score", "cross_size_drop", "num_params"])
    failed = Outcome(Status.DIVERGED, 0.0, values={"num_params": 1})
    assert teller.told([failed]) == [{"score": PENALTY, "cross_size_drop": 1.0, "num_params": 1e9}]
    good = [Outcome(Status.OK, 0.5, values={'cross_size_drop': 0.1, 'num_params': 30}),
            Outcome(Status.OK, 0.4, values={'cross_size_drop': 0.0, 'num_params': 90})]  # fmt: skip
    assert teller.told([failed, *good])[0] == {"score": PENALTY, "cross_size_drop": 0.1, "num_params": 90}
    worse = Outcome(Status.OK, 0.4, values={"cross_size_drop": 0.2, "num_params": 20})
    teller.told([worse])
    assert teller.told([failed]) == [{"score": PENALTY, "cross_size_drop": 0.2, "num_params": 90}]


def test_a_teller_gives_a_good_trial_the_worst_of_a_value_that_it_lacks() -> None:
    wave = [Outcome(Status.OK, 0.5, values={"flatness": 7.0}), Outcome(Status.OK, 0.6, values={})]
    assert Teller(["score", "flatness"]).told(wave)[1] == {"score": 0.6, "flatness": 7.0}


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_search_for_few_parameters_samples_smaller_networks_than_search_for_the_score(name: str) -> None:
    def mean_width(objectives: tuple[str, ...]) -> float:
        space = {"width": {"low": 1, "high": 400}, "inner_lr": {"low": 0.009, "high": 0.011}}
        widths = [
            params["width"]
            for seed in range(3)
            for params in params_of(run(settings(name, objectives, trials=30, space=space), seed=seed))[10:]
        ]
        return sum(widths) / len(widths)

    assert mean_width(("score", "num_params")) < mean_width(("score",)) - 40


# Warm start


def earlier(count: int = 12, best: float = 1e-3) -> list[EarlierTrial]:
    """Trials of another run, which found a narrow optimum."""
    found = []
    for number in range(count):
        rate = 10 ** (-4 + 4 * number / (count - 1))
        score = 0.9 - 0.2 * abs(math.log10(rate / best))
        params = {"inner_lr": rate}
        found.append(EarlierTrial("r", f"gradient-{number:04d}", "gradient", params, Status.OK, {"score": score}))
    return found


@pytest.mark.parametrize("name", ["tpe", "cmaes", "gp"])
def test_a_warm_start_draws_the_first_trials_to_where_earlier_ones_were_good(name: str) -> None:
    space = {"inner_lr": RANGES["inner_lr"]}
    search = settings(name, trials=6 if name != "gp" else 2, space=space)

    def distance(known: list[EarlierTrial]) -> float:
        """Mean distance of the first wave from the earlier optimum, in decades."""
        seeds = range(4 if name != "gp" else 1)
        first = [params for seed in seeds for params in params_of(run(search, seed=seed, earlier=known, stop_after=2))]
        return sum(abs(math.log10(params["inner_lr"]) + 3) for params in first) / len(first)

    assert distance(earlier()) < 0.8
    if name != "gp":
        assert distance(earlier()) < distance([]) - 0.2


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_a_warmed_search_samples_the_same_when_resumed(name: str) -> None:
    search = settings(name, space={"inner_lr": RANGES["inner_lr"]})
    known = earlier()
    expected = run(search, earlier=known)
    for stop in (1, 2, 5):
        assert run(search, run(search, earlier=known, stop_after=stop), earlier=known) == expected
    assert run(search) != expected


def test_earlier_trials_are_told_to_their_own_method_only() -> None:
    search = settings("tpe", space={"inner_lr": RANGES["inner_lr"]})
    both = ("gradient", "evolution")
    warmed, cold = run(search, methods=both, earlier=earlier()), run(search, methods=both)
    changed = {key.partition("-")[0] for key in warmed if warmed[key] != cold[key]}
    assert changed == {"gradient"}
