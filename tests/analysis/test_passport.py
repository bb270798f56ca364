import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis import Label, PassportError, Rules, Standing, load_run, passport_table, scale_passport, write_passport
from analysis.figures.passport import passport_heat_data, scale_passport_figure
from analysis.merit import collapsed, merit_of
from analysis.passport_cells import BEST_PURE, BEST_USUAL, LEARNED_SINGLE
from analysis.passport_file import METADATA_KEY, PASSPORT
from analysis.passport_grid import passport_grid
from analysis.passport_table import passport_summary
from tests.analysis.made_up import Shape, as_frame, made_up_evaluations, made_up_rows, write_run

WIDTHS = (20, 50, 100, 200, 400)
TRIAL = "gradient-0000"


def passport(shape=None, advantage=0.0, **options):
    return scale_passport(made_up_evaluations(shape, advantage), trial_id=TRIAL, **options)


def row(made, rival, width, depth=1):
    table = made.grid
    return table[(table["rival"] == rival) & (table["width"] == width) & (table["depth"] == depth)].iloc[0]


@pytest.fixture(scope="module")
def safe():
    shape = Shape(widths=WIDTHS, controls={"untrained": 0.05, "shuffled": 0.0})
    return passport(shape, {(width, 1): 0.03 for width in WIDTHS})


@pytest.fixture(scope="module")
def specific():
    return passport(Shape(widths=WIDTHS), {(50, 1): 0.03, (100, 1): 0.02, (400, 1): -0.02})


def test_a_set_that_wins_everywhere_is_scale_safe(safe):
    assert safe.label is Label.SCALE_SAFE
    assert safe.words == "better at each of 5 sizes: width 20, width 50, width 100, width 200, width 400"
    assert set(safe.sizes["standing"]) == {Standing.BETTER}


def test_a_set_that_wins_here_and_loses_there_is_size_specific(specific):
    assert specific.label is Label.SIZE_SPECIFIC
    assert specific.words == "better at width 50, width 100; worse at width 400; no advantage at width 20, width 200"


def test_a_set_that_is_at_chance_level_somewhere_collapses():
    made = passport(Shape(collapsed={(200, 1): 0.5}), 0.03)
    assert made.label is Label.COLLAPSES
    assert made.words == (
        "diverged or at chance level at width 200, 50 % of its networks (of the best usual arm's 0 %)"
    )
    assert row(made, BEST_USUAL, 200)["diverged"] == 10


def test_a_usual_activation_that_collapses_too_clears_the_set():
    rows = made_up_rows(Shape(collapsed={(200, 1): 0.5}), 0.03)
    for one in rows:
        if one["width"] == 200 and one["seed"] < 10:
            one.update(accuracy=0.1, diverged=True, loss=None)
    assert scale_passport(as_frame("evaluations", rows), trial_id=TRIAL).label is not Label.COLLAPSES


def test_one_broken_network_is_no_collapse():
    assert passport(Shape(seeds=10, collapsed={(200, 1): 0.1}), 0.05).label is not Label.COLLAPSES


def test_a_set_that_wins_nowhere_is_no_better_than_usual():
    made = passport(Shape(), 0.0)
    assert made.label is Label.NO_BETTER
    assert made.words == "better at none of 4 sizes, where an advantage of 2.0 points would have been seen"


def test_a_set_whose_advantage_could_not_have_been_seen_has_no_label():
    made = passport(Shape(noise=0.05), 0.0)
    assert made.label is None
    assert made.words.startswith("better nowhere, but with these seeds an advantage would have been seen at width")
    assert made.words.endswith("for a label it has to be 2.0 points")


def test_a_win_here_and_doubt_there_has_no_label():
    rows = made_up_rows(Shape(), 0.05)
    noise = iter(np.random.default_rng(0).normal(0, 0.15, 1000))
    for one in rows:
        if one["width"] == 20:
            one["accuracy"] = float(np.clip(one["accuracy"] - 0.03 + next(noise), 0.2, 1))
    made = scale_passport(as_frame("evaluations", rows), trial_id=TRIAL)
    assert made.label is None
    assert made.words == "better at width 50, width 100, width 200; unclear at width 20: more seeds there would tell"


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Shape(seeds=1), "one seed only: it has no interval, and nothing can be tested"),
        (Shape(seeds=7), "too few seeds, at least 8 in common are needed"),
        (Shape(widths=(20, 100)), "2 sizes could be judged, at least 3 are needed"),
        (
            Shape(widths=(20, 30, 40)),
            "span a factor of 2.0 in width and 1.0 in depth; at least 4 in width or 2 in depth",
        ),
        (Shape(usual=()), "no usual activation was evaluated under the same conditions"),
    ],
)
def test_data_that_do_not_suffice_have_words_and_no_label(shape, words):
    made = passport(shape, 0.05)
    assert made.label is None
    assert words in made.words
    assert passport_table(made).caption.startswith(f"Scale passport of {TRIAL}: no label; test rows")
    list(passport_summary(made))


