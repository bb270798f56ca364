"""The files of a scale passport in the report folder of its run: Parquet, and the heat map as PNG and SVG."""

from __future__ import annotations

import tempfile
from pathlib import Path

from analysis.figures.passport import passport_heat_data, scale_passport_figure
from analysis.load import Run
from analysis.passport import Passport
from analysis.passport_file import write_passport
from analysis.style import save_figure
from search.store import Location, storage_at


def save_passport(run: Run, passport: Passport) -> list[Location]:
    """Write ``report/passport-<trial>.parquet``, and ``.png`` and ``.svg`` if anything could be compared.

    Returns:
        The files, replaced if they were there.

    Raises:
        OSError: they cannot be written.
    """
    if isinstance(run.path, Path):
        return list(_files(passport, run.path / "report"))
    storage = storage_at(run.path)
    with tempfile.TemporaryDirectory(prefix="ldnn-passport-") as folder:
        names = [f"report/{file.name}" for file in _files(passport, Path(folder))]
        for name in names:
            storage.replace(name, (Path(folder) / Path(name).name).read_bytes())
    return [run.path / name for name in names]


def _files(passport: Passport, folder: Path) -> list[Path]:
    name = f"passport-{passport.trial_id}"
    files = [write_passport(passport, folder / f"{name}.parquet")]
    data = passport_heat_data(passport)
    return [*files, *save_figure(scale_passport_figure(data), folder, name)] if len(data) else files
