"""The picture beside an activation card: its functions and their slopes."""

from __future__ import annotations

import pandas as pd

from analysis.style import FAINT, Figure, arm_colour, canvas, cross_hair, look


def card_figure(curves: pd.DataFrame, observed: tuple[float, float] | None = None) -> Figure:
    """Functions on the left with the base function dashed, slopes on the right, observed inputs shaded.

    Args:
        curves: one row per type and point: ``type_index``, ``x``, ``value``, ``slope`` and ``base``.
        observed: ends of the range of inputs that trained networks had; None if nobody looked.
    """
    with look():
        figure, ((left, right),) = canvas(1, 2, sharex=True)
        for axes, column, title in ((left, "value", "activation"), (right, "slope", "slope")):
            cross_hair(axes)
            if observed:
                axes.axvspan(*observed, color=FAINT, alpha=0.12, linewidth=0, label="observed inputs")
            for k, own in curves.groupby("type_index"):
                axes.plot(own["x"], own[column], color=arm_colour(f"pure-{k}"), label=f"type {k}")
            axes.set(xlabel="pre-activation", title=title)
        first = curves[curves["type_index"] == curves["type_index"].min()]
        left.plot(first["x"], first["base"], color=FAINT, linestyle="--", linewidth=1.0, label="base function")
        left.set_xlim(curves["x"].min(), curves["x"].max())
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5, handlelength=2.0)
    return figure