def test_one_seed_has_differences_but_no_interval():
    made = passport(Shape(seeds=1), 0.05)
    numbers = made.grid[["low", "high", "won_low", "p", "p_holm", "detectable", "equivalent_within", "retention"]]
    assert numbers.isna().all(axis=None)
    assert made.grid["advantage"].notna().all()
    assert made.summary[["mean_advantage", "mean_low", "width_slope_low"]].isna().all(axis=None)


def test_a_set_learned_at_every_size_has_to_be_tried_elsewhere():
    frame = made_up_evaluations(Shape(), 0.03)
    own = frame["learned_width"].notna()
    frame.loc[own, "learned_width"] = frame.loc[own, "width"]
    made = scale_passport(frame, trial_id=TRIAL)
    assert made.label is None
    assert "all of them are where it was learned" in made.words
    assert made.grid["is_learned"].all()


def test_depth_alone_can_span_the_sizes():
    assert passport(Shape(widths=(50,), depths=(1, 2, 3)), 0.03).label is Label.SCALE_SAFE


def test_controls_that_were_not_beaten_are_named_with_their_sizes(safe):
    by_name = {control.name: control for control in safe.controls}
    assert by_name["untrained"].failed == ()
    assert len(by_name["untrained"].beaten) == 5
    assert by_name["shuffled"].failed == ("width 20", "width 50", "width 100", "width 200", "width 400")
    assert safe.sentences[1] == (
        "Not better than the control shuffled at width 20, width 50, width 100, width 200, width 400."
    )
    assert safe.sentences[2] == "Better than the control wherever tested: untrained."


def test_advantages_retention_and_winning_are_those_put_in(specific):
    found = row(specific, BEST_USUAL, 100)
    assert found["advantage"] == pytest.approx(0.02, abs=0.006)
    assert found["low"] < 0.02 < found["high"]
    assert found["retention_low"] < 2 / 3 < found["retention_high"]
    assert row(specific, BEST_USUAL, 50)["retention"] == pytest.approx(1.0)
    assert row(specific, BEST_USUAL, 400)["retention"] < 0
    assert row(specific, BEST_USUAL, 400)["won"] < 0.2
    assert row(specific, BEST_PURE, 400)["standing"] == Standing.BETTER
    worst = specific.summary.iloc[0]
    assert (worst["worst_width"], worst["worst_advantage"]) == (400, row(specific, BEST_USUAL, 400)["advantage"])
    assert worst["learned_advantage"] == row(specific, BEST_USUAL, 50)["advantage"]


def test_p_values_are_those_of_scipy_and_corrected_over_sizes(specific):
    frame = made_up_evaluations(Shape(widths=WIDTHS), {(50, 1): 0.03, (100, 1): 0.02, (400, 1): -0.02})
    accuracy = frame.pivot_table(index="seed", columns=["width", "arm"], values="accuracy")
    found = specific.grid[specific.grid["rival"] == "relu"].set_index("width")
    for width in WIDTHS:
        differences = (accuracy[width, "mixed"] - accuracy[width, "relu"]).round(9)
        reference = stats.wilcoxon(differences, zero_method="pratt", correction=True).pvalue
        # The approximation is good in the middle and far too large in the tails.
        assert found.loc[width, "p"] == pytest.approx(reference, rel=0.02) or found.loc[width, "p"] < reference < 1e-3
    assert found["p_holm"].to_numpy() == pytest.approx(multipletests(found["p"], method="holm")[1])


def test_losses_are_judged_low_by_their_logarithm():
    shape = Shape(metric="loss", tasks=("van_der_pol",), common=0.1, noise=0.05, usual_gap=0.1)
    made = passport(shape, 0.3)
    assert made.label is Label.SCALE_SAFE
    assert row(made, BEST_USUAL, 50)["advantage"] == pytest.approx(0.3, abs=0.05)
    assert "mixed – best usual [log points of loss]" in [column.head for column in passport_table(made).columns]


