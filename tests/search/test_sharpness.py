"""Curvature of judged networks: which are measured, with what numbers, and where they stand when asked for later."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.func import functional_call, hessian

from ldnn_core.activations import GroupedActivation, UsualActivation
from ldnn_core.evaluation import TrainedGroup, Training, evaluate_arms, fully_connected
from ldnn_core.optimizers import Adam
from ldnn_core.tasks import Rows
from search.config import RunConfig
from search.config_errors import ConfigError, checked
from search.config_judging import CurvatureConfig
from search.evaluate import Request
from search.schema import UNIQUE_KEYS
from search.setting import load_task
from search.sharpness import Sharpness
from tests.small_runs import drive_here, new_run, tiny_run

SETTINGS = {"method": "batched", "networks": 2, "rows": 64, "probes": 4, "lanczos_steps": 12, "eigenvalues": 3}
CURVATURE_COLUMNS = [
    *("hessian_trace", "hessian_trace_sem", "hessian_top_eigenvalue", "hessian_eigenvalues"),
    *("near_zero_fraction", "near_zero_threshold", "curvature_method", "curvature_rows"),
]


def run_in(folder, **curvature):
    evaluation = {"widths": [4], "seeds": 3, "usual": ["tanh"], "controls": ["untrained", "relu-equal"]}
    run = new_run(folder, method="gradient", search={"trials": 1}, evaluation=evaluation, curvature=curvature)
    drive_here(run)
    return run


@pytest.fixture(scope="module")
def at_once(tmp_path_factory):
    return run_in(tmp_path_factory.mktemp("at-once"), **SETTINGS, noise=True)


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    run = run_in(tmp_path_factory.mktemp("later"))
    before = pd.read_parquet(run.path / "evaluations")
    assert before[CURVATURE_COLUMNS].isna().all(axis=None)
    assert not list((run.path / "spectra").glob("*.parquet"))
    request = Request(("gradient-0000",), (4,), (1,), 3, curvature=CurvatureConfig(**SETTINGS, noise=True))
    account, _ = drive_here(run, search=False, request=request)
    assert account.finished == 2
    assert drive_here(run, search=False, request=request)[0].finished == 0
    return run, before


def tables(run):
    frames = (pd.read_parquet(run.path / name) for name in ("evaluations", "spectra"))
    return [frame.sort_values(["arm", "seed"], ignore_index=True) for frame in frames]


def test_the_first_networks_of_every_arm_are_measured(at_once):
    evaluations, spectra = tables(at_once)
    measured = evaluations["seed"] < 2
    assert set(evaluations["arm"]) == {"mixed", "pure-0", "pure-1", "untrained", "relu-equal", "tanh"}
    for name in [*CURVATURE_COLUMNS, "noise_alignment", "noise_trace"]:
        assert (evaluations[name].notna() == measured).all(), name
    assert len(spectra) == 6 * 2
    assert not spectra.duplicated([*UNIQUE_KEYS["spectra"]]).any()
    own = evaluations[measured].reset_index(drop=True)
    for name in ("arm", "seed", "trial_id", "lr", "num_params", "width", *CURVATURE_COLUMNS, "noise_trace"):
        for one, other in zip(own[name], spectra[name], strict=True):
            assert np.array_equal(one, other), name
    assert set(own["curvature_rows"]) == {64}
    assert (own["hessian_eigenvalues"].str[0] == own["hessian_top_eigenvalue"]).all()
    assert (own["hessian_eigenvalues"].str.len() == 3).all()
    for grid, density in zip(spectra["eigenvalues"], spectra["density"], strict=True):
        assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.05)


def test_what_is_asked_for_later_stands_in_spectra_and_judged_rows_stay_as_they_are(at_once, later):
    run, before = later
    order = ["trial_id", "arm", "seed"]
    after = pd.read_parquet(run.path / "evaluations").sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(after, before.sort_values(order, ignore_index=True), check_exact=True)
    first, second = tables(at_once)[1], tables(run)[1]
    for name in first.columns.drop(["run_id", "created_at", "attempt"]):
        pairs = zip(second[name], first[name], strict=True)
        if first[name].dtype == float:
            assert all(one == pytest.approx(other, rel=1e-3, abs=1e-6, nan_ok=True) for one, other in pairs), name
        elif name in ("hessian_eigenvalues", "eigenvalues", "density"):
            assert all(one == pytest.approx(other, rel=2e-2, abs=1e-3) for one, other in pairs), name
        else:
            assert list(second[name]) == list(first[name]), name


def test_more_seeds_and_curvature_asked_for_together_repeat_nothing(tmp_path):
    run = run_in(tmp_path)
    request = Request(("gradient-0000",), (4,), (1,), 5, curvature=CurvatureConfig(**SETTINGS | {"networks": 4}))
    drive_here(run, search=False, request=request)
    evaluations, spectra = tables(run)
    assert not evaluations.duplicated([*UNIQUE_KEYS["evaluations"]]).any()
    assert set(evaluations.groupby("arm").size()) == {5}
    assert set(spectra.groupby("arm").size()) == {4}
    assert set(evaluations.loc[evaluations["hessian_trace"].notna(), "seed"]) == {3}


@pytest.fixture(scope="module")
def group():
    """Two trained networks with tanh, and what is judged."""
    data, groups = load_task(tiny_run().task, "cpu"), []
    network, how = fully_connected(data, (2,)), Training(Adam(), 0.02, 20, 100)
    evaluate_arms(data, network, {"tanh": UsualActivation("tanh")}, (0, 7), how, root_seed=0, observe=groups.append)
    return groups[0]


def dense(group, index, rows):
    model = torch.nn.Sequential(torch.nn.Linear(40, 2), torch.nn.Tanh(), torch.nn.Linear(2, 10)).double()

    def loss(flat):
        sizes = [("0.weight", (40, 2)), ("0.bias", (2,)), ("2.weight", (2, 10)), ("2.bias", (10,))]
        parts, start = {}, 0
        for name, shape in sizes:
            part = flat[start : start + math.prod(shape)].view(shape)
            parts[name], start = (part.T if len(shape) == 2 else part), start + math.prod(shape)
        return torch.nn.functional.cross_entropy(functional_call(model, parts, (rows.x.double(),)), rows.y)

    return hessian(loss)(group.parameters[index].double())


def test_numbers_are_those_of_the_dense_hessian_on_the_drawn_rows(group):
    how = CurvatureConfig(method="batched", rows=50, probes=60, lanczos_steps=40, eigenvalues=4)
    sharp = Sharpness(how, {7}, root_seed=3)
    sharp.observe(group)
    assert set(sharp.columns) == {("tanh", 7)} == set(sharp.spectra)
    found, rows = sharp.columns["tanh", 7], sharp._rows(group.rows)
    assert len({tuple(x.tolist()) for x in rows.x}) == 50
    full = dense(group, 1, rows)
    assert abs(found["hessian_trace"] - float(full.trace())) < 4 * found["hessian_trace_sem"]
    expected = torch.linalg.eigvalsh(full).flip(0)[:4]
    assert found["hessian_eigenvalues"] == pytest.approx(expected.tolist(), rel=1e-4)
    assert found["curvature_method"] == "batched"


def test_pyhessian_finds_the_same(group):
    pytest.importorskip("pyhessian")
    how = CurvatureConfig(method="batched", rows=50, probes=8, lanczos_steps=20, eigenvalues=2)
    found = []
    for method in ("batched", "pyhessian"):
        sharp = Sharpness(how.model_copy(update={"method": method}), {0, 7}, root_seed=3)
        sharp.observe(group)
        found.append(sharp.columns["tanh", 7])
    assert found[1].pop("curvature_method") == "pyhessian"
    for name, value in found[1].items():
        assert value == pytest.approx(found[0][name], rel=1e-2, abs=1e-4), name


def test_a_network_that_diverged_has_a_row_without_numbers(group):
    lost = dataclasses.replace(group, parameters=group.parameters * torch.tensor([[1.0], [math.nan]]))
    sharp = Sharpness(CurvatureConfig(**SETTINGS), {0, 7}, root_seed=3)
    sharp.observe(lost)
    said = {"curvature_method": "batched", "curvature_rows": 64}
    assert sharp.columns["tanh", 7] == dict.fromkeys(sharp.columns["tanh", 0], None) | said
    assert set(sharp.spectra["tanh", 7].values()) == {None}
    assert sharp.columns["tanh", 0]["hessian_trace"] is not None


def test_networks_that_are_not_asked_for_are_left_alone(group):
    sharp = Sharpness(CurvatureConfig(**SETTINGS), {1}, root_seed=3)
    sharp.observe(group)
    assert sharp.columns == {}


def test_few_rows_are_all_taken(group):
    sharp = Sharpness(CurvatureConfig(**SETTINGS), {0}, root_seed=0)
    few = Rows(group.rows.x[:9], group.rows.y[:9])
    assert sharp._rows(few) is few


def test_more_eigenvalues_than_lanczos_steps_are_refused():
    data = tiny_run().model_dump(mode="json") | {"curvature": {"eigenvalues": 9, "lanczos_steps": 8}}
    with pytest.raises(ConfigError, match="eigenvalues <= lanczos_steps"):
        checked(RunConfig, data, "here")


def test_groups_of_several_arms_are_told_apart(group):
    arms = GroupedActivation(((UsualActivation("tanh"), 1), (UsualActivation("relu"), 1)))
    both = TrainedGroup(group.network, ("a", "b"), (7,), group.parameters[[1, 1]], group.diverged, arms, group.rows)
    alone = dataclasses.replace(group, arms=("a",), seeds=(7,), parameters=group.parameters[[1]])
    alone = dataclasses.replace(alone, activation=GroupedActivation(((UsualActivation("tanh"), 1),)))
    found = []
    for one in (both, alone):
        sharp = Sharpness(CurvatureConfig(**SETTINGS), {7}, root_seed=3)
        sharp.observe(one)
        found.append(sharp.columns)
    assert set(found[0]) == {("a", 7), ("b", 7)}
    assert found[0]["a", 7]["hessian_trace"] == pytest.approx(found[1]["a", 7]["hessian_trace"], rel=1e-5)
    assert found[0]["a", 7]["hessian_trace"] != found[0]["b", 7]["hessian_trace"]
