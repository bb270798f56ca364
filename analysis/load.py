"""A run folder as typed pandas frames: complete, empty, or still being written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pandas as pd

from analysis.frames import Backend, repeated_rows, to_frame
from analysis.measured_later import with_later_curvature
from analysis.merit import chance_of
from search.schema import FINISHED, UNIQUE_KEYS
from search.store import (
    BadPart,
    Location,
    LocationError,
    SchemaError,
    StoreError,
    parse_location,
    read_table,
    storage_at,
)

_FRAMES: Final = ("trials", "steps", "activations", "evaluations")


class RunFolderError(ValueError):
    """A path is not a run folder, or a table in it cannot be read; the words say what to do."""


@dataclass(frozen=True)
class Run:
    """One run folder.  Each table is read when first asked for and then kept; load again to see newer rows.

    The frames belong to the run: filter or copy them, do not change them in place.

    Attributes:
        path: the folder or the address, as it was given.
        info: what ``run.json`` says: name, run_id, config, code_version, ...
    """

    path: Location
    info: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the run; that of its folder if ``run.json`` has none."""
        return str(self.info.get("name") or self.path.name)

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration; empty if ``run.json`` has none."""
        config = self.info.get("config")
        return config if isinstance(config, Mapping) else {}

    @property
    def tasks(self) -> Mapping[str, str]:
        """Its tasks, the one it learns on first: what tables call them, a label or the name → the name."""
        judging = self.config.get("evaluation")
        further = judging.get("tasks") if isinstance(judging, Mapping) else None
        told = [task for task in (self.config.get("task"), *(further or ())) if isinstance(task, Mapping)]
        return {str(task.get("label") or task.get("name")): str(task.get("name")) for task in told}

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial attempt."""
        return self.table("trials")

    @property
    def steps(self) -> pd.DataFrame:
        """One row per outer step or generation."""
        return self.table("steps")

    @property
    def activations(self) -> pd.DataFrame:
        """One row per trial, recorded step and type; lists are numpy arrays."""
        return self.table("activations")

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """One row per trained network, with its curvature also where that was measured later.

        Beside the schema's columns there is ``chance``, the accuracy of a guess, NaN where its task does not tell: what
        tables call a task need not be its name.
        """
        rows = with_later_curvature(self.table("evaluations"), self.table("spectra"))
        return rows.assign(chance=chance_of(rows, self.tasks))

    @property
    def left_out(self) -> tuple[BadPart, ...]:
        """Parts of these four tables that are damaged, and whose rows are therefore missing from the frames."""
        return tuple(bad for table in _FRAMES for bad in self._read(table)[1])

    def table(self, name: str) -> pd.DataFrame:
        """One table by its name in `search.schema.TABLES`.

        Raises:
            RunFolderError: the table cannot be read, or was written under a newer schema.
        """
        return self._read(name)[0]

    def read(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        categories: bool = False,
        dtype_backend: Backend = "numpy_nullable",
    ) -> pd.DataFrame:
        """Part of a table, for runs of millions of rows; read anew each time, not kept.

        Whole numbers are Int64 and flags boolean, so that a column has one type whether or not a cell is missing;
        real numbers are float64 with NaN for a missing cell; text is str with NaN; times are datetime64[us, UTC]; lists
        are numpy arrays, None where missing.  That is what NumPy and scipy work on without a copy.  With
        ``dtype_backend="pyarrow"`` all columns are Arrow's own, which suits lists and Arrow-based tools.

        Args:
            name: of the table, see `search.schema.TABLES`.
            columns: the columns wanted, in that order; all if None.
            where: column → a value, or several, of which its cells must have one: ``{"arm": ["mixed", "relu"]}``.
                None stands for a missing cell.
            categories: whether text is categorical: of 10 million rows, a column then takes 10 to 40 MB instead of a
                few hundred, and grouping by it is quicker (say ``observed=True``).
            dtype_backend: as in pandas.

        Raises:
            RunFolderError: the table cannot be read, or was written under a newer schema; no such table or column, or
                a value in ``where`` that the column cannot have.
        """
        return self._frame(name, columns, where, categories, dtype_backend)[0]

    @cached_property
    def _kept(self) -> dict[str, tuple[pd.DataFrame, list[BadPart]]]:
        return {}

    def _read(self, table: str) -> tuple[pd.DataFrame, list[BadPart]]:
        if table not in self._kept:
            self._kept[table] = self._frame(table)
        return self._kept[table]

    def _frame(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        categories: bool = False,
        dtype_backend: Backend = "numpy_nullable",
    ) -> tuple[pd.DataFrame, list[BadPart]]:
        """The rows of all sound parts, one for each unique key (a late second report does not count), and bad parts."""
        wanted = {
            name: [one] if one is None or isinstance(one, str | int | float) else one
            for name, one in (where or {}).items()
        }
        keys = UNIQUE_KEYS.get(table, ())
        read = None if columns is None else list(dict.fromkeys([*columns, *keys]))
        try:
            rows, bad = read_table(self.path, table, columns=read, where=wanted, runs=True)
        except (StoreError, SchemaError) as error:
            raise RunFolderError(str(error)) from error
        repeated = repeated_rows(rows, keys)
        if columns is not None:
            rows = rows.select(list(columns))
        frame = to_frame(rows, categories=categories, dtype_backend=dtype_backend)
        return (frame if repeated is None else frame[~repeated].reset_index(drop=True)), bad


