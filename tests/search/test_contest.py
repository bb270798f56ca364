"""The arms of a judged set and its controls in a run, single types beside mixes, learning rates per arm and size."""

import dataclasses
from typing import get_args

import pandas as pd
import pytest

from ldnn_core.evaluation import Judgement
from ldnn_core.subnetwork import ActivationSpec
from search.config import RunConfig, stored_config
from search.config_errors import ConfigError, checked
from search.config_types import ControlName
from search.contest import arm_names, best_rate, mean_goodness
from search.evaluate import Request
from search.found_set import best_trials
from search.sampling import RateSampler
from search.schema import CONTROLS, UNIQUE_KEYS
from search.store import Store
from tests.small_runs import drive_here, new_run, tiny_run

ALL_USUAL = ["relu", "silu", "gelu", "tanh", "sin", "elu", "hat"]


@pytest.fixture(scope="module")
def controlled(tmp_path_factory):
    """A run with all controls, all usual activations and two depths."""
    run = new_run(
        tmp_path_factory.mktemp("controlled"),
        method="gradient",
        search={"trials": 1},
        evaluation={"widths": [6, 9], "depths": [1, 2], "seeds": 3, "usual": ALL_USUAL, "controls": [*CONTROLS]},
    )
    drive_here(run)
    return run


def frame_of(run):
    return pd.read_parquet(run.path / "evaluations")


def test_the_names_of_controls_in_recipes_are_those_of_the_schema():
    assert get_args(ControlName) == tuple(CONTROLS)


def test_every_arm_is_judged_at_every_size_with_the_same_seeds(controlled):
    frame = frame_of(controlled)
    own = {"mixed", "pure-0", "pure-1", *CONTROLS} - {"no-gain"}  # the set has none
    assert set(frame.loc[frame["trial_id"] == "gradient-0000", "arm"]) == own
    assert set(frame.loc[frame["trial_id"] == "usual", "arm"]) == set(ALL_USUAL)
    seeds = frame.groupby(["arm", "width", "depth"])["seed"].agg(sorted)
    assert len(seeds) == 4 * (len(own) + 7)
    assert all(each == [0, 1, 2] for each in seeds)
    assert not frame.duplicated([*UNIQUE_KEYS["evaluations"]]).any()


def test_copies_are_pure_0_bit_for_bit_in_the_rows_of_a_run(controlled):
    numbers = ["accuracy", "loss", "train_loss", "participation_ratio", "weight_norm", "outside_table"]
    by_arm = frame_of(controlled).set_index(["arm", "width", "depth", "seed"]).sort_index()[numbers]
    pd.testing.assert_frame_equal(by_arm.loc["copies"], by_arm.loc["pure-0"], check_exact=True)
    assert not (by_arm.loc["copies"]["loss"] == by_arm.loc["mixed"]["loss"]).any()


def test_the_equal_network_is_the_narrowest_with_as_many_parameters_as_network_and_set(controlled):
    def params(width, depth):  # of 40 inputs and 10 classes
        return 41 * width + (depth - 1) * (width + 1) * width + (width + 1) * 10

    frame = frame_of(controlled).query("seed == 0").set_index(["arm", "width", "depth"])["num_params"]
    genome_weights = 2 * (4 + 4 + 4 + 1)
    for (width, depth), count in frame.loc["mixed"].items():
        assert count == params(width, depth)
        wider = (params(more, depth) for more in range(width, 2 * width))
        assert frame.loc[("relu-equal", width, depth)] == next(p for p in wider if p >= count + genome_weights)
        assert set(frame.drop("relu-equal", level="arm").loc[:, width, depth]) == {count}


def test_controls_are_random_in_each_network_and_different_from_the_mix(controlled):
    frame = frame_of(controlled)
    for arm in ("untrained", "shuffled", "mixed-normalized", "relu-equal"):
        both = frame[frame["arm"].isin([arm, "mixed"])].set_index(["width", "depth", "seed"])
        losses = both.groupby(level=[0, 1, 2])["loss"].nunique()
        assert (losses == 2).all(), arm


def test_columns_of_an_accuracy_are_filled(controlled):
    frame = frame_of(controlled)
    assert set(frame["metric"]) == {"accuracy"}
    assert frame["rollout_error"].isna().all()
    assert (frame["epoch_accuracies"].str[-1] == frame["accuracy"]).all()
    assert (frame["epoch_losses"].str[-1] == frame["train_loss"]).all()
    looked_up = ~frame["arm"].isin([*ALL_USUAL, "relu-equal"])
    assert (frame["preactivation_density"].notna() == looked_up).all()
    densities = frame.loc[looked_up, "preactivation_density"]
    assert all(len(density) == 64 and 0.9 < sum(density) <= 1 + 1e-9 for density in densities)


