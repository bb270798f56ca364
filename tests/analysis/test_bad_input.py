"""What there is nothing to say about is said in words: no traceback, and no number that no data gave."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import compare, cross_size_table, headline_passports, load_run, verdict, write_report
from analysis.settings import outer_loss_unit
from search.schema import EVALUATIONS, SCHEMA_VERSION
from tests.analysis.conftest import RunFolder
from tests.analysis.made_up import Shape, made_up_rows

NEW_IN_3 = [
    "regime", "snapshot_accuracies", "ensemble_accuracy", "ensemble_weighted_accuracy", "error_correlation",
    "snapshot_distance",
    "metric", "rollout_error", "epoch_accuracies", "epoch_losses", "hessian_eigenvalues", "curvature_rows",
    "noise_alignment", "noise_trace", "preactivation_density",
]  # fmt: skip
SIX = [0.50, 0.51, 0.52, 0.53, 0.54, 0.55]


def empty(folder):
    return folder


def without_evaluations(folder):
    folder.trial("gradient-0000")
    folder.steps("gradient-0000", [0.4, 0.5])


def one_seed(folder):
    folder.trial("gradient-0000")
    folder.write("evaluations", made_up_rows(Shape(seeds=1), 0.05))


def without_the_mix(folder):
    folder.trial("gradient-0000")
    folder.write("evaluations", [row for row in made_up_rows(Shape(seeds=8), 0.05) if row["arm"] != "mixed"])


def without_usual_arms(folder):
    folder.trial("gradient-0000")
    folder.write("evaluations", made_up_rows(Shape(usual=()), 0.05))


def unequal_seeds(folder):
    folder.trial("gradient-0000")
    rows = made_up_rows(Shape(), 0.05)
    folder.write("evaluations", [row for row in rows if row["arm"] != "mixed" or row["seed"] >= 9])


def of_two_schema_versions(folder):
    folder.trial("gradient-0000")
    rows = made_up_rows(Shape(), 0.05)
    folder.write("evaluations", [row for row in rows if row["width"] > 20])
    old = [{**row, "schema_version": 2} for row in rows if row["width"] == 20]
    schema = pa.schema([field for field in EVALUATIONS if field.name not in NEW_IN_3])
    part = folder.path / "evaluations" / "part-00009.parquet"
    pq.write_table(pa.Table.from_pylist(old, schema=schema), part, write_page_checksum=True)


def judged_by_loss(folder):
    folder.trial("gradient-0000")
    shape = Shape(metric="loss", tasks=("van_der_pol",), common=0.1, noise=0.05)
    folder.write("evaluations", made_up_rows(shape, 0.3))


def under_two_regimes(folder):
    folder.trial("gradient-0000")
    rows = made_up_rows(Shape(), 0.05) + made_up_rows(Shape(regime="distanced"), 0.0)
    folder.write("evaluations", rows)


def all_diverged(folder):
    folder.trial("gradient-0000")
    folder.write(
        "evaluations", made_up_rows(Shape(seeds=8, collapsed={(width, 1): 1.0 for width in (20, 50, 100, 200)}))
    )


def only_tuning_rows(folder):
    folder.trial("gradient-0000")
    rows = made_up_rows(Shape(split="val", lr_protocol="per_arm_size"), 0.05)
    folder.write("evaluations", rows + [row | {"lr": 0.1, "accuracy": row["accuracy"] - 0.1} for row in rows])


KINDS = {
    empty: "No learned set has been evaluated yet; `ldnn evaluate`",
    without_evaluations: "No learned set has been evaluated yet; `ldnn evaluate`",
    one_seed: "no label: one seed only: it has no interval",
    without_the_mix: "no label: the arm mixed has no networks",
    without_usual_arms: "no label: no usual activation was evaluated",
    unequal_seeds: "Seeds of the mix and of best usual differ at width 20: 11 pairs, 9 seeds without a partner",
    of_two_schema_versions: f"Rows were written under schema versions 2, {SCHEMA_VERSION}.",
    judged_by_loss: "scale-safe",
    under_two_regimes: "Rows of regime distanced are left out; this is about plain.",
    all_diverged: "collapses",
    only_tuning_rows: "480 rows of other learning rates left out",
}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture
def run(kind, make_run):
    folder = make_run()
    kind(folder)
    return load_run(folder.path)


def test_every_command_has_words_for_it(kind, run):
    passports, words = headline_passports(run)
    said = " ".join([*words, *(sentence for made in passports for sentence in made.sentences)])
    assert KINDS[kind] in said
    assert verdict(run).sentences
    assert compare(run).sentences
    cross_size_table(run.evaluations, split="val")


@pytest.mark.parametrize(
    "kind", [one_seed, without_the_mix, all_diverged, judged_by_loss], ids=lambda kind: kind.__name__
)
def test_the_report_is_written_and_holds_no_number_that_is_none(run):
    text = write_report(run).read_text(encoding="utf-8")
    shown = re.sub(r"data:image[^\"]*|<style>.*?</style>", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(nan|inf|None|NaN|NaT|&lt;NA&gt;)\b", shown)


def test_a_run_of_a_newer_schema_is_refused_with_words(make_run):
    folder = make_run()
    folder.write("evaluations", [row | {"schema_version": SCHEMA_VERSION + 1} for row in made_up_rows(Shape(seeds=1))])
    with pytest.raises(ValueError, match=r"newer|version"):
        verdict(load_run(folder.path))


def test_a_set_judged_by_loss_is_not_called_unevaluated(make_run):
    folder = make_run()
    judged_by_loss(folder)
    run = load_run(folder.path)
    assert any("was judged by loss, and not by accuracy; `ldnn passport`" in text for text in verdict(run).sentences)
    assert any("Final sets judged by loss are not compared here" in text for text in compare(run).sentences)


def test_a_verdict_is_about_one_regime_and_says_so(make_run):
    folder = make_run()
    under_two_regimes(folder)
    run = load_run(folder.path)
    found = verdict(run)
    assert found.sizes["seeds"].max() == 20
    assert any("other regimes (distanced) are not in these sentences" in sentence for sentence in found.sentences)
    assert found.table.loc[found.table["rival"] == "relu", "difference"].min() > 0.03


def settings(**changes):
    known = {
        "name": "x", "seed": 1, "method": "both", "ldnn": {"width": 50, "base": "sin"}, "gradient": {"outer_lr": 0.4},
        "evolution": {"population": 16}, "resources": {"workers": 2}, "search": {"trials": 4},
    }  # fmt: skip
    return known | changes


def two_runs(tmp_path, first, second):
    folders = [
        RunFolder(tmp_path / name, run_id=name, name=name, config=config)
        for name, config in (("a", first), ("b", second))
    ]
    return compare(*(load_run(folder.path) for folder in folders))


def test_pooling_runs_of_different_settings_is_said_with_the_fields(tmp_path):
    changed = settings(ldnn={"width": 100, "base": "sin"}, gradient={"outer_lr": 0.1})
    first = two_runs(tmp_path, settings(), changed).sentences[0]
    assert first == (
        "These runs are pooled though their settings differ: gradient.outer_lr (0.4 in a; 0.1 in b), "
        "ldnn.width (50 in a; 100 in b)."
    )


def test_what_does_not_matter_for_pooling_is_passed_over(tmp_path):
    changed = settings(
        name="y", seed=2, method="gradient", evolution={"population": 99}, resources={"workers": 9},
        search={"trials": 8},
    )  # fmt: skip
    assert "pooled" not in two_runs(tmp_path, settings(), changed).sentences[0]


def test_many_different_settings_are_counted(tmp_path):
    first, second = ({"inner": {f"setting_{i}": value for i in range(11)}} for value in (0, None))
    assert "(0 in a; – in b), and 3 more settings." in two_runs(tmp_path, first, second).sentences[0]


@pytest.mark.parametrize(
    ("config", "unit"),
    [
        ({"objective": {"measure": "val_accuracy"}}, "share of wrong answers"),
        ({"objective": {"measure": "val_loss"}, "task": {"name": "mnist1d"}}, "nat"),
        ({"task": {"name": "van_der_pol"}}, "squared error"),
        ({"task": {"name": "van_der_pol", "label": "mine"}}, "squared error"),
        ({"task": {"name": "van_der_pol"}, "objective": {"measure": "val_accuracy"}}, "1 - skill"),
        ({}, "nat"),
    ],
)
def test_outer_losses_have_the_unit_of_what_is_measured(make_run, config, unit):
    from analysis.figures.progress import outer_loss, outer_loss_data

    folder = make_run(config=config)
    folder.steps("gradient-0000", SIX)
    run = load_run(folder.path)
    assert outer_loss(outer_loss_data(run)).axes[0].get_ylabel() == f"outer loss [{unit}]"


def test_the_outer_loss_of_a_labelled_regression_from_a_file_is_a_squared_error(make_run):
    folder = make_run(config={"task": {"name": "file", "label": "mine"}})
    folder.write("evaluations", made_up_rows(Shape(metric="loss", tasks=("mine",), seeds=2)))
    assert outer_loss_unit([load_run(folder.path)]) == "squared error"
