"""Conditions under which sets are judged: kinds of network, mixings, regimes."""

from dataclasses import replace

import pandas as pd
import pytest

from search.conditions import Wanted, condition_of, conditions, difference, title
from search.config import RunConfig
from search.config_errors import ConfigError, checked
from search.evaluate import Request, evaluation_units
from tests.small_runs import drive_here, merged, new_run, tiny_run

RESTARTS = {"name": "restarts", "schedule": "restarts", "stepsize": 1, "snapshots": [1, 2]}
REPELLED = {"name": "repelled", "repulsion_strength": 1.0, "repulsion_epochs": [1], "weight_decay": 0.01}


def images(**changes):
    """A tiny run on digits; the table [task] of the others knows the number of samples, which digits do not."""
    run = merged(tiny_run().model_dump(mode="json"), changes)
    run["task"] = {"name": "digits"}
    return run


def test_every_condition_is_found_again_from_its_payload():
    run = RunConfig.model_validate(
        images(
            evaluation={
                "architectures": ["mlp", "resnet"],
                "mixings": ["within_layer", "per_block"],
                "regimes": [RESTARTS, REPELLED],
                "epochs": 2,
            }
        )
    )
    found = conditions(run, Wanted())
    assert len(found) == 2 * 2 * 3
    for condition in found:
        assert condition_of(difference(condition, run), run) == condition
    assert difference(found[0], run) == {}
    assert len({title(condition, run) for condition in found}) == len(found)
    assert title(found[0], run) == "digits"


def test_what_is_asked_for_replaces_what_the_run_names():
    run = RunConfig.model_validate(images())
    (only,) = conditions(run, Wanted(architectures=("vgg_he",), mixings=("per_layer",)))
    assert (only.ldnn.architecture, only.ldnn.mixing) == ("vgg_he", "per_layer")
    assert conditions(run, Wanted(tasks=())) == []


def test_networks_for_images_are_judged_on_those_tasks_that_have_some():
    run = RunConfig.model_validate(
        images(evaluation={"architectures": ["mlp", "resnet"], "tasks": [{"name": "mnist1d"}]})
    )
    found = {(one.task.name, one.ldnn.architecture) for one in conditions(run, Wanted())}
    assert found == {("digits", "mlp"), ("digits", "resnet"), ("mnist1d", "mlp")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = images(
        name="images",
        method="evolution",
        ldnn={"architecture": "vgg_he", "width": 2},
        evolution={"generations": 2, "population": 2, "elites": 1, "tournament": 1},
        search={"trials": 1, "score_networks": 2, "probe_networks": 1},
        evaluation={
            "widths": [2], "seeds": 1, "usual": ["relu"], "epochs": 2, "batch_size": 400,
            "mixings": ["within_layer", "per_block"], "regimes": [RESTARTS, REPELLED], "controls": ["copies"],
        },
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("conditions")
    from search.run_folder import create

    run = create(folder, "images", RunConfig.model_validate(config).model_dump(mode="json"), seed=0)
    account, listener = drive_here(run)
    # One trial; its set under three regimes and two mixings, relu under three regimes.
    assert account.finished == len(listener.finished) == listener.expected == 1 + 6 + 3
    return run


@pytest.fixture(scope="module")
def judged(run):
    return pd.read_parquet(run.path / "evaluations")


def test_a_mixing_that_is_asked_for_later_does_not_judge_usual_activations_again(run):
    config = RunConfig.model_validate(run.info.config)
    request = Request(("evolution-0000",), (2,), (1,), 1, wanted=Wanted(mixings=("per_layer",)))
    units, done = evaluation_units(config, run.store, request)
    assert {unit.payload["trial_id"] for unit in units} == {"evolution-0000"}
    assert (len(units), done) == (3, 3)  # under three regimes
    wider, _ = evaluation_units(config, run.store, replace(request, widths=(4,)))
    of_usual = [unit.payload for unit in wider if unit.payload["trial_id"] == "usual"]
    assert [payload.get("mixing") for payload in of_usual] == [None] * 3  # that of the run, where it is looked for


def test_sets_are_judged_under_every_condition_and_usual_activations_once_for_all_mixings(judged):
    counts = judged.groupby(["arm", "mixing"]).size().to_dict()
    for arm in ("mixed", "pure-0", "pure-1", "copies"):
        assert counts[arm, "within_layer"] == counts[arm, "per_block"] == 3
    assert (counts["relu", "within_layer"], counts.get(("relu", "per_block"))) == (3, None)
    assert set(judged["architecture"]) == {"vgg_he"}
    assert set(judged["regime"]) == {"plain", "restarts", "repelled"}


def test_a_set_of_copies_does_not_care_how_it_is_mixed(judged):
    losses = judged.set_index(["arm", "mixing", "regime"])["loss"].sort_index()
    for regime in ("plain", "restarts", "repelled"):
        equal = {
            losses[arm, mixing, regime] for arm in ("copies", "pure-0") for mixing in ("within_layer", "per_block")
        }
        assert len(equal) == 1
    assert losses["copies", "within_layer"].nunique() == 3  # regimes do make a difference


def test_snapshots_are_judged_as_an_ensemble_and_the_last_is_the_network(judged):
    with_snapshots = judged[judged["regime"] == "restarts"]
    assert with_snapshots["snapshot_accuracies"].map(len).tolist() == [2] * len(with_snapshots)
    last = with_snapshots["snapshot_accuracies"].map(lambda each: each[-1])
    assert last.tolist() == pytest.approx(with_snapshots["accuracy"].tolist(), abs=1e-12)
    assert with_snapshots["ensemble_accuracy"].between(0, 1).all()
    assert judged[judged["regime"] != "restarts"]["ensemble_accuracy"].isna().all()


def test_runs_of_before_had_no_regime(tmp_path):
    run = new_run(tmp_path)
    stored = {name: value for name, value in run.info.config.items() if name != "regime"}
    assert RunConfig.model_validate(stored).regime.name == "plain"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ldnn": {"architecture": "resnet"}, "task": {}}, "resnet is for tasks with images"),
        ({"evaluation": {"architectures": ["vgg_he"]}, "task": {}}, "vgg_he is for tasks with images"),
        ({"ldnn": {"architecture": "vgg_he", "depth": 4}}, "2^depth <= height of an image (8)"),
        ({"evaluation": {"regimes": [{"name": "plain"}]}}, "no name stands twice in regime and evaluation.regimes"),
        ({"regime": {"snapshots": [9]}}, "epochs of repulsion and snapshots <= evaluation.epochs"),
        ({"regime": {"snapshots": [2, 1]}, "evaluation": {"epochs": 3}}, "snapshots rise"),
        ({"regime": {"repulsion_strength": 1.0}}, "repulsion_epochs is given when there is a repulsion_strength"),
        ({"regime": {"name": "../x"}}, "letters, digits, dots"),
    ],
)
def test_conditions_that_cannot_be_are_refused(changes, words):
    data = images(**{name: table for name, table in changes.items() if name != "task"})
    if "task" in changes:
        data["task"] = {"name": "mnist1d"}
    with pytest.raises(ConfigError) as caught:
        checked(RunConfig, data, "here")
    assert words in str(caught.value)
