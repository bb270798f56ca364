"""One look for all figures: colours that colour-blind readers can tell apart, the same for an arm everywhere.

Figures are made with matplotlib's object interface and no global state; matplotlib is imported only here and in the
functions that draw, so that importing `analysis` stays light.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from search.schema import CONTROLS

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.axis
    import matplotlib.figure
    from matplotlib.colors import LinearSegmentedColormap

# For annotations, of all modules that draw.
Axes: TypeAlias = "matplotlib.axes.Axes"
Axis: TypeAlias = "matplotlib.axis.Axis"
Figure: TypeAlias = "matplotlib.figure.Figure"
SubFigure: TypeAlias = "matplotlib.figure.SubFigure"

INK: Final = "#222222"
"""Text and axes."""
FAINT: Final = "#8a8a8a"
"""References and grids."""

# Okabe and Ito's palette, and five darker or lighter ones for what it has no more colours for.  ReLU, the yardstick, is
# black.  In OKLab no two of them are nearer than 0.06, also as readers without red, green or blue cones see them; a
# just noticeable difference is about 0.02.  Figures name arms beside what they draw all the same.
ARM_COLOURS: Final = {
    "mixed": "#d55e00",
    "pure-0": "#0072b2",
    "pure-1": "#56b4e9",
    "pure-2": "#9fe3b4",
    "relu": "#000000",
    "silu": "#009e73",
    "tanh": "#cc79a7",
    "sin": "#e69f00",
    "gelu": "#8a1538",
    "elu": "#2f22d0",
    "hat": "#55320a",
    "sigmoid": "#14265e",
}
"""Colour of each arm; arms that are not named here have `OTHER_ARMS`."""

OTHER_ARMS: Final = "#707070"
"""Controls, and arms that this version does not know."""

METHOD_COLOURS: Final = {"gradient": "#004488", "evolution": "#bb5566"}
"""Colour of each method (Tol's high-contrast scheme)."""

RIVAL_COLOURS: Final = {"relu": ARM_COLOURS["relu"], "best_pure": ARM_COLOURS["pure-0"], "best_usual": "#e69f00"}
"""Colour of each rival of the mix."""

# Tol's "rainbow PuRd": violet to red through colours whose order survives colour blindness.
_VIOLET_TO_RED: Final = (
    "#6f4c9b", "#6059a9", "#5568b8", "#4e79c5", "#4d8ac6", "#4e96bc", "#549eb3", "#59a5a9", "#60ab9e", "#69b190",
    "#77b77d", "#8cbc68", "#a6be54", "#bebc48", "#d1b541", "#ddaa3c", "#e49c39", "#e78c35", "#e67932", "#e4632d",
    "#df4828", "#da2222",
)  # fmt: skip

_SETTINGS: Final[dict[str, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100.0,
    "savefig.dpi": 160.0,
    # Names of arms, trials and runs are shown as they are, dollar signs included.
    "text.parse_math": False,
    # Text as outlines: the picture looks the same where the font is missing.
    "svg.fonttype": "path",
    # Fixed, so that the same data give the same file.
    "svg.hashsalt": "ldnn",
}


@contextmanager
def look() -> Iterator[None]:
    """Draw and save inside this context to get the project's look; nothing outside it changes."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        # The stubs want each name as a literal.
        mpl.rcParams.update(_SETTINGS)  # type: ignore[arg-type]
        yield


def canvas(
    rows: int = 1, columns: int = 1, *, width: float = 6.2, height: float = 3.2, **sharing: Any
) -> tuple[Figure, Any]:
    """An empty figure with a grid of axes: the figure, and the axes as an array of shape (rows, columns).

    Args:
        rows: panels from top to bottom.
        columns: panels from left to right.
        width: of the figure, in inches; at the default, text stays readable on a phone.
        height: of the figure, in inches.
        sharing: ``sharex`` and ``sharey`` as in `matplotlib.figure.Figure.subplots`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **sharing)


def stacked(titles: Sequence[str], heights: Sequence[float], *, width: float = 6.4) -> tuple[Figure, list[SubFigure]]:
    """An empty figure of titled parts, one below the other: the figure, and the parts from top to bottom.

    Args:
        titles: of the parts.
        heights: of the parts with their titles, in inches.
        width: of the figure, in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    parts = list(figure.subfigures(len(heights), 1, squeeze=False, height_ratios=list(heights))[:, 0])
    for part, title in zip(parts, titles, strict=True):
        part.suptitle(title, x=0.01, horizontalalignment="left", fontsize=11.0)
    return figure, parts


def arm_colour(arm: str) -> str:
    """The colour of an arm."""
    return ARM_COLOURS.get(arm, OTHER_ARMS)


def text_colour(colour: str) -> str:
    """The colour, darkened as far as text on white needs it: a contrast of 4.5 to 1 (WCAG 2, level AA)."""
    from matplotlib.colors import to_hex, to_rgb

    channels = to_rgb(colour)
    for keep in range(100, 0, -4):
        darker = [keep / 100 * channel for channel in channels]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in darker]
        luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
        if 1.05 / (luminance + 0.05) >= 4.5:
            return to_hex((darker[0], darker[1], darker[2]))
    raise AssertionError(f"black itself has no contrast to white: {colour}")


def arm_order(arms: Iterable[str]) -> list[str]:
    """Arms in the order in which figures and tables show them: mixed, pure types, usual ones, controls, the rest."""
    known = [*ARM_COLOURS, *CONTROLS]
    return sorted(set(arms), key=lambda arm: (known.index(arm) if arm in known else len(known), arm))


def outer_step_colours() -> LinearSegmentedColormap:
    """Colours of outer steps: violet for the first, red for the last."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("violet_to_red", _VIOLET_TO_RED)


def cross_hair(axes: Axes) -> None:
    """Faint lines through the origin."""
    axes.axhline(0, color=FAINT, linewidth=0.5)
    axes.axvline(0, color=FAINT, linewidth=0.5)


def horizontal_grid(axes: Axes) -> None:
    """Faint horizontal lines to read values by."""
    axes.grid(axis="y", color=FAINT, alpha=0.25, linewidth=0.6)


def round_ticks(axis: Axis, low: float, high: float, *, at_most: int = 5) -> None:
    """A logarithmic axis from low to high with a few ticks as plain numbers: of 1, 2 and 5 times powers of ten.

    Such names are found also where values span less than a factor of ten.
    """
    axes = axis.axes
    is_x = axis is axes.xaxis
    (axes.set_xlim if is_x else axes.set_ylim)(low, high)
    (axes.set_xscale if is_x else axes.set_yscale)("log")
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    inside = [tick for tick in every if low <= tick <= high]
    if len(inside) < 2:  # within a factor of two there may be one of them
        finer = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
        inside = [digit * 10.0**power for power in powers for digit in finer if low <= digit * 10.0**power <= high]
    decades = [tick for tick in inside if tick in {10.0**power for power in powers}]
    chosen = decades if len(inside) > at_most and len(decades) > 2 else inside
    chosen = chosen[:: -(-len(chosen) // at_most) or 1]
    axis.set_ticks(chosen, [f"{tick:g}" for tick in chosen])
    axis.set_ticks([], minor=True)


def save_figure(figure: Figure, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write a figure as ``name.png`` and ``name.svg``; the folder is made if it is missing.

    Returns:
        The two paths, PNG first.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with look():
        figure.savefig(png)
        figure.savefig(svg, metadata={"Date": None})
    return png, svg
