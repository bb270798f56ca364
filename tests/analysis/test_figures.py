import re
from functools import cache

import numpy as np
import pytest

from analysis import FIGURES, MissingDataError, figure, load_run, save_figure
from analysis.figures.accuracy import accuracy_by_width_data, arm_violins_data
from analysis.figures.advantage import advantage_by_width_data
from analysis.figures.base_functions import base_function
from analysis.figures.curves import activation_curves, activation_curves_data
from analysis.figures.progress import best_so_far_data, outer_loss_data
from analysis.style import ARM_COLOURS, arm_colour, arm_order, canvas, look, outer_step_colours
from tests.analysis.conftest import RunFolder
from tests.analysis.drawn import cut_off, overlaps, shown_texts
from tests.analysis.rich_run import FEW_ARMS, rich_run


@pytest.fixture(scope="module")
def run(full_run):
    return load_run(full_run.path)


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    return load_run(rich_run(tmp_path_factory.mktemp("rich") / "rich").path)


@pytest.fixture(scope="module")
def drawn(rich):
    """Every figure of the run that has all data, drawn when it is first asked for."""
    return cache(lambda name: figure(rich, name))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_and_saved_as_png_and_svg(drawn, name, tmp_path):
    png, svg = save_figure(drawn(name), tmp_path / "figures", name)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in svg.read_text()[:1000]


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_covers_another_one_or_is_cut_off_with_eighteen_arms(drawn, name):
    assert len(shown_texts(drawn(name))) >= 5
    assert overlaps(drawn(name)) == []
    assert cut_off(drawn(name)) == []


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_that_has_numbers_says_what_they_are(drawn, name):
    whole = drawn(name)
    parts = whole.subfigs or [whole]
    for part in parts:
        shown = [axes for axes in part.axes if axes.axison]
        for direction, common in (("x", "_supxlabel"), ("y", "_supylabel")):
            labels = [getattr(axes, f"get_{direction}label")() for axes in shown]
            labels += [text.get_text() for text in [getattr(part, common, None)] if text]
            names = [label.get_text() for axes in shown for label in getattr(axes, f"get_{direction}ticklabels")()]
            assert any(labels) or not any(re.fullmatch(r"[\d.]+", text) for text in names), (name, direction)


def test_a_panel_that_is_no_empty_place_is_checked_for_overlaps():
    with look():
        whole, grid = canvas()
        for _ in range(2):
            grid[0, 0].annotate("twice", (0.5, 0.5))
        grid[0, 0].annotate("outside", (1.5, 0.5), annotation_clip=False, in_layout=False)
    assert overlaps(whole) == [("twice", "twice")]
    assert cut_off(whole) == ["outside"]


