"""What a drawn figure shows as text, and where."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text


def shown_texts(figure: Figure) -> list[Text]:
    """Every text that is seen: titles, labels, names of ticks within the limits, annotations, legends."""
    figure.draw_without_rendering()
    return [text for text in _texts(figure) if text.get_visible() and text.get_text().strip()]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that cover each other; slanted ones, whose boxes are larger than they are, are left out."""
    upright = [text for text in shown_texts(figure) if text.get_rotation() % 90 == 0]
    # Of an annotation only its text counts, and not its arrow; a pixel of the boxes is empty.
    boxes = [Text.get_window_extent(text).padded(-1) for text in upright]
    return [
        (upright[i].get_text(), upright[j].get_text())
        for i in range(len(boxes))
        for j in range(i)
        if boxes[i].overlaps(boxes[j])
    ]


def cut_off(figure: Figure) -> list[str]:
    """Texts that reach beyond the edge of the figure."""
    inside = figure.bbox.padded(1)
    boxes = [(text, Text.get_window_extent(text)) for text in shown_texts(figure)]
    return [t.get_text() for t, box in boxes if not (inside.contains(*box.min) and inside.contains(*box.max))]


def _texts(figure: Figure | SubFigure) -> Iterator[Text]:
    yield from figure.texts
    for name in ("_suptitle", "_supxlabel", "_supylabel"):
        if (text := getattr(figure, name, None)) is not None and text not in figure.texts:
            yield text
    for legend in figure.legends:
        yield from legend.get_texts()
    for part in figure.subfigs:
        yield from _texts(part)
    for axes in figure.get_axes() if isinstance(figure, Figure) else []:
        if not axes.axison or not axes.get_visible():
            continue
        yield from (axes.title, axes._left_title, axes._right_title, *axes.texts)
        if (legend := axes.get_legend()) is not None:
            yield from legend.get_texts()
        for axis in (axes.xaxis, axes.yaxis):
            yield axis.label
            yield axis.get_offset_text()
            low, high = sorted(axis.get_view_interval())
            room = 1e-9 * (high - low)
            for tick in axis.get_major_ticks():
                if low - room <= tick.get_loc() <= high + room:
                    yield tick.label1
