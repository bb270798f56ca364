"""S6: stochastic gradient descent as a noisy descent, in a toy landscape and as measured on trained networks."""

from __future__ import annotations

from typing import Final, get_args

import numpy as np
import pandas as pd

from analysis.figures.labels import Names, label_right, names_of_arms
from analysis.figures.layouts import wide_panels
from analysis.figures.networks import PANEL, headline_networks, loss_units, panels, where_learned, without_controls
from analysis.langevin import CENTRES, Noise, in_flat_minimum, loss, noisy_descents
from analysis.load import Run
from analysis.style import FAINT, Axes, Figure, arm_colour, arm_order, canvas, horizontal_grid, look, round_ticks

_PATHS_SHOWN: Final = 3
_COLOURS: Final = {"aligned with the Hessian": "#d55e00", "the same everywhere": "#0072b2"}
_PATH_COLOURS: Final = ("#d55e00", "#009e73", "#0072b2")


def noisy_descent_data(run: Run) -> pd.DataFrame:
    """Simulated paths under both kinds of noise, with ``flat``: the share of all paths that are in the flat minimum.

    Nothing in it comes from the run; it is empty for a run without trials, which it would say nothing about.
    """
    columns = ["noise", "path", "time", "x", "y", "flat"]
    if run.trials.empty:
        return pd.DataFrame(columns=columns)
    parts = []
    for noise in get_args(Noise):
        every = noisy_descents(noise)
        there = in_flat_minimum(every["x"].to_numpy(float), every["y"].to_numpy(float))
        every["flat"] = pd.Series(there, dtype=float).groupby(every["time"].to_numpy(float)).transform("mean")
        parts.append(every[every["path"] < _PATHS_SHOWN])
    return pd.concat(parts, ignore_index=True)[columns]


def noisy_descent(data: pd.DataFrame) -> Figure:
    """Left, paths with aligned noise on the contours of the loss; right, the share of paths in the flat minimum."""
    with look():
        figure, ((left, right),) = canvas(1, 2, width=6.4, height=3.0)
        _landscape(left)
        aligned = data[data["noise"] == "aligned with the Hessian"]
        for (_, path), colour in zip(aligned.groupby("path"), _PATH_COLOURS, strict=False):
            left.plot(path["x"], path["y"], color=colour, linewidth=0.7, alpha=0.85)
            left.plot(
                path["x"].iloc[-1:], path["y"].iloc[-1:], "o", color=colour, markersize=6, markeredgecolor="white"
            )
        left.set_title("paths with noise along the Hessian", fontsize=9.5)
        shares = data.drop_duplicates(["noise", "time"])
        for noise, own in shares.groupby("noise", sort=False):
            right.plot(own["time"], 100 * own["flat"], color=_COLOURS[str(noise)])
        right.set(xlabel="time [1 / unit of curvature]", ylabel="paths in the flat minimum [%]", ylim=(0, 103))
        horizontal_grid(right)
        ends = shares.sort_values("time").drop_duplicates("noise", keep="last")
        names = [name.replace("with the", "with\nthe").replace("same every", "same\nevery") for name in ends["noise"]]
        colours = [_COLOURS[noise] for noise in ends["noise"]]
        label_right(figure, [Names(right, names, ends["time"], 100 * ends["flat"], colours)])
    return figure


def gradient_noise_data(run: Run) -> pd.DataFrame:
    """One row per network whose gradient noise was measured: its ``alignment`` with the Hessian, and the ``trace``."""
    rows = without_controls(where_learned(headline_networks(run)))
    rows = rows[rows["noise_alignment"].notna() & rows["hessian_trace"].gt(0)]
    rows = rows.rename(columns={"noise_alignment": "alignment", "hessian_trace": "trace"})
    rows = rows.assign(unit=loss_units(run, rows["task"]))
    return rows[[*PANEL, "width", "arm", "seed", "trace", "alignment", "unit"]].reset_index(drop=True)


def gradient_noise(data: pd.DataFrame) -> Figure:
    """Alignment of gradient noise with the Hessian against the Hessian's trace, each network a dot; a panel per set."""
    xlabel = f"trace of the Hessian [{' or '.join(data['unit'].unique())} per squared weight], logarithmic"
    ylabel = "cosine of noise\ncovariance and Hessian"
    names = []
    with look():
        figure, drawn = wide_panels(list(panels(data, [*PANEL, "width"])), xlabel=xlabel, ylabel=ylabel)
        for axes, rows in drawn:
            for arm in arm_order(rows["arm"]):
                own = rows[rows["arm"] == arm]
                axes.plot(own["trace"], own["alignment"], "o", color=arm_colour(arm), markersize=3.5, alpha=0.6)
            round_ticks(axes.xaxis, data["trace"].min() / 1.1, data["trace"].max() * 1.1)
            middles = rows.groupby("arm")[["trace", "alignment"]].median()
            names.append(names_of_arms(axes, middles, "trace", "alignment"))
        label_right(figure, names)
    return figure


def _landscape(axes: Axes) -> None:
    across, up = np.meshgrid(np.linspace(-2.2, 3.0, 160), np.linspace(-1.9, 1.9, 120))
    axes.contourf(
        across, up, loss(across, up), levels=np.linspace(0, 12, 25) ** 1.2, cmap="Greys", alpha=0.5, extend="max"
    )
    axes.contour(across, up, loss(across, up), levels=[0.5, 1, 2, 3, 4, 6, 8, 12], colors=[FAINT], linewidths=0.4)
    for centre, name in zip(CENTRES, ("sharp", "flat"), strict=True):
        axes.plot(*centre, "+", color="black", markersize=8)
        axes.annotate(name, centre, (centre[0], -1.75), ha="center", fontsize=9, color="black")
    axes.set(xlabel="weight 1 [arbitrary]", ylabel="weight 2 [arbitrary]", xlim=(-2.2, 3.0), ylim=(-1.9, 1.9))
