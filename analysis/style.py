"""One look for all figures: colours that colour-blind readers can tell apart, the same for an arm everywhere.

Figures are made with matplotlib's object interface and no global state; matplotlib is imported only here and in the
functions that draw, so that importing `analysis` stays light.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

INK: Final = "#222222"
"""Text and axes."""
FAINT: Final = "#8a8a8a"
"""References and grids."""

# Okabe and Ito's palette; learned arms warm or blue, usual arms the rest, ReLU as the yardstick in black.
ARM_COLOURS: Final = {
    "mixed": "#d55e00",
    "pure-0": "#0072b2",
    "pure-1": "#56b4e9",
    "pure-2": "#8fd0c9",
    "relu": "#000000",
    "silu": "#009e73",
    "tanh": "#cc79a7",
    "sin": "#e69f00",
    "gelu": "#b8a800",
    "elu": "#7f5aa2",
    "hat": "#8c564b",
    "sigmoid": "#5f6b7a",
}
"""Colour of each arm; arms that are not named here are grey."""

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
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100.0,
    "savefig.dpi": 160.0,
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
    rows: int = 1, columns: int = 1, *, width: float = 7.2, height: float = 3.4, **sharing: Any
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


def arm_colour(arm: str) -> str:
    """The colour of an arm."""
    return ARM_COLOURS.get(arm, "#9a9a9a")


def arm_order(arms: Iterable[str]) -> list[str]:
    """Arms in the order in which figures and tables show them: mixed, pure types, relu, other usual ones, the rest."""
    known = list(ARM_COLOURS)
    return sorted(set(arms), key=lambda arm: (known.index(arm) if arm in known else len(known), arm))


def outer_step_colours() -> LinearSegmentedColormap:
    """Colours of outer steps: violet for the first, red for the last."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("violet_to_red", _VIOLET_TO_RED)


def horizontal_grid(axes: Axes) -> None:
    """Faint horizontal lines to read values by."""
    axes.grid(axis="y", color=FAINT, alpha=0.25, linewidth=0.6)


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
