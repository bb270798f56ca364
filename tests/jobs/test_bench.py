"""The benchmarks run, their references compute what the engine computes, and a missed target says so."""

import contextlib
import dataclasses
import io
import itertools
import json
import time

import pytest
import torch
from typer.testing import CliRunner

from jobs.bench import BENCHMARKS, Conditions, run_benchmarks
from jobs.bench._base import MOST_IN_A_TURN, DisagreementError, Result, agree, seconds_of
from jobs.bench.curvature import LEARNED, check_curvature, trained_networks
from jobs.bench.evolution import bench_setting, check_candidates, timed_generations
from jobs.bench.memory import measure_here
from jobs.bench.meta_step import check_outer_step
from jobs.bench.padded import padded
from jobs.bench.population import check_padded, check_relu
from jobs.bench.references import plain_outer_step, sequential_relu
from jobs.bench.show import print_results
from jobs.bench.tune import Session
from jobs.bench.work import Work, canonical
from jobs.cli import app
from ldnn_core.training import Batches
from search.plan import Outcome, Unit
from search.schema import Status

KEYS = {"id", "value", "target", "met", "unit", "sizes", "device", "threads", "versions"}
IDS = {
    "meta-step": ["P1", "P1b", "P9"],
    "population": ["P3", "P4", "P3-widths"],
    "memory": ["P2", "P2-2000"],
    "estimators": ["E1", "E2", "E3", "E4"],
    "evolution": ["P6", "P6b"],
    "tune": ["P5", "P5b"],
    "store": ["P8", "P8-one", "P8-memory", "P8b"],
    "curvature": ["P7", "P7-usual"],
    "regimes": ["P-repulsion"],
}


def figure(value, *, at_least, quick=False, target=2.0):
    return Result("P0", "a figure", value, target, "ratio", (), Conditions(quick=quick), at_least=at_least)


def words(*results):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_results(results)
    return out.getvalue()


def test_pyhessian_on_modules_finds_what_the_batch_finds(monkeypatch):
    monkeypatch.setattr("jobs.bench.curvature.STEPS", 8)
    networks = trained_networks("cpu", (*LEARNED, "gelu", "sin"), seeds=1, steps=10, width=4, dtype=torch.float64)
    errors = check_curvature(networks.with_rows(40), {"trace": 1e-6, "eigenvalues": 1e-4, "density": 1e-3})
    assert set(errors) == {"trace", "eigenvalues", "density"}
    with pytest.raises(DisagreementError, match="trace: the relative error to the reference must be"):
        check_curvature(networks.with_rows(40).one_of_each(("gelu",)), {"trace": -1.0})


@pytest.mark.parametrize("width", [10, 11])
def test_plain_outer_step_agrees_with_the_engine(width):
    work = canonical("cpu", steps=12, width=width, dtype=torch.float64)
    errors = check_outer_step(work, 1e-9, 1e-6)
    assert set(errors) == {"outer_loss", "meta_gradient"}


def test_sequential_networks_agree_with_the_batch():
    work = canonical("cpu", steps=12, width=10, networks=3, dtype=torch.float64)
    errors = check_relu(work, 1e-9, 1e-9)
    assert set(errors) == {"losses", "accuracy"}
    assert sequential_relu(work)[0].shape == (12, 3)


def test_padded_networks_end_as_those_of_buckets():
    assert check_padded("cpu", steps=12, widths=(3, 5, 8), tolerance=1e-12)["padded"] <= 1e-12


def test_padding_needs_its_mask():
    works = [canonical("cpu", steps=3, width=width, networks=2, dtype=torch.float64) for width in (3, 8)]
    whole = padded(works)
    unmasked = dataclasses.replace(whole, mask=torch.ones_like(whole.mask)).train()
    assert whole.train()[whole.mask == 0].abs().max() == 0
    assert unmasked[whole.mask == 0].abs().max() > 0


def test_the_plain_meta_gradient_is_that_of_the_set():
    work = canonical("cpu", steps=3, width=6, dtype=torch.float64)
    _, gradient = plain_outer_step(work)
    direction = gradient / gradient.norm()
    h = 1e-5
    moved = [dataclasses.replace(work, genomes=work.genomes + step * direction) for step in (h, -h)]
    up, down = (plain_outer_step(work)[0] for work in moved)
    assert float((up - down) / (2 * h)) == pytest.approx(float(gradient.norm()), rel=1e-6)


def test_a_set_for_each_network_trains_each_network_with_its_own():
    work = canonical("cpu", steps=3, width=6, networks=2, sets=2, dtype=torch.float64)
    losses = work.train_mixed().losses
    for n in range(2):
        own = slice(n, n + 1)
        batches = Batches(work.batches.x, work.batches.y, work.batches.rows[:, own])
        alone = Work(work.problem, work.parameters[own], batches, work.genomes[own])
        torch.testing.assert_close(losses[:, own], alone.train_mixed().losses, rtol=1e-12, atol=0)


def test_candidates_trained_one_by_one_agree_with_a_generation():
    setting = bench_setting("cpu", 3, steps=8, width=11)
    assert set(check_candidates(setting, 1e-5)) == {"outer_loss"}
    with pytest.raises(DisagreementError, match="outer losses of candidates"):
        check_candidates(bench_setting("cpu", 3, steps=8, width=11), -1.0)