def test_a_diverged_network_without_a_loss_is_lost_and_said():
    shape = Shape(metric="loss", tasks=("van_der_pol",), common=0.1, noise=0.05, collapsed={(200, 1): 0.15})
    made = passport(shape, 0.3)
    found = row(made, BEST_USUAL, 200)
    assert (found["pairs"], found["diverged"], found["won"]) == (20, 3, pytest.approx(0.85))
    assert math.isfinite(found["advantage"])
    assert any("Diverged networks have no loss at width 200" in note for note in made.notes)


def test_merit_and_collapse_of_single_rows():
    frame = pd.DataFrame({
        "task": ["mnist1d", "mnist1d", "mine", "van_der_pol", "van_der_pol"],
        "metric": [None, "accuracy", "accuracy", "loss", "loss"],
        "accuracy": [0.14, 0.2, 0.1, np.nan, np.nan],
        "loss": [2.3, 2.0, 3.0, 0.5, np.nan],
        "diverged": pd.array([False, False, False, False, True], dtype="boolean"),
    })  # fmt: skip
    assert list(merit_of(frame)) == [0.14, 0.2, 0.1, pytest.approx(math.log(2)), -math.inf]
    assert list(collapsed(frame)) == [True, False, False, False, True]
    assert list(collapsed(frame.assign(chance=0.1))) == [True, False, True, False, True]
    assert list(collapsed(frame.assign(chance=np.nan))) == [False, False, False, False, True]


def test_a_task_is_known_by_its_name_also_where_tables_call_it_otherwise(tmp_path):
    """A labelled task at chance level collapses, and what is only called like a known task is not known."""
    rows = made_up_rows(Shape(tasks=("mine", "further", "digits")), {(50, 1): 0.03})
    for row in rows:
        if row["arm"] == "mixed" and row["width"] == 200:
            row["accuracy"] = 0.1
    tasks = {"task": {"name": "mnist1d", "label": "mine"}}
    further = [{"name": "cifar10", "label": "further"}, {"name": "file", "label": "digits"}]
    run = load_run(
        write_run(tmp_path / "run", {"evaluations": rows}, config=tasks | {"evaluation": {"tasks": further}})
    )
    made = scale_passport(run.evaluations, trial_id=TRIAL)
    assert made.label is Label.COLLAPSES
    assert set(made.grid.loc[made.grid["collapses"], "task"]) == {"mine", "further"}


def test_unequal_seeds_are_intersected_and_the_loss_is_said():
    frame = made_up_evaluations(Shape(), 0.03)
    frame = frame[~((frame["arm"] == "mixed") & (frame["seed"] >= 12) & (frame["width"] == 50))]
    made = scale_passport(frame, trial_id=TRIAL)
    found = row(made, BEST_USUAL, 50)
    assert (found["pairs"], found["lost"]) == (12, 8)
    assert "Seeds of the mix and of best usual differ at width 50: 12 pairs, 8 seeds without a partner." in made.notes


def test_an_arm_with_hardly_a_common_seed_is_not_the_best_one():
    frame = made_up_evaluations(Shape(), 0.03)
    lucky = (frame["arm"] == "silu") & (frame["seed"] >= 3)
    frame.loc[frame["arm"] == "silu", "accuracy"] = 0.99
    made = scale_passport(frame[~lucky], trial_id=TRIAL)
    assert row(made, BEST_USUAL, 50)["rival_arm"] == "relu"


def test_missing_arms_are_said():
    frame = made_up_evaluations(Shape(), 0.03)
    made = scale_passport(frame[frame["arm"] != "mixed"], trial_id=TRIAL)
    assert (made.label, made.words) == (None, "the arm mixed has no networks; `ldnn evaluate` trains them")
    without = frame[~((frame["arm"].isin(["relu", "silu", "tanh"])) & (frame["width"] == 20))]
    made = scale_passport(without, trial_id=TRIAL)
    assert row(made, BEST_USUAL, 20)["standing"] == Standing.NOT_MEASURED
    assert "The mix or best usual has no networks with common seeds at width 20." in made.notes


def test_earlier_rows_without_a_metric_are_judged_by_accuracy_and_versions_are_said():
    frame = made_up_evaluations(Shape(), 0.03).drop(columns="metric")
    frame.loc[frame["width"] == 20, "schema_version"] = 2
    made = scale_passport(frame, trial_id=TRIAL)
    assert made.label is Label.SCALE_SAFE
    assert "Rows were written under schema versions 2, 3." in made.notes


