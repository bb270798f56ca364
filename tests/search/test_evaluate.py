"""Judging found sets: which are best, which networks are missing, and that none is judged twice."""

import pandas as pd
import pytest
import torch

from ldnn_core.activations import TableBank, UsualActivation
from ldnn_core.evaluation import evaluate_arms, fully_connected
from ldnn_core.hermite import Grid
from ldnn_core.losses import CrossEntropy
from ldnn_core.mlp import MlpSpec
from ldnn_core.randomness import derive_seed
from ldnn_core.subnetwork import exact_values
from search.config import RunConfig
from search.contest import arm_names
from search.evaluate import Request, evaluation_units, judge
from search.found_set import best_trials, found_set, unique
from search.setting import activation_spec, load_task, training
from search.store import Store, StoreError
from tests.small_runs import TINY, drive_here, merged, new_run, tiny_run


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path)


def publish_trial(store, method, number, score, *, status="ok", attempt=0):
    trial_id = f"{method}-{number:04d}"
    row = {"trial_id": trial_id, "method": method, "number": number, "attempt": attempt, "status": status}
    store.publish("trials", f"{trial_id}-a{attempt}", [row | {"score": score if status == "ok" else None}])


def publish_evaluation(store, key, *cells):
    common = {"task": "mnist1d", "lr_protocol": "shared", "split": "test", "depth": 1}
    common |= {"architecture": "mlp", "mixing": "within_layer"}
    names = ("trial_id", "arm", "width", "seed")
    store.publish("evaluations", key, [common | dict(zip(names, cell, strict=True)) for cell in cells])


def test_the_best_of_each_method_come_first_gradient_first(store):
    for number, score in enumerate((0.3, 0.5, 0.4)):
        publish_trial(store, "evolution", number, score)
        publish_trial(store, "gradient", number, 1 - score)
    assert best_trials(store, 2) == ["gradient-0000", "gradient-0002", "evolution-0001", "evolution-0002"]
    assert best_trials(store, 0) == []
    assert len(best_trials(store, 99)) == 6


def test_of_equal_trials_the_earlier_is_better(store):
    for number in (2, 0, 1):
        publish_trial(store, "gradient", number, 0.5)
    assert best_trials(store, 2) == ["gradient-0000", "gradient-0001"]


def test_trials_that_did_not_end_well_are_never_best(store):
    publish_trial(store, "gradient", 0, 0.1)
    for number, status in enumerate(("diverged", "failed", "killed", "oom", "timeout"), start=1):
        publish_trial(store, "gradient", number, 0.9, status=status)
    publish_trial(store, "evolution", 0, 0.9, status="diverged")
    assert best_trials(store, 5) == ["gradient-0000"]


def test_a_trial_with_two_attempts_on_disk_is_best_once(store):
    publish_trial(store, "gradient", 0, 0.9)
    publish_trial(store, "gradient", 0, 0.9, attempt=1)
    publish_trial(store, "gradient", 1, 0.5)
    assert best_trials(store, 2) == ["gradient-0000", "gradient-0001"]


def test_a_found_set_is_the_one_recorded_last(undisturbed):
    store = undisturbed.store
    rows = pd.DataFrame(store.read("activations").to_pylist()).query("trial_id == 'gradient-0001' and step == 3")
    found = found_set(store, "gradient-0001")
    expected = torch.tensor(rows.sort_values("type_index")["genome"].tolist(), dtype=torch.float32)
    assert torch.equal(found.genomes, expected)
    assert (found.spec.base, found.spec.num_types, found.spec.hidden, found.spec.scale) == ("tanh", 2, (4,), 0.2)
    assert arm_names(found.spec, ()) == ("mixed", "pure-0", "pure-1")


