"""The objectives of a trial, each against a computation of its own."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from ldnn_core.activations import BankActivation, TableBank, mixed_functions
from ldnn_core.evaluation import TrainedGroup, evaluate_arms, fully_connected
from ldnn_core.randomness import derive_seed
from ldnn_core.subnetwork import initial_genomes
from search import measurement
from search.config import TrialConfig
from search.config_types import ObjectiveName
from search.divergence import Diverged
from search.measurement import measured_objectives
from search.schema import OBJECTIVES, TRIALS, Status
from search.setting import Setting, training
from search.trial import run_trial
from tests.small_runs import drive_here, new_run, rows, tiny_trial

ALL = {"objectives": list(OBJECTIVES), "objective_widths": [4, 16]}


def trial_for(*objectives: str, width: int = 10, **search: Any) -> TrialConfig:
    asked = {"objectives": ["score", *objectives], "objective_widths": [4, 16], "score_networks": 3} | search
    return tiny_trial("gradient", search=asked, ldnn={"width": width})


def setting_and_set(config: TrialConfig) -> tuple[Setting, torch.Tensor]:
    setting = Setting.of(config, "cpu")
    return setting, initial_genomes(setting.spec, 5)[0]


def test_objectives_are_columns_of_trials_and_the_names_of_the_configuration() -> None:
    assert set(ObjectiveName.__args__) == set(OBJECTIVES) <= set(TRIALS.names)


def test_further_objectives_do_not_change_the_score() -> None:
    few, many = trial_for(), trial_for("cross_size_drop", "flatness")
    alone = measured_objectives(*setting_and_set(few))
    together = measured_objectives(*setting_and_set(many))
    assert alone.keys() == {"score", "score_sem"}
    assert {name: together[name] for name in alone} == alone


def test_with_several_sizes_the_drop_is_below_the_score_over_them() -> None:
    config = tiny_trial(
        "gradient",
        search={"objectives": ["score", "cross_size_drop"], "objective_widths": [4, 16], "score_networks": 3},
        objective={"widths": [10, 16], "over": "mean"},
    )
    setting, genomes = setting_and_set(config)
    means = {width: float(setting.score_accuracies(genomes, [(width, 1)]).mean()) for width in (4, 10, 16)}
    found = measured_objectives(setting, genomes)
    score = (means[10] + means[16]) / 2
    assert found["score"] == pytest.approx(score, abs=1e-12)
    assert found["cross_size_drop"] == pytest.approx(score - min(means.values()), abs=1e-12)


@pytest.mark.parametrize("width", [4, 16])
def test_cross_size_drop_is_the_score_less_the_lowest_mean_accuracy(width: int) -> None:
    config = trial_for("cross_size_drop", width=width)
    setting, genomes = setting_and_set(config)
    root, how = (
        derive_seed(config.run_seed, "score"),
        training(config.evaluation, len(setting.data.train), config.regime),
    )
    means = {}
    for other in (4, 16):
        bank = TableBank(setting.spec, genomes.unsqueeze(0))
        arms = {"mixed": BankActivation(bank, mixed_functions((other,), 2))}
        network = fully_connected(setting.data, (other,))
        judged = evaluate_arms(setting.data, network, arms, range(3), how, root_seed=root, split="val")
        means[other] = sum(one.accuracy for one in judged) / 3
    found = measured_objectives(setting, genomes)
    assert found["score"] == pytest.approx(means[width], abs=1e-12)
    assert found["cross_size_drop"] == pytest.approx(means[width] - min(means.values()), abs=1e-12)


def test_flatness_is_the_mean_trace_of_dense_hessians_per_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "FLATNESS_PROBES", 300)
    config = trial_for("flatness", width=2)
    setting, genomes = setting_and_set(config)
    groups: list[TrainedGroup] = []
    setting.score_accuracies(genomes, config.sizes, observe=groups.append)
    (group,) = groups
    network = group.network
    activation = group.activation.of_networks(slice(0, 1))

    def loss(parameters: torch.Tensor) -> torch.Tensor:
        z, _ = network.forward(parameters[None], group.rows.x[None], activation)
        return network.loss.value(z, group.rows.y[None])[0]

    traces = [float(torch.autograd.functional.hessian(loss, row).trace()) for row in group.parameters]
    found = measured_objectives(setting, genomes)["flatness"]
    assert found == pytest.approx(sum(traces) / len(traces) / network.num_params, rel=0.05)


def test_networks_that_diverged_have_no_part_in_the_flatness() -> None:
    setting, genomes = setting_and_set(trial_for("flatness", width=2))
    groups: list[TrainedGroup] = []
    setting.score_accuracies(genomes, setting.config.sizes, observe=groups.append)
    (group,) = groups
    sound = measurement._traces_per_parameter(group, 0)
    parameters = group.parameters.clone()
    parameters[1] = math.nan
    marked = dataclasses.replace(group, parameters=parameters, diverged=torch.tensor([False, True, False]))
    assert measurement._traces_per_parameter(marked, 0) == pytest.approx([sound[0], sound[2]], rel=1e-5)
    none = dataclasses.replace(group, parameters=parameters, diverged=torch.tensor([True] * 3))
    assert measurement._traces_per_parameter(none, 0) == []


def test_a_set_in_which_every_network_of_the_score_diverges_has_no_score() -> None:
    config = trial_for("flatness", width=2).model_dump()
    config["evaluation"] |= {"optimizer": "sgd", "lr": 1e6}
    config["ldnn"]["base"] = "relu"
    bad = TrialConfig.model_validate(config)
    with pytest.raises(Diverged, match="all 3 networks of the score diverged, though the search did not"):
        measured_objectives(*setting_and_set(bad))
    records = run_trial(bad)
    assert (records.status, records.trial.get("score")) == (Status.DIVERGED, None)
    assert len(records.steps) > 0
    assert "all 3 networks" in records.trial["error"]


def test_a_trial_has_its_number_of_parameters_also_when_it_diverges() -> None:
    bad = tiny_trial("gradient", ldnn={"base": "relu"}, inner={"optimizer": "sgd", "lr": 1e6})
    records = run_trial(bad)
    assert records.status is Status.DIVERGED
    assert records.trial["num_params"] == 40 * 10 + 10 + 10 * 10 + 10


def test_values_are_stored_told_and_the_same_when_the_run_is_resumed(tmp_path: Any) -> None:
    space = {"inner_lr": {"low": 3e-3, "high": 3e-2}, "outer_lr": {"low": 0.1, "high": 1.0}}
    search = {**ALL, "sampler": "nsga2", "population": 2, "trials": 3, "space": space}
    changes: dict[str, Any] = {"search": search, "evaluation": {"best": 0}}
    whole = new_run(tmp_path / "a", name="whole", method="gradient", **changes, ldnn={"width": 6})
    _, listener = drive_here(whole)
    found = whole.store.read("trials").to_pylist()
    assert len(found) == len(listener.finished) == 3
    for row in found:
        assert row["num_params"] == 40 * 6 + 6 + 6 * 10 + 10
        assert 0 <= row["cross_size_drop"] <= row["score"]
        assert math.isfinite(row["flatness"])
    halted = new_run(tmp_path / "b", name="whole", method="gradient", **changes, ldnn={"width": 6})
    for _ in range(3):
        ended: list[int] = []
        drive_here(halted, stop=lambda ended=ended: bool(ended) or ended.append(1))
    assert rows(halted.path, "trials").equals(rows(whole.path, "trials"))
