"""PED-ANOVA against Optuna's, and what it can tell from made-up trials."""

import json
import math

import numpy as np
import pytest

from analysis import load_run
from analysis.importance import BEST_SHARE, FEWEST, FEWEST_BEST, importances

SPACE = {
    "inner_lr": {"low": 1e-3, "high": 1e-1, "log": True},
    "outer_lr": {"low": 0.0, "high": 1.0},
    "width": {"low": 20, "high": 120, "step": 10},
    "base": {"choices": ["elu", "sin", "tanh"]},
}


def made_up_trials(count):
    rng = np.random.default_rng(5)
    for _ in range(count):
        lr, width = float(10 ** rng.uniform(-3, -1)), 20 + 10 * int(rng.integers(0, 11))
        base = str(rng.choice(["elu", "sin", "tanh"]))
        score = -((np.log10(lr) + 2) ** 2) + (0.3 if base == "sin" else 0.0) + rng.normal(0, 0.02)
        yield {"inner_lr": lr, "outer_lr": float(rng.uniform()), "width": width, "base": base}, float(score)


def run_of(make_run, trials):
    folder = make_run(config={"search": {"space": SPACE}})
    rows = [
        {"trial_id": f"gradient-{n:04d}", "method": "gradient", "number": n, "status": "ok", "score": score}
        | {"params": json.dumps(params)}
        for n, (params, score) in enumerate(trials)
    ]
    folder.write("trials", rows)
    return load_run(folder.path)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_importances_are_those_of_optuna(make_run):
    optuna = pytest.importorskip("optuna")
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    trials = list(made_up_trials(120))
    distributions = {
        "inner_lr": FloatDistribution(1e-3, 1e-1, log=True),
        "outer_lr": FloatDistribution(0.0, 1.0),
        "width": IntDistribution(20, 120, step=10),
        "base": CategoricalDistribution(["elu", "sin", "tanh"]),
    }
    study = optuna.create_study(direction="maximize")
    for params, score in trials:
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score))
    best = max(math.ceil(BEST_SHARE * len(trials)), FEWEST_BEST) / len(trials)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best)
    expected = optuna.importance.get_param_importances(study, evaluator=evaluator)
    found = importances(run_of(make_run, trials)).set_index("parameter")["importance"]
    assert found.to_dict() == pytest.approx(dict(expected), rel=1e-6)


def test_what_decides_the_score_comes_first(make_run):
    found = importances(run_of(make_run, made_up_trials(120))).set_index("parameter")["importance"]
    assert found.idxmax() == "inner_lr"
    assert found.sum() == pytest.approx(1)


def test_few_trials_have_no_importance(make_run):
    assert importances(run_of(make_run, made_up_trials(FEWEST - 1))).empty


def test_equal_scores_make_nothing_important(make_run):
    trials = [(params, 0.5) for params, _ in made_up_trials(FEWEST)]
    assert importances(run_of(make_run, trials))["importance"].tolist() == pytest.approx([0.25] * 4)


def test_parameters_that_cannot_be_read_are_passed_over(make_run):
    trials = [(params, score) for params, score in made_up_trials(FEWEST)]
    folder = make_run(config={})
    rows = [{"trial_id": f"gradient-{n:04d}", "method": "gradient", "number": n, "status": "ok"} for n in range(FEWEST)]
    texts = ["{", "[1]", *(json.dumps({"width": n, "odd": [n]}) for n in range(FEWEST - 2))]
    scored = zip(rows, texts, trials, strict=True)
    folder.write("trials", [row | {"params": text, "score": score} for row, text, (_, score) in scored])
    assert importances(load_run(folder.path)).empty