def test_of_two_protocols_the_fairer_one_is_taken_and_the_other_said():
    both = pd.concat([
        made_up_evaluations(Shape(), 0.03), made_up_evaluations(Shape(lr_protocol="per_arm_size"), 0.0)
    ])  # fmt: skip
    made = scale_passport(both, trial_id=TRIAL)
    assert (made.lr_protocol, made.label) == ("per_arm_size", Label.NO_BETTER)
    assert "Rows of lr_protocol shared are left out; this is about per_arm_size." in made.notes
    assert scale_passport(both, trial_id=TRIAL, lr_protocol="shared").label is Label.SCALE_SAFE


def test_another_regime_has_a_passport_of_its_own():
    both = pd.concat([made_up_evaluations(Shape(), 0.03), made_up_evaluations(Shape(regime="distanced"), 0.0)])
    assert scale_passport(both, trial_id=TRIAL).label is Label.SCALE_SAFE
    made = scale_passport(both, trial_id=TRIAL, regime="distanced")
    assert (made.regime, made.label) == ("distanced", Label.NO_BETTER)
    assert "within_layer, distanced" in passport_table(made).caption


def test_widths_of_different_kinds_of_network_do_not_span_sizes():
    frame = made_up_evaluations(Shape(widths=(20, 30, 200)), 0.03)
    frame.loc[frame["width"] == 200, "architecture"] = "resnet"
    made = scale_passport(frame, trial_id=TRIAL)
    assert made.label is None
    assert "span a factor of 1.5 in width" in made.words


def test_of_several_learning_rates_the_best_is_kept_and_said():
    frame = made_up_evaluations(Shape(split="val"), 0.03)
    worse = frame.assign(lr=0.1, accuracy=frame["accuracy"] - 0.1)
    made = scale_passport(pd.concat([worse, frame]), trial_id=TRIAL)
    assert row(made, BEST_USUAL, 50)["advantage"] == passport(Shape(split="val"), 0.03).sizes["advantage"].iloc[1]
    assert any("480 rows of other learning rates left out" in note for note in made.notes)
    assert any("validation rows" in note for note in made.notes)


def test_a_learned_single_activation_is_a_rival_of_its_own():
    single = [
        one | {"trial_id": "gradient-0009"}
        for one in made_up_rows(Shape(num_types=1, key=4), 0.02)
        if one["trial_id"] != "usual"
    ]
    frame = as_frame("evaluations", made_up_rows(Shape(), 0.03) + single)
    found = row(scale_passport(frame, trial_id=TRIAL), LEARNED_SINGLE, 50)
    assert found["rival_arm"] == "gradient-0009"
    assert found["advantage"] == pytest.approx(0.01, abs=0.02)
    assert BEST_PURE not in set(scale_passport(frame, trial_id="gradient-0009").grid["rival"])


def test_what_there_is_no_passport_of_is_said():
    frame = made_up_evaluations(Shape(seeds=2))
    with pytest.raises(PassportError, match="No network has been evaluated yet; `ldnn evaluate`"):
        scale_passport(frame.iloc[:0], trial_id=TRIAL)
    with pytest.raises(PassportError, match="'gradient-0007' has none; these have: gradient-0000"):
        scale_passport(frame, trial_id="gradient-0007")
    with pytest.raises(PassportError, match="'usual' has none"):
        scale_passport(frame, trial_id="usual")
    with pytest.raises(PassportError, match="has no evaluation rows that are split val, lr_protocol per_arm_size"):
        scale_passport(frame, trial_id=TRIAL, split="val", lr_protocol="per_arm_size")
    with pytest.raises(
        PassportError, match=r"must be of one run, but made-up-0123, other have it; say which by run_id"
    ):
        scale_passport(pd.concat([frame, frame.assign(run_id="other")]), trial_id=TRIAL)
    with pytest.raises(PassportError, match="judged by accuracy or loss, but these are by beauty"):
        scale_passport(frame.assign(metric="beauty"), trial_id=TRIAL)


def test_another_margin_is_another_rule():
    strict = Rules(margin={"accuracy": 0.001, "loss": 0.05})
    made = passport(Shape(), 0.0, rules=strict)
    assert made.label is None
    assert made.words.endswith("for a label it has to be 0.2 points")