def test_the_parts_of_a_generation_make_the_whole():
    size = timed_generations(bench_setting("cpu", 4, steps=5, width=10, generations=2))
    assert size["training"] + size["lowering"] + size["outside"] == pytest.approx(1.0)
    assert min(size["training"], size["lowering"], size["outside"]) > 0
    assert size["seconds_per_candidate"] == pytest.approx(size["seconds"] / 4)


def session(ends):
    found = Session(started=0.0)
    for worker, time_of_end, work in ends:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "perf_counter", lambda now=time_of_end: now)
            found.watch("finished", Unit("unit"), Outcome(Status.OK, work, worker))
    return found


def test_what_a_trial_costs_is_the_time_between_ends_less_the_work():
    one = session([("a", 5.0, 2.0), ("a", 7.25, 2.0), ("a", 9.5, 2.0)])
    assert one.first_end == 5.0
    assert one.cycles() == [[(2.25, 2.0), (2.25, 2.0)]]
    assert one.throughput() == pytest.approx(1 / 2.25)


def test_throughput_counts_only_while_every_worker_has_a_unit():
    two = session([("a", 1.0, 1.0), ("b", 1.5, 1.0), ("a", 2.0, 1.0), ("b", 2.5, 1.0), ("a", 9.0, 1.0)])
    assert two.cycles() == [[(1.0, 1.0)], [(1.0, 1.0)]]
    assert two.throughput() == pytest.approx(2.0)


def test_a_unit_that_fails_ends_the_measurement():
    with pytest.raises(RuntimeError, match="unit ended as failed: no such thing"):
        Session(0.0).watch("finished", Unit("unit"), Outcome(Status.FAILED, 0.0, "no such thing"))


def test_numbers_that_disagree_are_not_timed():
    with pytest.raises(DisagreementError, match=r"the relative error to the reference must be <= 0\.01, but is 0\.5"):
        agree("loss", torch.tensor([1.5]), torch.tensor([1.0]), 0.01)
    with pytest.raises(DisagreementError, match="but is nan"):
        agree("loss", torch.tensor([float("nan")]), torch.tensor([1.0]), 0.01)


def test_actions_are_timed_alternately_after_a_warm_up():
    calls = []

    def slow():
        time.sleep(0.02)
        calls.append("slow")

    def fast():
        time.sleep(0.001)
        calls.append("fast")

    taken = seconds_of("cpu", slow, fast, repeats=2)
    turns = [(name, len(list(same))) for name, same in itertools.groupby(calls)]
    assert [name for name, _ in turns] == ["slow", "fast"] * 3
    assert [count for name, count in turns if name == "slow"] == [1, 1, 1]
    first, *others = [count for name, count in turns if name == "fast"]
    assert first == 1  # the warm-up
    assert all(1 < count <= MOST_IN_A_TURN for count in others)
    assert taken[0] >= 0.02
    assert 0.001 <= taken[1] < taken[0]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.ray if n == "tune" else ()) for n in BENCHMARKS])
def test_quick_form_reports_every_figure_as_not_comparable(name):
    threads = torch.get_num_threads()
    results = run_benchmarks([name], Conditions(quick=True))
    assert torch.get_num_threads() == threads
    records = [json.loads(json.dumps(result.record())) for result in results]
    assert [record["id"] for record in records] == IDS[name]
    for record in records:
        assert set(record) >= KEYS
        assert record["met"] is None
        assert record["comparable"] is False
        assert record["threads"] == 1
        assert len(record["sizes"]) >= 2
    assert "not comparable" in words(*results)


@pytest.mark.parametrize("who", ["ours", "plain", "pes"])
def test_peak_memory_is_that_of_a_process(who):
    size = measure_here("cpu", who, 6, 10)
    assert (size["who"], size["T"], size["width"]) == (who, 6, 10)
    assert 50 < size["peak_mb"] < 20_000


@pytest.mark.parametrize(
    ("value", "at_least", "met"), [(1.9, True, False), (2.1, True, True), (2.1, False, False), (1.9, False, True)]
)
def test_a_missed_target_is_shown_as_missed(value, at_least, met):
    result = figure(value, at_least=at_least)
    assert result.met is met
    assert result.record()["met"] is met
    assert ("MISSED" in words(result)) is not met


def test_a_figure_without_a_target_neither_meets_nor_misses_it():
    result = figure(1.9, at_least=True, target=None)
    assert result.met is None
    assert (result.record()["met"], result.record()["target"], result.record()["comparable"]) == (None, None, True)
    [line] = [line for line in words(result).splitlines() if line.strip().startswith("P0 ")]
    assert line.split() == ["P0", "a", "figure", "1.9"]


def test_a_figure_that_is_not_a_number_meets_nothing():
    assert figure(float("nan"), at_least=True).met is False
    assert figure(float("nan"), at_least=False).met is False


def test_command_answers_with_one_json_list():
    result = CliRunner().invoke(app, ["bench", "population", "--quick", "--json", "--device", "cpu"])
    assert result.exit_code == 0
    assert [record["id"] for record in json.loads(result.stdout)] == IDS["population"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["speed"], "a benchmark must be one of"), (["memory", "--device", "tpu"], "a device must be one of")],
)
def test_wrong_input_is_said_before_anything_runs(arguments, message):
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_says_what_to_do():
    with pytest.raises(ValueError, match="no CUDA device here: use --device cpu"):
        Conditions.on("cuda", quick=True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", BENCHMARKS)
def test_quick_form_runs_on_cuda(name):
    for result in run_benchmarks([name], Conditions("cuda", quick=True)):
        assert result.record()["device"].startswith("cuda: ")