def load_run(path: str | Location) -> Run:
    """Open a run.

    Args:
        path: the folder that holds ``run.json``, or its address in an object store, ``s3://bucket/prefix``.

    Raises:
        RunFolderError: the path is not a folder, or its ``run.json`` is missing or unreadable.
    """
    try:
        folder = parse_location(path)
        storage = storage_at(folder)
    except LocationError as error:
        raise RunFolderError(str(error)) from error
    if isinstance(folder, Path) and not folder.is_dir():
        raise RunFolderError(f"A run must be a folder, but {str(path)!r} is not one; `ldnn search` makes run folders.")
    file = folder / "run.json"
    try:
        info = storage.read_json("run.json")
        # A run that was extended has its present configuration in the last of these, see `search.lineage`.
        revisions = [name for name in storage.names("lineage") if name.endswith(".json")]
        present = storage.read_json(f"lineage/{revisions[-1]}") if revisions else {}
    except FileNotFoundError:
        raise RunFolderError(
            f"A run folder must hold run.json, but {str(path)!r} does not; give the folder of one run: runs/NAME."
        ) from None
    except OSError as error:
        raise RunFolderError(f"{str(file)!r} cannot be read: {error}") from error
    except ValueError as error:
        raise RunFolderError(
            f"run.json must be JSON, but {str(file)!r} is not ({error}); restore it from a copy, the tables are whole."
        ) from error
    if not isinstance(present, dict):
        raise RunFolderError(
            f"{revisions[-1]} in {str(folder / 'lineage')!r} must hold an object; restore it from a copy."
        )
    if not isinstance(info, dict):
        raise RunFolderError(f"run.json must hold an object, but {str(file)!r} holds a {type(info).__name__}.")
    return Run(folder, info | {key: present[key] for key in ("config", "config_hash") if key in present})


def counted_attempts(frame: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Keep, of every trial, the rows of the one attempt that counts.

    That is its first attempt that has finished, or else the latest attempt in the frame.

    Args:
        frame: rows with ``run_id``, ``trial_id`` and ``attempt``.
        trials: the table of trials of the same runs.
    """
    if frame.empty:
        return frame
    trial = ["run_id", "trial_id"]
    succeeded = trials[trials["status"].isin(FINISHED)].groupby(trial, as_index=False)["attempt"].min()
    wanted = frame[trial].merge(succeeded, on=trial, how="left")["attempt"]
    wanted.index = frame.index
    latest = frame.groupby(trial)["attempt"].transform("max")
    return frame[frame["attempt"] == wanted.fillna(latest)]
