"""Shards in this process: cut by the configuration, put together in order, the same wherever they are done."""

import json

import numpy as np
import pytest
import torch

from ldnn_core.estimators import Unrolled
from ldnn_core.population import evaluate_population
from search.booking import Booking
from search.evolution import evaluate_shard, make_algorithm
from search.gradient import combined, estimate_shard, outer_gradient
from search.setting import Setting
from search.shards import ShardsHere, body_name, do_shard, joined
from search.trial import run_trial
from tests.search import toy_shards
from tests.search.test_trial import numbers
from tests.small_runs import tiny_trial


class Backwards:
    """Does shards in another order, each as a process does that knows nothing of the trial."""

    def __init__(self):
        self.sizes = []

    def map(self, body, setting, outer_step, shards):
        call = body_name(body), setting.config.model_dump_json(), str(setting.device), outer_step
        done = [do_shard(*call, shard) for shard in reversed(shards)]
        self.sizes.append([len(shard.get("candidates", shard.get("classifiers"))) for shard in shards])
        return done[::-1]


@pytest.mark.parametrize("method", ["gradient", "evolution"])
def test_a_trial_has_the_same_rows_whoever_does_its_shards(method):
    changes = {"gradient": {"classifiers": 5, "shard": 2}, "evolution": {"population": 7, "shard": 3}}
    trial = tiny_trial(method, **changes)
    elsewhere = Backwards()
    assert numbers(run_trial(trial, shards=elsewhere)) == numbers(run_trial(trial))
    assert elsewhere.sizes == 3 * [[2, 2, 2] if method == "gradient" else [3, 3, 1]]


def test_losses_of_shards_are_those_of_the_whole_population():
    setting = Setting.of(tiny_trial("evolution", evolution={"population": 7, "classifiers": 2}), "cpu")
    candidates = make_algorithm(setting, setting.config.evolution).ask()
    pieces = [{"candidates": part.numpy()} for part in candidates.split(3)]
    found = ShardsHere().map(evaluate_shard, setting, 1, pieces)
    (problem,) = setting.problems
    whole = evaluate_population(problem, setting.spec, candidates, *setting.classifiers(problem, 1, 2), 5)
    for name in ("outer_loss", "final_loss"):
        np.testing.assert_allclose(joined(found, name), getattr(whole, name).numpy(), rtol=1e-5)
    assert sum(int(part["inner_steps"]) for part in found) == whole.inner_steps == 7 * 2 * 5


def test_gradients_of_shards_add_up_to_that_of_all_classifiers():
    setting = Setting.of(tiny_trial("gradient", gradient={"classifiers": 5}), "cpu")
    genomes = torch.randn(2, 13, generator=torch.Generator().manual_seed(0))
    whole = outer_gradient(setting, 2, genomes)
    pieces = [{"genomes": genomes.numpy(), "classifiers": np.array(piece)} for piece in ((0, 2), (2, 2), (4, 1))]
    found = ShardsHere().map(estimate_shard, setting, 2, pieces)
    total = combined(setting, genomes, found, 5)
    torch.testing.assert_close(total.gradient, whole.gradient, rtol=2e-4, atol=1e-8)
    assert total.outer_loss == pytest.approx(whole.outer_loss, rel=1e-6)
    assert total.inner_steps == whole.inner_steps == 25


def test_one_shard_of_all_classifiers_is_the_mean_to_the_bit():
    setting = Setting.of(tiny_trial("gradient", gradient={"classifiers": 3}), "cpu")
    genomes = torch.randn(2, 13, generator=torch.Generator().manual_seed(0))
    (problem,) = setting.problems
    mixed = setting.mixed(genomes, problem.network)
    whole = Unrolled().estimate(problem, *setting.classifiers(problem, 0, 3), mixed, 5)
    one = estimate_shard(setting, 0, {"genomes": genomes.numpy(), "classifiers": np.array((0, 3))})
    assert torch.equal(combined(setting, genomes, [one], 3).gradient, whole.gradient)


def test_the_size_of_a_shard_is_part_of_what_a_trial_is():
    sizes = [json.loads(run_trial(tiny_trial("evolution", evolution={"shard": n})).trial["config"]) for n in (1, 2)]
    assert [size["evolution"]["shard"] for size in sizes] == [1, 2]
    hashes = {run_trial(tiny_trial("gradient", gradient={"shard": n})).trial["config_hash"] for n in (1, 2)}
    assert len(hashes) == 2


def test_a_body_must_be_found_by_its_name():
    assert body_name(toy_shards.where) == "tests.search.toy_shards:where"
    with pytest.raises(ValueError, match=r"a body must be a function at the top level of a module, but got .*<lambda>"):
        body_name(lambda setting, step, shard: shard)


class TestBooking:
    def test_has_a_bundle_for_the_driver_and_one_for_each_worker(self):
        assert Booking(2).bundles == [{"CPU": 2}]
        assert Booking(1, 0.5, 2, 1).bundles == [{"CPU": 1, "GPU": 0.5}, {"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 1}]

    @pytest.mark.parametrize(
        "wrong", [{"threads": 0}, {"workers": -1}, {"gpus": 1.5}, {"gpus_per_worker": -1}, {"gpus": float("inf")}]
    )
    def test_refuses_what_cannot_be_booked(self, wrong):
        with pytest.raises(ValueError, match="threads >= 1, workers >= 0, gpus >= 0 and gpus_per_worker >= 0"):
            Booking(**{"threads": 1, **wrong})

    @pytest.mark.parametrize(
        ("booking", "fits"),
        [
            (Booking(1, workers=3), True),
            (Booking(1, workers=4), False),  # five processes of one core; the nodes have four
            (Booking(2, workers=1), False),  # three cores and one: room for one process of two cores
            (Booking(3), True),
            (Booking(1, 0.5, 1, 0.5), False),  # the node with the GPU has one core
            (Booking(1, 0.5), True),
            (Booking(1, 1.0, 1, 0.5), False),
            (Booking(1, 0.0, 1, 1.0), True),
        ],
    )
    def test_knows_whether_nodes_can_hold_it(self, booking, fits):
        assert booking.fits([{"CPU": 3.0}, {"CPU": 1.0, "GPU": 1.0}]) is fits

    def test_shrinks_to_the_workers_that_nodes_can_hold(self):
        assert Booking(2, workers=5).fitting([{"CPU": 4.0}, {"CPU": 3.0}]) == Booking(2, workers=2)
        assert Booking(2, workers=5).fitting([{"CPU": 1.0}]) == Booking(2)