def test_outer_steps_are_counted_in_whole_ones(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    folder.steps("gradient-0000", [0.4, 0.5, 0.6])
    drawn = figure(load_run(folder.path), "outer_loss")
    assert [tick for tick in drawn.axes[0].get_xticks() if tick % 1] == []


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_what_it_misses_and_which_command_helps(make_run, name):
    with pytest.raises(
        MissingDataError, match=rf"{name} needs .*, but made-up has none; `ldnn (evaluate|resume|search) R"
    ):
        figure(load_run(make_run().path), name)


@pytest.fixture(scope="module")
def barest(tmp_path_factory):
    """One seed, one arm beside ReLU, one step, one type, one trial, and a base that nobody knows."""
    folder = RunFolder(tmp_path_factory.mktemp("barest") / "run")
    folder.trial("gradient-0000")
    folder.steps("gradient-0000", [0.4])
    folder.activations("gradient-0000", [0], base="unheard-of", num_types=1)
    folder.evaluations("usual", {"relu": [0.5]})
    folder.evaluations("gradient-0000", {"mixed": [0.6]})
    return load_run(folder.path)


@pytest.fixture(scope="module")
def single_seed(tmp_path_factory):
    return load_run(rich_run(tmp_path_factory.mktemp("single") / "run", FEW_ARMS, seeds=1).path)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_survives_one_seed_one_trial_and_one_step(barest, single_seed, name):
    figure(single_seed, name).draw_without_rendering()
    if len(FIGURES[name].data(barest)):
        figure(barest, name).draw_without_rendering()


def kinds_of_networks(folder):
    """The same set judged in two kinds of networks and mixed in two ways, at two widths."""
    folder.trial("gradient-0000")
    for architecture in ("mlp", "residual"):
        for width in (50, 100):
            folder.evaluations("usual", {"relu": np.linspace(0.5, 0.51, 8)}, width, architecture=architecture)
            for mixing in ("within_layer", "per_layer"):
                conditions = {"architecture": architecture, "mixing": mixing}
                folder.evaluations("gradient-0000", {"mixed": np.linspace(0.6, 0.62, 8)}, width, **conditions)
    return load_run(folder.path)


def titles_of(drawn):
    return [axes.get_title(loc="left") for axes in drawn.axes]


def test_kinds_of_networks_and_mixings_have_lines_of_their_own(make_run):
    run = kinds_of_networks(make_run())
    drawn = figure(run, "advantage_by_width")
    panels = [f"set of gradient-0000, {a}, {m}" for a in ("mlp", "residual") for m in ("per_layer", "within_layer")]
    assert sorted(titles_of(drawn)) == panels
    relu = [line for axes in drawn.axes for line in axes.get_lines() if line.get_marker() == "o"]
    assert [list(np.round(line.get_xdata() * 1.025)) for line in relu] == [[50, 100]] * 4


def test_heat_maps_of_two_kinds_of_networks_have_different_titles(make_run):
    drawn = figure(kinds_of_networks(make_run()), "scale_passport")
    assert [title.partition(":")[0] for title in titles_of(drawn)] == [
        "set of gradient-0000, mlp",
        "set of gradient-0000, residual",
    ]


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    """A search of two objectives on van_der_pol, whose networks have a curvature and a gradient noise."""
    path = tmp_path_factory.mktemp("regression") / "run"
    folder = RunFolder(path, config={"search": {"objectives": ["score", "num_params"]}})
    task = {"task": "van_der_pol"}
    for number, lr in enumerate((0.01, 0.02)):
        folder.trial(f"gradient-{number:04d}", params=f'{{"inner_lr": {lr}}}', num_params=100 * number, **task)
        folder.steps(f"gradient-{number:04d}", [0.9, 0.95], **task)
    curvature = {"hessian_trace": 3.0, "noise_alignment": 0.5}
    for trial_id, arm in (("usual", "relu"), ("gradient-0000", "mixed")):
        rows = {"accuracy": None, "loss": 1e-3, "metric": "loss"} | curvature | task
        own = {"architecture": "mlp", "mixing": "within_layer", "lr_protocol": "shared", "lr": 0.01, "width": 50}
        own |= {"trial_id": trial_id, "arm": arm, "depth": 1, "method": None if arm == "relu" else "gradient"}
        learned = {} if arm == "relu" else {"learned_width": 50, "learned_depth": 1}
        folder.write("evaluations", [own | rows | learned | {"split": "test", "diverged": False, "seed": 0}])
        density = {"eigenvalues": [0.0, 1.0], "density": [0.5, 0.5], "seed": 0}
        folder.write("spectra", [own | task | density])
    return load_run(path)


REGRESSION_LABELS = {
    "best_so_far": "best validation skill\nso far [%]",
    "accuracy_by_outer_step": "validation skill [%]",
    "score_slices": "validation skill [%]",
    "pareto_set": "validation skill [%]",
    "curvature_by_arm": "trace of the Hessian\n[squared error / weight²]",
    "spectral_densities": "eigenvalue of the Hessian [squared error per squared weight]",
    "gradient_noise": "trace of the Hessian [squared error per squared weight], logarithmic",
    "loss_violins": "test mean squared error\n[variance of the training inputs]",
}


@pytest.mark.parametrize(("name", "label"), REGRESSION_LABELS.items())
def test_regressions_are_shown_in_their_own_units(regression, name, label):
    drawn = figure(regression, name)
    texts = [text.get_text() for text in shown_texts(drawn)]
    assert label in texts
    assert not any("accuracy" in text or "nat " in text for text in texts)
    assert overlaps(drawn) == []
    assert cut_off(drawn) == []


def test_losses_of_other_regressions_are_in_variances_of_their_targets(make_run):
    folder = make_run()
    folder.trial("gradient-0000", task="file")
    folder.evaluations("gradient-0000", {"mixed": [0.0, 0.0]}, task="file", metric="loss", loss=0.1)
    labels = [axes.get_ylabel() for axes in figure(load_run(folder.path), "loss_violins").axes]
    assert labels == ["test mean squared error\n[variance of the training targets]"]


def test_shares_of_the_importance_end_at_a_hundred(make_run):
    folder = make_run()
    for number in range(20):
        folder.trial(f"gradient-{number:04d}", score=number / 20, params=f'{{"inner_lr": {0.01 * (number + 1)}}}')
    drawn = figure(load_run(folder.path), "parameter_importance")
    assert drawn.axes[0].get_xlim() == (0, 100)
    assert "100 %" in [text.get_text() for text in shown_texts(drawn)]
    assert overlaps(drawn) == []
    assert cut_off(drawn) == []


def test_names_with_signs_of_formulas_are_shown_as_they_are(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    folder.evaluations("gradient-0000", {"mixed": [0.6, 0.61], r"$\frac{$": [0.5, 0.51]})
    names = [text.get_text() for text in shown_texts(figure(load_run(folder.path), "arm_violins"))]
    assert r"$\frac{$" in names


def test_an_unknown_figure_is_refused_with_the_known_ones(run):
    with pytest.raises(ValueError, match=r"must be one of scale_passport, .*'accuracy_by_wdth'"):
        figure(run, "accuracy_by_wdth")


def test_drawing_leaves_no_global_state(run):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figure(run, "arm_violins")
    assert dict(mpl.rcParams) == before


def test_the_same_data_give_the_same_svg(run, tmp_path):
    first, second = (save_figure(figure(run, "outer_loss"), tmp_path / place, "x")[1] for place in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_curves_hold_every_recorded_step_of_the_headline_sets(run):
    data = activation_curves_data(run)
    assert set(data["trial_id"]) == {"gradient-0002", "evolution-0002"}
    assert data.groupby(["trial_id", "type_index", "step"]).size().eq(100).all()
    first = data[(data["step"] == 0) & (data["type_index"] == 0) & (data["method"] == "gradient")]
    assert first["y"].to_numpy() == pytest.approx(np.sin(first["x"].to_numpy()))


def test_curves_are_drawn_before_anything_is_evaluated(make_run):
    folder = make_run()
    folder.activations("evolution-0000", [0, 5])
    folder.activations("evolution-0001", [0, 5])
    assert set(activation_curves_data(load_run(folder.path))["trial_id"]) == {"evolution-0000"}


def test_curves_run_from_violet_to_red_with_the_last_thickest(run):
    drawn = activation_curves(activation_curves_data(run))
    lines = [line for line in drawn.axes[0].get_lines() if len(line.get_xdata()) == 400]
    *steps, reference = lines
    colours = outer_step_colours()
    assert steps[0].get_color() == colours(0.0)
    assert steps[-1].get_color() == colours(1.0)
    assert steps[-1].get_linewidth() > steps[0].get_linewidth()
    assert reference.get_ydata() == pytest.approx(np.sin(reference.get_xdata()))
    assert drawn.axes[0].get_xlim() == (-4, 4)


def test_violins_show_the_learned_size_only(run):
    data = arm_violins_data(run)
    assert set(data["width"]) == {50}
    assert data.groupby(["trial_id", "arm"]).size().eq(20).all()


def test_boxes_repeat_the_usual_arms_for_every_set(run):
    data = accuracy_by_width_data(run)
    counts = data.groupby(["trial_id", "width"])["arm"].nunique()
    assert counts.eq(7).all()
    assert len(counts) == 8


def test_advantage_holds_three_rivals_per_width(run):
    data = advantage_by_width_data(run)
    assert data.groupby(["trial_id", "width"]).size().eq(3).all()
    assert (data["low"] <= data["difference"]).all()
    assert (data["difference"] <= data["high"]).all()


def test_best_so_far_has_means_and_single_trials(run):
    data = best_so_far_data(run)
    assert set(data["trial_id"]) == {
        "",
        *(f"{method}-{n:04d}" for method in ("gradient", "evolution") for n in range(3)),
    }
    assert set(data["budget_kind"]) == {"inner_steps_total", "wall_seconds"}


def test_outer_loss_has_one_row_per_step(run):
    assert outer_loss_data(run).groupby("trial_id").size().eq(60).all()


def test_arms_have_colours_of_their_own_and_a_fixed_order():
    assert len(set(ARM_COLOURS.values())) == len(ARM_COLOURS)
    assert arm_order(["shuffled", "sin", "unheard-of", "untrained", "relu", "pure-1", "mixed", "pure-0"]) == [
        "mixed",
        "pure-0",
        "pure-1",
        "relu",
        "sin",
        "untrained",
        "shuffled",
        "unheard-of",
    ]
    assert arm_colour("shuffled") not in ARM_COLOURS.values()


def test_base_functions_are_those_that_sets_are_learned_from():
    core = pytest.importorskip("ldnn_core.base_functions")
    import torch

    x = np.linspace(-4, 4, 81)
    for name, function in core.BASE_FUNCTIONS.items():
        drawn = base_function(name)
        assert drawn is not None, name
        assert drawn(x) == pytest.approx(function.value(torch.from_numpy(x)).numpy(), abs=1e-12), name
