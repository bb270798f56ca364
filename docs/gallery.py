"""Writes docs/gallery.md from docs/gallery.toml, and draws the pictures of a run.

    python docs/gallery.py                        # write the page
    python docs/gallery.py --draw runs/first      # draw what the entry of that run's name lists, from its folder

An entry has a line for each picture: ``figure``, a name in `analysis.FIGURES`, drawn from the run into
docs/figures/gallery; or ``file``, a picture that is there already.
"""

from __future__ import annotations

import io
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import analysis
from analysis.figures import FIGURES
from analysis.style import look

FOLDER: Final = Path(__file__).parent
ENTRIES: Final = FOLDER / "gallery.toml"
PAGE: Final = FOLDER / "gallery.md"
MOST_COLOURS: Final = 128
"""Of their palettes: a third of the size, and no difference that can be seen."""

Entry = Mapping[str, Any]


def entries() -> list[Entry]:
    """What the gallery shows, in its order."""
    return list(tomllib.loads(ENTRIES.read_text(encoding="utf-8"))["run"])


def picture_of(entry: Entry, line: Mapping[str, str]) -> str:
    """Where a picture lies, from docs."""
    return line.get("file") or f"figures/gallery/{entry['name']}-{line['figure']}.png"


def page() -> str:
    """The text of the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Gallery"
    yield "\n*Made by `python docs/gallery.py` from [gallery.toml](gallery.toml); change that and not this page.*"
    yield (
        "\nPictures that recipes make, each with the commands that make it again and with what is seen. A report has"
        " them all, of any run: `ldnn report RUN`. Many of the runs are small: they show what a figure looks like, and"
        " what they find is one search with one seed."
    )
    yield "\n| run | recipe | pictures |\n|---|---|---|"
    for entry in entries():
        yield f"| [{entry['title']}](#{_anchor(entry['title'])}) | `{entry['recipe']}` | {len(entry['pictures'])} |"
    for entry in entries():
        yield f"\n## {entry['title']}"
        yield f"\n{entry['about']}\n\n```\n" + "\n".join(entry["commands"]) + "\n```"
        yield f"\nCommit {entry['commit']}, seed 0, {entry['took']}."
        for line in entry["pictures"]:
            title = line.get("title") or FIGURES[line["figure"]].title
            yield f"\n**{title}.** {line['seen']}\n\n![{title}: {_plain(line['seen'])}]({picture_of(entry, line)})"


def _anchor(title: str) -> str:
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _plain(words: str) -> str:
    return words.translate(str.maketrans("", "", "[]`*"))


def draw(run: str, folder: Path = FOLDER) -> list[Path]:
    """Draw the figures that the entry of a run's name lists.

    Raises:
        ValueError: there is no such entry, or the run has no rows for a figure.
    """
    from PIL import Image

    loaded = analysis.load_run(run)
    named = {str(entry["name"]): entry for entry in entries()}
    if loaded.name not in named:
        raise ValueError(f"the run must have an entry in {ENTRIES.name} ({', '.join(named)}), but is {loaded.name!r}")
    drawn = []
    for line in named[loaded.name]["pictures"]:
        if "figure" not in line or "file" in line:
            continue
        path = folder / picture_of(named[loaded.name], line)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = io.BytesIO()
        with look():
            analysis.figure(loaded, line["figure"]).savefig(picture)
        colours = Image.open(picture).convert("RGB").quantize(MOST_COLOURS, dither=Image.Dither.NONE)
        colours.save(path, optimize=True)
        drawn.append(path)
    return drawn


def main(arguments: list[str]) -> None:
    """Write the page, or draw the pictures of runs."""
    if arguments[:1] == ["--draw"]:
        sys.stdout.writelines(f"{path}\n" for run in arguments[1:] for path in draw(run))
    else:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