def test_a_found_set_is_looked_up_in_the_table_it_was_learned_with(tmp_path):
    ldnn = {"table_range": 4.5, "table_scale": 8}
    run = new_run(tmp_path, method="gradient", ldnn=ldnn, search={"trials": 1}, evaluation={"best": 0})
    drive_here(run)
    found = found_set(run.store, "gradient-0000")
    assert found.spec == activation_spec(tiny_run(ldnn=ldnn).ldnn)
    assert found.arms(MlpSpec(40, (6,), 10, CrossEntropy()), 0, "within_layer").arm("mixed").bank.table.grid == Grid(
        scale=8, origin=36, cells=72
    )

    rows = pd.read_parquet(run.path / "activations")
    assert set(rows[["table_range", "table_scale"]].itertuples(index=False, name=None)) == {(4.5, 8)}
    assert list(rows["table_error"].notna()) == list(rows["final"])
    x = torch.linspace(-4.4, 4.4, 999, dtype=torch.float64)
    for k, bound in enumerate(rows[rows["final"]].sort_values("type_index")["table_error"]):
        genomes = found.genomes.double().unsqueeze(0)
        looked_up = TableBank(found.spec, genomes).value_slope(x.view(1, -1, 1), torch.tensor([[k]]))[0].flatten()
        error = float((looked_up - exact_values(found.spec, genomes[0, k : k + 1], x.unsqueeze(0))[0]).abs().max())
        assert 0.3 * bound <= error <= 1.02 * bound


def test_a_set_whose_rows_do_not_say_its_table_has_the_default(undisturbed, store):
    rows = undisturbed.store.read("activations").to_pylist()
    named = ("table_range", "table_scale", "table_error")
    for key in undisturbed.store.keys("activations"):
        own = [row | dict.fromkeys(named) for row in rows if key.startswith(row["trial_id"])]
        store.publish("activations", key, own)
    for part in (undisturbed.path / "trials").glob("*.parquet"):
        (store.root / "trials" / part.name).write_bytes(part.read_bytes())
    assert found_set(store, "gradient-0001").spec == found_set(undisturbed.store, "gradient-0001").spec


def test_a_set_of_one_type_has_no_pure_arms(store, tmp_path):
    run = new_run(tmp_path, method="gradient", ldnn={"num_types": 1}, search={"trials": 1}, evaluation={"widths": [6]})
    drive_here(run)
    assert arm_names(found_set(run.store, "gradient-0000").spec, ()) == ("mixed",)
    arms = pd.read_parquet(run.path / "evaluations")["arm"]
    assert set(arms) == {"mixed", "relu", "sin"}


def test_a_trial_without_a_set_is_named_with_those_that_have_one(store):
    publish_trial(store, "gradient", 0, 0.5, status="diverged")
    with pytest.raises(ValueError, match=r"must have ended well to have a set, but got .gradient-0000.*have: none"):
        found_set(store, "gradient-0000")
    publish_trial(store, "gradient", 1, 0.5)
    with pytest.raises(ValueError, match="but got 'gradient-7'; those that have: gradient-0001"):
        found_set(store, "gradient-7")


def test_a_trial_whose_set_was_lost_is_told(store):
    publish_trial(store, "gradient", 1, 0.5)
    with pytest.raises(
        StoreError, match=r"the set of gradient-0001 cannot be read: .*it is not there. `ldnn resume` finds it again"
    ):
        found_set(store, "gradient-0001")


def units_of(run, store, trial_ids=(), widths=(6,), depths=(1,), seeds=2):
    return evaluation_units(run, store, Request(trial_ids, widths, depths, seeds))


def test_units_are_one_per_set_and_size_largest_first(undisturbed, store):
    run = tiny_run()
    for name in ("trials", "activations"):
        for part in (undisturbed.path / name).glob("*.parquet"):
            (store.root / name / part.name).write_bytes(part.read_bytes())
    units, complete = units_of(run, store, ("gradient-0000",), widths=(6, 10), depths=(1, 2), seeds=3)
    assert complete == 0
    found = [(u.payload["width"], u.payload["depth"], u.payload["trial_id"]) for u in units]
    sizes = [(10, 2), (6, 2), (10, 1), (6, 1)]
    assert found == [(*size, trial) for size in sizes for trial in ("gradient-0000", "usual")]
    assert all(u.payload["seeds"] == [0, 1, 2] for u in units)
    assert len({u.key for u in units}) == 8


def test_rows_of_the_longest_labels_and_names_can_be_published(store):
    names = {"regimes": [{"name": "r" * 40}], "architectures": ["mlp", "mobilenet_v2"], "lr_protocol": "per_arm_size"}
    small = TINY | {"task": {"name": "digits", "label": "l" * 40}}
    run = RunConfig.model_validate(merged(small, {"evaluation": names}))
    units, _ = evaluation_units(run, store, Request((), (1024, 1025), (10,), 2))
    for unit in units:
        store.publish("evaluations", unit.key, [{"arm": "relu"}])
    assert len(store.keys("evaluations")) == len(units) == 8
    assert max(len(unit.key) for unit in units) == 128