def test_arms_that_are_asked_for_later_are_added_and_nothing_is_repeated(tmp_path):
    run = new_run(tmp_path, method="gradient", search={"trials": 1}, evaluation={"widths": [6]})
    drive_here(run)
    before = frame_of(run)
    assert "shuffled" not in set(before["arm"])
    request = Request(("gradient-0000",), (6,), (1,), 2, usual=("relu", "gelu"), controls=("shuffled", "no-gain"))
    account, _ = drive_here(run, search=False, request=request)
    after = frame_of(run)
    assert account.finished == 2
    assert len(after) == len(before) + 4
    assert set(after["arm"]) - set(before["arm"]) == {"shuffled", "gelu"}
    assert drive_here(run, search=False, request=request)[0].finished == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"controls": ["shufled"]}, r"evaluation.controls\[0\] = 'shufled': must be one of untrained, copies"),
        ({"controls": ["copies", "copies"]}, "no value stands twice in controls"),
        ({"usual": ["reluu"]}, r"evaluation.usual\[0\] = 'reluu'"),
        ({"lr_search": "optuna", "lrs": [0.1]}, "lrs has two values at least for optuna"),
        ({"lr_protocol": "tuned"}, "must be one of shared, per_arm_size"),
    ],
)
def test_unknown_arms_and_protocols_are_refused_with_what_is_allowed(changes, words):
    data = tiny_run().model_dump(mode="json")
    with pytest.raises(ConfigError, match=words):
        checked(RunConfig, {**data, "evaluation": data["evaluation"] | changes}, "here")


def test_stored_configurations_with_the_names_of_before_are_read():
    data = tiny_run().model_dump(mode="json")
    old = data["evaluation"] | {"lr_protocol": "tuned", "normalized_arm": True}
    del old["controls"], data["curvature"]
    found = stored_config({**data, "evaluation": old}, "here")
    assert (found.evaluation.lr_protocol, found.evaluation.controls) == ("per_arm_size", ("mixed-normalized",))
    assert stored_config({**data, "evaluation": old | {"normalized_arm": False}}, "here").evaluation.controls == ()


def test_the_best_single_type_is_judged_beside_the_best_mixes(tmp_path):
    store = Store.create(tmp_path)
    scores = {"gradient": [(2, 0.5), (1, 0.3), (1, 0.4), (3, 0.6)], "evolution": [(1, 0.9), (2, 0.2), (1, 0.8)]}
    for method, trials in scores.items():
        for number, (num_types, score) in enumerate(trials):
            row = {"trial_id": f"{method}-{number:04d}", "method": method, "number": number, "attempt": 0}
            row |= {"status": "ok", "score": score, "num_types": num_types}
            store.publish("trials", f"{method}-{number:04d}-a0", [row])
    assert best_trials(store, 1) == ["gradient-0003", "gradient-0002", "evolution-0000"]
    assert best_trials(store, 2) == [
        "gradient-0003",
        "gradient-0000",
        "gradient-0002",
        "evolution-0000",
        "evolution-0002",
    ]
    assert best_trials(store, 0) == []


def test_a_run_of_single_types_judges_no_more_than_its_best(tmp_path):
    store = Store.create(tmp_path)
    for number in range(3):
        row = {"trial_id": f"gradient-{number:04d}", "method": "gradient", "number": number, "attempt": 0}
        store.publish("trials", f"gradient-{number:04d}-a0", [row | {"status": "ok", "score": 0.5, "num_types": 1}])
    assert best_trials(store, 1) == ["gradient-0000"]


def test_controls_of_a_set_are_those_that_differ_from_its_mix():
    spec = ActivationSpec("sin", 2, (4,))
    assert arm_names(spec, [*CONTROLS]) == (
        *("mixed", "pure-0", "pure-1"),
        *("untrained", "copies", "shuffled", "relu-equal", "mixed-normalized"),
    )
    assert arm_names(dataclasses.replace(spec, num_types=1, normalized=True), [*CONTROLS]) == (
        *("mixed", "untrained", "relu-equal", "no-gain"),
    )


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """Learning rates by Optuna, and one later request."""
    run = new_run(
        tmp_path_factory.mktemp("sampled"),
        method="gradient",
        search={"trials": 1},
        evaluation={
            "widths": [6], "seeds": 2, "usual": ["relu"], "epochs": 2, "controls": ["relu-equal", "copies"],
            "lr_protocol": "per_arm_size", "lr_search": "optuna", "lrs": [1e-4, 0.1], "lr_trials": 5, "tuning_seeds": 3,
        },
    )  # fmt: skip
    drive_here(run)
    return run


