"""What figures are drawn from, on small frames whose numbers are known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import FIGURES, figure, load_run
from analysis.figures import QUESTIONS
from analysis.figures.accuracy import accuracy_by_width_data, arm_violins_data, loss_violins_data, violin_shape
from analysis.figures.bases import curves_by_base, curves_by_base_data
from analysis.figures.curvature import curvature_by_arm_data, spectral_densities_data
from analysis.figures.epochs import accuracy_by_epoch_data
from analysis.figures.noise import gradient_noise_data, noisy_descent_data
from analysis.figures.progress import accuracy_by_outer_step_data
from analysis.figures.representation import accuracy_and_participation_data, density_region
from analysis.figures.spectral_bias import spectral_bias_data
from analysis.figures.tuning import score_slices_data
from search.schema import CONTROLS
from tests.analysis.drawn import overlaps
from tests.analysis.rich_run import ARMS, rich_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(rich_run(tmp_path_factory.mktemp("rich") / "rich").path)


def test_violins_of_the_loss_hold_regressions_only_and_keep_diverged_networks(run):
    data, rows = loss_violins_data(run), run.evaluations
    regressions = rows[rows["task"] == "van_der_pol"]
    assert set(data["task"]) == {"van_der_pol"}
    assert len(data) == len(regressions)
    assert data["diverged"].sum() == regressions["diverged"].sum() > 0
    assert data["loss"].isna().sum() == data["diverged"].sum()


def test_violins_of_three_types_hold_the_mix_and_each_of_them(run):
    data = arm_violins_data(run)
    assert {"mixed", "pure-0", "pure-1", "pure-2"} < set(data["arm"])
    assert set(data["task"]) == {"mnist1d"}
    assert set(data["depth"]) == {1}


def test_boxes_hold_every_size_and_arm(run):
    counts = accuracy_by_width_data(run).groupby(["width", "depth"])["arm"].nunique()
    assert counts.eq(sum(map(len, ARMS.values()))).all()
    assert len(counts) == 6


def test_a_violin_is_widest_where_values_are_densest_and_ends_at_the_extremes():
    values = np.array([1.0, 4.9, 5.0, 5.0, 5.1, 9.0])
    heights, half = violin_shape(values)
    assert heights[[0, -1]] == pytest.approx([1.0, 9.0])
    assert heights[half.argmax()] == pytest.approx(5.0, abs=0.1)
    assert half.max() == 1.0


def test_half_of_a_normal_density_lies_within_the_radius_that_the_formula_says():
    x, y = np.random.default_rng(1).normal(size=(2, 2000))
    across, up, density, border = density_region(x, 3 * y, 0.5, points=100)
    area = (density > border).sum() * (across[1] - across[0]) * (up[1] - up[0])
    # Half of a standard normal in the plane lies within r² = 2 ln 2; kernels widen it by 1 + Scott's factor squared.
    widened = 1 + 2000 ** (-2 / 6)
    assert area == pytest.approx(3 * 2 * np.pi * np.log(2) * widened, rel=0.05)


def test_representation_leaves_controls_out(run):
    data = accuracy_and_participation_data(run)
    assert set(data["arm"]) & set(CONTROLS) == set()
    assert data.groupby(["arm", "regime"]).size().eq(10).all()
    assert data["ratio"].between(0, 1).all()


def test_curvature_is_the_mean_over_networks_within_its_interval(run):
    data = curvature_by_arm_data(run)
    data = data[data["regime"] == "plain"].set_index(["task", "arm", "quantity"])
    rows = run.evaluations[run.evaluations["regime"].isna()]
    there = (rows["arm"] == "mixed") & (rows["width"] == 50) & (rows["depth"] == 1) & (rows["task"] == "mnist1d")
    trace = data.loc[("mnist1d", "mixed", "hessian_trace")]
    assert trace["value"] == pytest.approx(rows.loc[there, "hessian_trace"].mean())
    assert trace["low"] < trace["value"] < trace["high"]
    near_zero = data.loc[("mnist1d", "mixed", "near_zero_fraction"), "value"]
    assert near_zero == pytest.approx(100 * rows.loc[there, "near_zero_fraction"].mean())


def test_curvature_is_drawn_with_its_units(run):
    labels = {axes.get_xlabel().replace("\n", " ") for axes in figure(run, "curvature_by_arm").axes}
    assert {"trace of the Hessian [nat / weight²]", "share of eigenvalues near zero [%]"} <= labels


def test_weight_norms_alone_are_no_curvature(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    folder.evaluations("gradient-0000", {"mixed": [0.5, 0.6]}, weight_norm=10.0)
    assert curvature_by_arm_data(load_run(folder.path)).empty


def test_spectral_densities_keep_their_mass_and_are_means_over_networks(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    folder.evaluations("gradient-0000", {"mixed": [0.5]})
    common = {"trial_id": "gradient-0000", "method": "gradient", "arm": "mixed", "width": 50, "depth": 1}
    common |= {"architecture": "mlp", "mixing": "within_layer", "lr_protocol": "shared", "lr": 0.01}
    grids = [np.linspace(-4, 8, 301), np.linspace(-6, 5, 201)]
    bells = [stats.norm(loc, 0.5) for loc in (2.0, -1.0)]
    folder.write(
        "spectra",
        [
            common | {"seed": seed, "eigenvalues": list(grid), "density": list(bell.pdf(grid))}
            for seed, (grid, bell) in enumerate(zip(grids, bells, strict=True))
        ],
    )
    data = spectral_densities_data(load_run(folder.path))
    assert np.trapezoid(data["density"], data["eigenvalue"]) == pytest.approx(1, abs=1e-3)
    middle = (bells[0].pdf(data["eigenvalue"]) + bells[1].pdf(data["eigenvalue"])) / 2
    assert data["density"].to_numpy() == pytest.approx(middle, abs=2e-3)
    assert set(data["networks"]) == {2}


def test_epochs_hold_mean_and_standard_error_of_every_depth(run):
    data = accuracy_by_epoch_data(run)
    data = data[data["regime"] == "plain"]
    assert set(data["depth"]) == {1, 2, 3}
    assert set(data["width"]) == {50}
    rows = run.evaluations[run.evaluations["regime"].isna()]
    own = rows[(rows["arm"] == "relu") & (rows["width"] == 50) & (rows["depth"] == 2)]
    values = np.stack(own["epoch_accuracies"].to_list())
    found = data[(data["arm"] == "relu") & (data["depth"] == 2)].sort_values("epoch")
    assert found["accuracy"].to_numpy() == pytest.approx(values.mean(axis=0))
    assert found["sem"].to_numpy() == pytest.approx(stats.sem(values, axis=0))
    assert found["epoch"].tolist() == list(range(1, 16))


def test_each_base_is_stood_for_by_its_best_set(run):
    data = curves_by_base_data(run)
    trials = run.trials
    best = trials.loc[trials.groupby("base")["score"].idxmax()].set_index("base")["trial_id"]
    assert data.drop_duplicates("base").set_index("base")["trial_id"].to_dict() == best.to_dict()
    sin = data[data["base"] == "sin"].drop_duplicates("type_index").set_index("type_index")["odd"]
    assert sin[0] == pytest.approx(0, abs=1e-3)
    assert sin[1] == pytest.approx(1, abs=1e-3)


def test_accuracy_by_outer_step_keeps_what_falls_again(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    folder.steps("gradient-0000", [0.4, None, 0.6, 0.5])
    data = accuracy_by_outer_step_data(load_run(folder.path))
    assert data[["step", "val_accuracy"]].to_numpy().tolist() == [[0, 0.4], [2, 0.6], [3, 0.5]]


def test_one_base_is_nothing_to_compare(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    folder.activations("gradient-0000", [0, 1])
    assert curves_by_base_data(load_run(folder.path)).empty


def test_sets_with_one_type_stand_beside_sets_with_two_and_have_no_distance_from_them(make_run):
    folder = make_run()
    made = [("sin", 1, 0.7), ("sin", 1, 0.6), ("tanh", 1, 0.5), ("sin", 2, 0.5), ("tanh", 2, 0.6)]
    for number, (base, types, score) in enumerate(made):
        folder.trial(f"gradient-{number:04d}", base=base, num_types=types, score=score)
        folder.activations(f"gradient-{number:04d}", [1], base=base, num_types=types)
    data = curves_by_base_data(load_run(folder.path))
    best = data.drop_duplicates(["base", "num_types"]).set_index(["base", "num_types"])["trial_id"]
    assert best[("sin", 1)] == "gradient-0000"
    assert len(best) == 4
    drawn = curves_by_base(data)
    titles = [axes.get_title(loc="left") for axes in drawn.axes]
    assert titles[:2] == ["from sin, 1 type\n(gradient-0000)", "from sin, 2 types\n(gradient-0003)"]
    squares = [axes for axes in drawn.axes if axes.get_title(loc="left").startswith("distance of the sets")]
    assert [len(axes.texts) for axes in squares] == [4, 4]
    assert all(text.get_text() != "–" for axes in squares for text in axes.texts)


def test_distances_of_sets_from_six_bases_have_room_for_their_numbers(make_run):
    folder = make_run()
    for number, base in enumerate(["zero", "identity", "sigmoid", "sin", "tanh", "elu"] * 2):
        types = 1 + number // 6
        folder.trial(f"gradient-{number:04d}", base=base, num_types=types)
        folder.activations(f"gradient-{number:04d}", [1], base=base, num_types=types)
    drawn = curves_by_base(curves_by_base_data(load_run(folder.path)))
    assert overlaps(drawn) == []


def test_a_set_that_is_missing_leaves_its_place_empty(make_run):
    folder = make_run()
    for number, (base, types) in enumerate([("sin", 1), ("tanh", 2)]):
        folder.trial(f"gradient-{number:04d}", base=base, num_types=types)
        folder.activations(f"gradient-{number:04d}", [1], base=base, num_types=types)
    drawn = curves_by_base(curves_by_base_data(load_run(folder.path)))
    assert [axes.axison for axes in drawn.axes[:4]] == [True, False, False, True]


def test_steps_to_fit_are_medians_and_missing_where_most_never_fitted(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    folder.evaluations("gradient-0000", {"mixed": [0.5]})
    common = {"trial_id": "gradient-0000", "arm": "mixed", "width": 50, "depth": 1, "inner_steps": 500}
    fits = ([10, 400, None], [30, None, None], [20, 300, 450])
    rows = [{"seed": seed, "frequencies": [1, 2, 4], "steps_to_fit": fit} for seed, fit in enumerate(fits)]
    folder.write("spectral_bias", [common | row for row in rows])
    data = spectral_bias_data(load_run(folder.path)).set_index("frequency")
    assert data["steps"].to_dict() == pytest.approx({1: 20, 2: 400, 4: np.nan}, nan_ok=True)
    assert data["fitted"].to_dict() == pytest.approx({1: 1, 2: 2 / 3, 4: 1 / 3})


def test_gradient_noise_needs_both_numbers(run):
    data = gradient_noise_data(run)
    assert (data["trace"] > 0).all()
    assert data["alignment"].between(-1, 1).all()
    assert set(data["arm"]) & set(CONTROLS) == set()


def test_the_toy_of_noisy_descent_is_the_same_each_time_and_ends_in_the_flat_minimum(run):
    first, second = noisy_descent_data(run), noisy_descent_data(run)
    pd.testing.assert_frame_equal(first, second)
    ends = first[first["time"] == first["time"].max()].drop_duplicates("noise").set_index("noise")["flat"]
    assert ends["aligned with the Hessian"] > ends["the same everywhere"] > 0.5


def test_slices_leave_out_what_was_never_varied(make_run):
    folder = make_run()
    for number, lr in enumerate((0.01, 0.02)):
        folder.trial(f"gradient-{number:04d}", params=f'{{"inner_lr": {lr}, "base": "sin"}}')
    folder.trial("evolution-0000", params='{"inner_lr": 0.5}')
    folder.trial("gradient-0009", status="failed", score=None, params='{"inner_lr": 0.9}')
    data = score_slices_data(load_run(folder.path))
    assert data[["method", "parameter", "value"]].to_numpy().tolist() == [
        ["gradient", "inner_lr", 0.01],
        ["gradient", "inner_lr", 0.02],
    ]


def test_every_figure_answers_one_question_and_says_what_it_cannot_say():
    assert len(FIGURES) == sum(map(len, QUESTIONS.values()))
    assert [name for name, recipe in FIGURES.items() if not recipe.limits] == []