def test_networks_that_are_there_are_not_asked_for_again(store):
    run = tiny_run()
    publish_evaluation(store, "a", *[("usual", arm, 6, seed) for arm in ("relu", "sin") for seed in (0, 2)])
    units, complete = units_of(run, store, seeds=4)
    assert [u.payload["seeds"] for u in units] == [[1, 3]]
    assert complete == 0
    assert units_of(run, store, seeds=1) == ([], 1)
    assert len(units_of(run, store, widths=(8,), seeds=1)[0]) == 1


def test_networks_judged_otherwise_do_not_count_as_there(store):
    run = tiny_run()
    cells = {"trial_id": "usual", "width": 6, "depth": 1, "seed": 0, "lr_protocol": "shared"}
    cells |= {"architecture": "mlp", "mixing": "within_layer"}
    for key, task, split in (("a", "digits", "test"), ("b", "mnist1d", "val")):
        store.publish("evaluations", key, [cells | {"task": task, "split": split, "arm": a} for a in ("relu", "sin")])
    assert [u.payload["seeds"] for u in units_of(run, store, seeds=1)[0]] == [[0]]


def test_without_usual_arms_and_sets_there_is_nothing_to_do(store):
    assert units_of(tiny_run(evaluation={"usual": []}), store) == ([], 0)


def test_a_network_of_a_unit_that_is_there_is_not_judged_twice(store):
    run = tiny_run()
    publish_evaluation(store, "usual-a", ("usual", "relu", 6, 0))
    [unit], _ = units_of(run, store)
    rows = judge(run, store, unit.payload, "cpu").evaluations
    assert [(row["arm"], row["seed"]) for row in rows] == [("relu", 1), ("sin", 0), ("sin", 1)]


def test_asking_for_more_seeds_gives_the_numbers_of_asking_at_once(undisturbed, store):
    run = RunConfig.model_validate(undisturbed.info.config)
    [unit], _ = units_of(run, store, widths=(10,), seeds=4)
    at_once = {(row["arm"], row["seed"]): row for row in judge(run, store, unit.payload, "cpu").evaluations}
    before = undisturbed.store.read("evaluations").to_pylist()
    for row in (row for row in before if row["trial_id"] == "usual" and row["width"] == 10):
        other = at_once[row["arm"], row["seed"]]
        assert row["accuracy"] == other["accuracy"]
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_rows_are_those_of_an_evaluation_with_the_settings_of_the_run(undisturbed):
    run = RunConfig.model_validate(undisturbed.info.config)
    data = load_task(run.task, "cpu")
    how = training(run.evaluation.training, 800, run.regime)
    assert (how.steps, how.batch_size, how.lr) == (8, 100, 0.01)
    arms = {"relu": UsualActivation("relu")}
    root = derive_seed(run.seed, "evaluation")
    judged = evaluate_arms(data, fully_connected(data, (10,)), arms, [0, 1], how, root_seed=root, split="test")
    expected = {j.seed: j for j in judged}
    frame = pd.read_parquet(undisturbed.path / "evaluations").query("arm == 'relu' and width == 10")
    assert len(frame) == 2
    for row in frame.to_dict("records"):
        judged = expected[row["seed"]]
        assert row["accuracy"] == judged.accuracy
        assert row["loss"] == pytest.approx(judged.loss, rel=1e-5)
        assert row["participation_ratio_normalized"] == pytest.approx(judged.participation_ratio / 10, rel=1e-4)
        corrected = judged.participation_ratio_corrected / 10
        assert row["participation_ratio_corrected"] == pytest.approx(corrected, rel=1e-4)
        assert (row["split"], row["optimizer"], row["epochs"], row["batch_size"]) == ("test", "adam", 1, 100)
        assert pd.isna(row["base"])
        assert pd.isna(row["learned_width"])


def test_networks_of_one_seed_start_alike_in_all_arms(undisturbed):
    frame = pd.read_parquet(undisturbed.path / "evaluations").query("width == 10")
    assert (frame.groupby(["trial_id", "arm"])["seed"].agg(sorted).apply(tuple) == (0, 1)).all()
    assert set(frame["arm"]) == {"mixed", "pure-0", "pure-1", "relu", "sin"}
    assert (frame.dropna(subset="base")["learned_width"] == 10).all()


def test_ids_are_made_unique_in_their_order():
    assert unique(["b", "a", "b", "c", "a"]) == ("b", "a", "c")