def test_the_chosen_rate_is_the_best_of_the_stored_curve(sampled):
    frame = frame_of(sampled)
    curve = frame[frame["split"] == "val"].groupby(["arm", "lr"])["accuracy"].agg(["mean", "count"])
    assert (curve["count"] == 3).all()
    rates = frame[frame["split"] == "test"].groupby("arm")["lr"].agg(set)
    assert set(rates.index) == {"mixed", "pure-0", "pure-1", "relu", "relu-equal", "copies"}
    for arm, chosen in rates.items():
        assert len(curve.loc[arm]) == 5
        assert chosen == {curve.loc[arm, "mean"].idxmax()}
        assert curve.loc[arm].index.min() >= 1e-4
        assert curve.loc[arm].index.max() <= 0.1
    pd.testing.assert_frame_equal(curve.loc["copies"], curve.loc["pure-0"], check_exact=True)


def test_an_arm_samples_the_same_rates_in_other_company(sampled, tmp_path):
    evaluation = dict(sampled.info.config["evaluation"]) | {"usual": ["relu", "tanh"], "controls": []}
    other = new_run(tmp_path, method="gradient", search={"trials": 1}, evaluation=evaluation)
    drive_here(other)
    for arm in ("relu", "mixed", "pure-1"):
        first, second = (
            set(f[(f["arm"] == arm) & (f["split"] == "val")]["lr"]) for f in map(frame_of, (sampled, other))
        )
        assert first == second


def test_more_seeds_take_the_rates_that_were_chosen_and_tune_no_more(sampled):
    before = frame_of(sampled)
    drive_here(sampled, search=False, request=Request(("gradient-0000",), (6,), (1,), 4))
    after = frame_of(sampled)
    assert len(after) == len(before) + 6 * 2
    assert len(after[after["split"] == "test"].drop_duplicates(["arm", "lr"])) == 6
    assert not after.duplicated([*UNIQUE_KEYS["evaluations"]]).any()


def test_sampled_rates_lie_where_earlier_ones_were_good():
    def sampled_for(peak, seed=0):
        sampler, rates = RateSampler(1e-4, 1.0, seed=seed), []
        for _ in range(25):
            rates.append(sampler.ask())
            sampler.tell(-abs(pd.Series([rates[-1] / peak]).apply("log10")[0]) if rates[-1] < 0.9 else -float("inf"))
        return rates

    low, high = sampled_for(1e-3), sampled_for(1e-1)
    assert sampled_for(1e-3) == low
    assert sampled_for(1e-3, seed=1)[3:] != low[3:]
    assert low[:3] == high[:3] == pytest.approx([1e-2, 10**-3.3333333, 10**-0.6666667])
    assert 1e-4 <= min(low) < max(low) <= 1.0
    median = {name: sorted(rates[10:])[7] for name, rates in (("low", low), ("high", high))}
    assert median["low"] < 1e-2 < median["high"]
    with pytest.raises(ValueError, match="must be asked for before its goodness is told"):
        RateSampler(0.1, 1.0, seed=0).tell(1.0)


def judgement(lr, *, accuracy=None, loss=None):
    values = dict.fromkeys((field.name for field in dataclasses.fields(Judgement)), None)
    return Judgement(**values | {"lr": lr, "accuracy": accuracy, "loss": loss})


def test_of_equally_good_rates_the_lowest_is_chosen():
    tried = [judgement(lr, accuracy=a) for lr, a in ((0.3, 0.5), (0.1, 0.4), (0.1, 0.6), (0.2, 0.5), (0.01, 0.4))]
    assert best_rate(tried) == 0.1


def test_a_regression_chooses_the_lowest_loss_and_never_a_rate_that_diverges():
    tried = [judgement(lr, loss=loss) for lr, loss in ((0.1, 0.4), (0.1, 0.6), (0.2, 0.1), (0.2, None), (0.01, 0.45))]
    assert best_rate(tried) == 0.01
    assert mean_goodness([judgement(0.2, loss=None), judgement(0.2, loss=1.0)]) == -float("inf")
