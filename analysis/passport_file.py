"""A scale passport as one Parquet file: its schema, and how it is written.

One row per size and rival.  What is about the whole passport (label, conditions) or about a task (mean over sizes,
slopes, worst size) is repeated in every row it is about, so that the file is one flat table to any reader.  The
sentences and the numbers in the rules are in the file's metadata, as JSON under ``ldnn.passport``.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.passport import SUMMARY_COLUMNS, Passport
from analysis.passport_grid import COLUMNS
from analysis.passport_label import KIND
from analysis.types_of_columns import kind_of
from search.store import storage_at

_WHOLE: Final = {
    "run_id": "the run that the set comes from",
    "trial_id": "the trial that found it",
    "method": "gradient | evolution",
    "lr_protocol": "as in evaluations",
    "mixing": "as in evaluations",
    "regime": "as in evaluations",
    "split": "which rows judged the networks: val | test",
    "label": "scale-safe | size-specific | collapses | no better than usual; null: the data do not suffice",
    "words": "why it is that label, or why there is none",
}  # fmt: skip
_COLUMNS: Final = _WHOLE | COLUMNS | SUMMARY_COLUMNS
_TYPES: Final = {"Int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_(), "str": pa.string()}

PASSPORT: Final = pa.schema(
    [pa.field(name, _TYPES[kind_of(name)], metadata={"description": words}) for name, words in _COLUMNS.items()]
)
"""Schema of the file; the description of a column is in its field's metadata."""

METADATA_KEY: Final = b"ldnn.passport"


def write_passport(passport: Passport, path: str | Path) -> Path:
    """Write a passport, replacing an earlier one at once.

    Args:
        passport: the passport.
        path: of the file; its folder is made if it is missing.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    storage_at(path.parent).replace(path.name, _content(passport))
    return path


def _content(passport: Passport) -> bytes:
    """The content of the file."""
    whole = {name: getattr(passport, name) for name in _WHOLE}
    about_task = [name for name in SUMMARY_COLUMNS if name != "metric"]
    rows = passport.grid.merge(passport.summary[about_task], on=KIND, how="left").assign(**whole)
    table = pa.Table.from_pandas(rows[list(_COLUMNS)], schema=PASSPORT, preserve_index=False)
    said: dict[str, Any] = {"sentences": list(passport.sentences), "rules": asdict(passport.rules)}
    metadata = {METADATA_KEY: json.dumps(said, ensure_ascii=False).encode()}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer, write_page_checksum=True)
    return buffer.getvalue()
