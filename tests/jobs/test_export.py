"""`ldnn export` and `ldnn interpolate`, on a small run."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from analysis import load_run
from jobs.export import best_trial, observed_inputs
from ldnn_core import load_activation, read_card
from search.setting import activation_spec
from tests.analysis.made_up import Shape, as_frame, made_up_rows
from tests.jobs.calls import ldnn
from tests.small_runs import tiny_run


@pytest.fixture(scope="module")
def run(undisturbed):
    return undisturbed[0]


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("cards") / "set.safetensors"
    arrays = out.with_name("arrays.npz")
    answer = ldnn("export", run, "--out", out, "--numpy", arrays)
    assert answer.code == 0, answer.err
    assert answer.out.split() == [str(out), str(out.with_suffix(".png")), str(arrays)]
    return out


def final_rows(run, trial):
    rows = load_run(run).activations
    return rows[(rows["trial_id"] == trial) & rows["final"]].sort_values("type_index")


def test_by_default_the_best_trial_is_exported(run, exported):
    trials = load_run(run).trials
    best = trials.loc[trials["score"].idxmax()]
    learned = read_card(exported).learned
    assert learned["trial_id"] == best["trial_id"]
    assert learned["score"] == best["score"]
    assert learned["task"] == "mnist1d"
    assert learned["widths"] == [10]
    assert learned["depths"] == [1]
    for name in ("run_id", "method", "config_hash", "code_version"):
        assert learned[name] == best[name]


def test_the_card_has_the_functions_that_the_run_recorded(run, exported):
    card = read_card(exported)
    assert card.spec == activation_spec(tiny_run().ldnn)
    rows = final_rows(run, card.learned["trial_id"])
    x = torch.linspace(-10, 10, 100, dtype=torch.float64)
    for k, curve in enumerate(rows["curve"]):
        pure = load_activation(exported, type_index=k, dtype=torch.float64)
        np.testing.assert_allclose(pure(x).numpy(), curve, atol=1e-8)


def test_a_trial_by_its_id(run, tmp_path):
    for trial in ("gradient-0001", "evolution-0000"):
        answer = ldnn("export", run, "--trial", trial, "--out", tmp_path / "one.safetensors")
        assert answer.code == 0, answer.err
        card = read_card(tmp_path / "one.safetensors")
        assert card.learned["trial_id"] == trial
        genomes = np.array(final_rows(run, trial)["genome"].tolist())
        np.testing.assert_array_equal(card.genomes.numpy(), genomes)


def test_the_picture_is_a_picture(exported):
    assert exported.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_arrays_need_nothing_but_numpy(exported):
    card = read_card(exported)
    with np.load(exported.with_name("arrays.npz"), allow_pickle=False) as arrays:
        found = dict(arrays)
    assert found["knots"].shape == (1281,)
    assert found["values"].shape == found["slopes"].shape == (2, 1281)
    module = load_activation(exported, type_index=1, dtype=torch.float64)
    x = torch.from_numpy(found["knots"]).requires_grad_()
    y = module(x)
    np.testing.assert_allclose(found["values"][1], y.detach().numpy(), atol=1e-14)
    (slopes,) = torch.autograd.grad(y.sum(), x)
    np.testing.assert_allclose(found["slopes"][1], slopes.numpy(), atol=1e-12)
    assert str(found["base"]) == card.spec.base == "tanh"
    np.testing.assert_array_equal(found["genomes"], card.genomes.numpy())


def test_the_passport_of_the_report_comes_along(run, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    (copied / "report").mkdir(exist_ok=True)
    table = pa.table({"label": ["scale-safe"] * 2, "width": [20, 50], "advantage": [0.02, float("nan")]})
    words = {b"ldnn.passport": json.dumps({"sentences": ["it holds"], "rules": {}}).encode()}
    path = copied / "report" / "passport-gradient-0000.parquet"
    pq.write_table(table.replace_schema_metadata(words), path)
    for trial in ("gradient-0000", "gradient-0001"):
        assert ldnn("export", copied, "--trial", trial, "--out", tmp_path / f"{trial}.safetensors").code == 0
    assert read_card(tmp_path / "gradient-0000.safetensors").passport == {
        "label": "scale-safe",
        "sentences": ["it holds"],
        "table": {"label": ["scale-safe"] * 2, "width": [20, 50], "advantage": [0.02, None]},
    }
    assert read_card(tmp_path / "gradient-0001.safetensors").passport is None
    path.write_bytes(b"torn")
    answer = ldnn("export", copied, "--trial", "gradient-0000", "--out", tmp_path / "set.safetensors")
    assert (answer.code, "passport-gradient-0000.parquet cannot be read" in answer.err) == (2, True)
    assert not (tmp_path / "set.safetensors").exists()


def test_observed_inputs_are_the_bins_from_the_first_to_the_last_that_was_seen():
    density = np.zeros(64)
    density[[10, 20, 40]] = 0.5, 0.3, 0.19
    density[60] = 1e-5
    rows = made_up_rows(Shape(widths=(50,), seeds=3, usual=()))
    measured = {"mixed": [density, density, None], "pure-0": [np.ones(64)] * 3, "pure-1": [None] * 3}
    rows = [row | {"preactivation_density": measured[row["arm"]][row["seed"]]} for row in rows]
    tuning = {"split": "val", "lr": 0.3, "preactivation_density": np.ones(64)}
    frame = as_frame("evaluations", [*rows, *(row | tuning for row in rows)])
    seen = observed_inputs(frame)
    assert (seen.low, seen.high, seen.networks) == (-8 + 10 / 4, -8 + 41 / 4, 2)
    assert seen.share == pytest.approx(0.99)
    assert observed_inputs(frame[frame["arm"] != "mixed"]) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "set.pt"], "--out must end in .safetensors, but got 'set.pt'"),
        (["--out", "absent/set.safetensors"], "--out must lie in a folder that is there, but 'absent' is not"),
        (["--out", "a.safetensors", "--numpy", "a.txt"], "--numpy must end in .npz"),
        (
            ["--out", "a.safetensors", "--trial", "gradient-0099"],
            "--trial: a trial must have ended well to have a set, but got 'gradient-0099'; those that have: evo",
        ),
    ],
)
def test_what_cannot_be_exported_is_said(run, arguments, words):
    answer = ldnn("export", run, *arguments)
    assert answer.code == 2
    assert words in answer.err


def test_a_run_without_a_set_is_said(run, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    shutil.rmtree(copied / "activations")
    answer = ldnn("export", copied, "--trial", "gradient-0000", "--out", tmp_path / "set.safetensors")
    assert (answer.code, "the set of gradient-0000 cannot be read" in answer.err) == (1, True)
    shutil.rmtree(copied / "trials")
    answer = ldnn("export", copied, "--out", tmp_path / "set.safetensors")
    assert (answer.code, "has none" in answer.err) == (2, True)


def test_the_best_trial_is_no_copy():
    scores = {"gradient-0000": (0.5, None), "gradient-0002": (0.7, "gradient-0001"), "gradient-0001": (0.7, None)}
    rows = [
        {"trial_id": trial, "status": "ok", "score": score, "copied_from": original}
        for trial, (score, original) in scores.items()
    ]
    assert best_trial(SimpleNamespace(name="made-up", trials=pd.DataFrame(rows))) == "gradient-0001"


def test_interpolants_are_compared(exported):
    answer = ldnn("interpolate", exported, "--points", "51,1281", "--json")
    assert answer.code == 0, answer.err
    rows = {(row["interpolant"], row["points"]): row for row in answer.json}
    told = read_card(exported).errors
    # 1281 points are the knots of the engine's own table.
    engine = rows["cubic Hermite", 1281]
    for name in ("value", "slope", "curvature"):
        assert engine[name] == pytest.approx(max(getattr(told, name)), rel=0.1)
    assert rows["linear", 51]["value"] > rows["cubic spline", 51]["value"] > rows["cubic spline", 1281]["value"]
    assert rows["rational (AAA)", 1281]["value"] < 1e-9
    assert rows["rational (AAA)", 1281]["curvature"] < 1e-3
    assert rows["polynomial, degree 5", 1281]["value"] > 0.01


def test_interpolants_are_shown_as_a_table(exported):
    answer = ldnn("interpolate", exported, "--points", "26")
    assert answer.code == 0, answer.err
    assert "largest errors on [-10, 10]" in answer.out
    assert "polynomial, degree 20" in answer.out
    assert "polynomial, degree 40" not in answer.out  # more than the points can tell


def test_what_is_no_card_is_said(tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_text(json.dumps({"not": "a card"}))
    answer = ldnn("interpolate", path)
    assert (answer.code, "the header must have" in answer.err) == (2, True)
    answer = ldnn("interpolate", tmp_path / "absent.safetensors")
    assert (answer.code, "No such file" in answer.err) == (2, True)