def test_several_tasks_are_tables_of_their_own_and_named():
    made = passport(Shape(tasks=("digits", "mnist1d"), widths=(20, 50, 100)), 0.03)
    assert made.label is Label.SCALE_SAFE
    assert "width 20 (digits)" in made.words
    assert list(made.summary["task"]) == ["digits", "mnist1d"]
    assert "of" in [column.head for column in passport_table(made).columns]


def test_the_table_has_a_row_per_size_and_a_column_per_rival(safe):
    table = passport_table(safe)
    heads = [column.head for column in table.columns]
    assert heads[:3] == ["size", "mixed – best usual [points]", "mixed – relu [points]"]
    assert {"mixed – untrained [points]", "mixed – shuffled [points]", "kept [%]"} < set(heads)
    assert [cells[0] for cells in table.rows][:2] == ["width 20", "width 50 (learned)"]
    assert all(cells[-1] == "better" for cells in table.rows)


def test_the_file_holds_grid_label_and_sentences_with_described_columns(specific, tmp_path):
    path = write_passport(specific, tmp_path / "new" / "passport.parquet")
    assert [file.name for file in path.parent.iterdir()] == ["passport.parquet"]
    frame = pd.read_parquet(path)
    assert list(frame.columns) == PASSPORT.names
    assert len(frame) == len(specific.grid)
    assert set(frame["label"]) == {"size-specific"}
    assert frame["advantage"].to_list() == specific.grid["advantage"].to_list()
    assert frame["worst_width"].eq(400).all()
    schema = pq.read_schema(path)
    assert all(schema.field(name).metadata[b"description"] for name in schema.names)
    assert json.loads(schema.metadata[METADATA_KEY])["sentences"] == list(specific.sentences)


def test_a_passport_without_a_label_has_a_null_in_its_file(tmp_path):
    path = write_passport(passport(Shape(seeds=1)), tmp_path / "p.parquet")
    assert pd.read_parquet(path)["label"].isna().all()


def test_the_heat_map_has_a_cell_per_size_and_rival_with_its_numbers(specific, safe):
    data = passport_heat_data(specific, replace(safe, trial_id="evolution-0001"))
    assert len(data) == len(specific.grid) + len(safe.grid)
    drawn = scale_passport_figure(data)
    titles = [axes.get_title(loc="left") for axes in drawn.axes]
    assert titles == [f"set of {TRIAL}: size-specific", "set of evolution-0001: scale-safe"]
    found = row(specific, BEST_USUAL, 400)
    words = {text.get_text() for text in drawn.axes[0].texts}
    assert f"{100 * found['advantage']:+.1f} ▼\n[{100 * found['low']:.1f}, {100 * found['high']:.1f}]" in words
    assert [label.get_text() for label in drawn.axes[0].get_xticklabels()] == ["20", "50", "100", "200", "400"]
    assert passport_heat_data().empty


def null_grid(rng, arms, usual):
    """A grid of three sizes at which the mix is a usual arm under another name, beside others as good."""
    records = []
    for width in WIDTHS[:3]:
        seeds = rng.normal(0.55, 0.02, 20)
        for arm in arms:
            values = np.round(seeds + rng.normal(0, 0.01, 20), 3)
            records += [(width, arm, seed, value) for seed, value in enumerate(values)]
    frame = pd.DataFrame.from_records(records, columns=["width", "arm", "seed", "accuracy"]).assign(
        task="mnist1d", architecture="mlp", depth=1, loss=np.nan, learned_width=50, learned_depth=1,
        diverged=pd.array([False] * len(records), dtype="boolean"),
    )  # fmt: skip
    is_usual = frame["arm"].isin(usual)
    return passport_grid(frame[~is_usual], frame[is_usual], frame.iloc[:0], Rules()).table


def test_the_same_arm_under_two_names_is_called_a_difference_at_most_once_in_twenty():
    # Half of the sets are held against one usual activation, half against the best of three, which chance chooses.
    rng = np.random.default_rng(11)
    data_sets, called = 120, 0
    for number in range(data_sets):
        usual = ["relu", "silu", "tanh"][: 3 if number % 2 else 1]
        table = null_grid(rng, ["mixed", *usual], usual)
        sizes = table[table["rival"] == BEST_USUAL]
        assert not sizes["collapses"].any()
        called += bool(sizes["standing"].isin([Standing.BETTER, Standing.WORSE]).any())
    assert stats.binomtest(called, data_sets, 0.05, alternative="greater").pvalue > 0.05
