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
from search.store import storage_at

_TEXT: Final = pa.string()
_INT: Final = pa.int64()
_REAL: Final = pa.float64()
_FLAG: Final = pa.bool_()

_COLUMNS: Final[dict[str, tuple[pa.DataType, str]]] = {
    "run_id": (_TEXT, "the run that the set comes from"),
    "trial_id": (_TEXT, "the trial that found it"),
    "method": (_TEXT, "gradient | evolution"),
    "lr_protocol": (_TEXT, "as in evaluations"),
    "mixing": (_TEXT, "as in evaluations"),
    "regime": (_TEXT, "as in evaluations"),
    "split": (_TEXT, "which rows judged the networks: val | test"),
    "label": (_TEXT, "scale-safe | size-specific | collapses | no better than usual; null: the data do not suffice"),
    "words": (_TEXT, "why it is that label, or why there is none"),
    "task": (_TEXT, "as in evaluations"),
    "architecture": (_TEXT, "as in evaluations"),
    "depth": (_INT, "hidden layers"),
    "width": (_INT, "neurons per hidden layer"),
    "metric": (_TEXT, "accuracy: advantages are shares (0..1) | loss: natural logarithms of a ratio of losses"),
    "is_learned": (_FLAG, "whether the set was learned at this width and depth"),
    "rival": (_TEXT, "best usual | relu | best pure | learned K = 1 | a control"),
    "rival_arm": (_TEXT, "of several arms the one with the highest mean there; a trial's id for learned K = 1"),
    "advantage": (_REAL, "mean difference of mixed to that arm, paired by seed, in the unit of metric"),
    "low": (_REAL, "lower end of its 95 % interval; null if there is none"),
    "high": (_REAL, "upper end"),
    "interval": (_TEXT, "bca | percentile | few | point | none: how it was obtained"),
    "pairs": (_INT, "seeds that both have; of several arms the fewest"),
    "lost": (_INT, "seeds that only one of the two has"),
    "needed": (_INT, "fewest pairs that any claim at so many sizes needs"),
    "won": (_REAL, "share of pairs won, ties half"),
    "won_low": (_REAL, "lower end of its 95 % interval (Wilson)"),
    "won_high": (_REAL, "upper end"),
    "p": (_REAL, "two-sided, signed ranks, mixed against the rival (the best of its arms, whichever that is)"),
    "p_holm": (_REAL, "the same after Holm's correction over the sizes of this rival"),
    "p_small": (_REAL, "one-sided: signed ranks as low if the advantage were as large as the margin"),
    "p_small_holm": (_REAL, "the same after Holm's correction over the sizes of this rival"),
    "standing": (_TEXT, "better | worse | no advantage | unclear | too few seeds | not measured"),
    "detectable": (_REAL, "true difference that would be found with a chance of 80 %, correction included"),
    "equivalent_within": (_REAL, "m of: equivalent within plus or minus m; null for few pairs"),
    "retention": (_REAL, "advantage here by advantage where it was learned; null if undefined"),
    "retention_low": (_REAL, "lower end of its 95 % interval (Fieller)"),
    "retention_high": (_REAL, "upper end"),
    "retention_note": (_TEXT, "why it is undefined; empty if it is not"),
    "networks": (_INT, "networks of the arm mixed"),
    "diverged": (_INT, "how many of them diverged"),
    "collapsed_share": (_REAL, "share of them that diverged or are at chance level"),
    "usual_collapsed_share": (_REAL, "the same of the usual arm that has the lowest"),
    "collapses": (_FLAG, "whether that is a collapse by the rules"),
    "sizes": (_INT, "sizes of this task; this and the rest are against the best usual arm"),
    "learned_advantage": (_REAL, "advantage where the set was learned; null if that was not one evaluated size"),
    "learned_low": (_REAL, "lower end of its 95 % interval"),
    "learned_high": (_REAL, "upper end"),
    "mean_advantage": (_REAL, "mean over sizes, each one draw of a normal distribution (REML)"),
    "mean_low": (_REAL, "lower end of its 95 % interval (Student, sizes - 1)"),
    "mean_high": (_REAL, "upper end"),
    "between_sizes": (_REAL, "standard deviation of the true advantage from size to size"),
    "mean_note": (_TEXT, "why there is no mean; empty if there is"),
    "width_slope": (_REAL, "change of the advantage per doubling of the width; null if only one"),
    "width_slope_low": (_REAL, "lower end of its 95 % interval"),
    "width_slope_high": (_REAL, "upper end"),
    "depth_slope": (_REAL, "the same per doubling of the depth"),
    "depth_slope_low": (_REAL, "lower end of its 95 % interval"),
    "depth_slope_high": (_REAL, "upper end"),
    "worst_width": (_INT, "width of the size with the lowest advantage, chosen by these rows"),
    "worst_depth": (_INT, "its depth"),
    "worst_advantage": (_REAL, "its advantage"),
    "worst_low": (_REAL, "lower end of its 95 % interval"),
    "worst_high": (_REAL, "upper end"),
}  # fmt: skip

PASSPORT: Final = pa.schema(
    [pa.field(name, kind, metadata={"description": words}) for name, (kind, words) in _COLUMNS.items()]
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
    label = None if passport.label is None else str(passport.label)
    whole = {
        "run_id": passport.run_id, "trial_id": passport.trial_id, "method": passport.method,
        "lr_protocol": passport.lr_protocol, "mixing": passport.mixing, "regime": passport.regime,
        "split": passport.split,
        "label": label, "words": passport.words,
    }  # fmt: skip
    about_task = [name for name in SUMMARY_COLUMNS if name != "metric"]
    rows = passport.grid.merge(passport.summary[about_task], on=["task", "architecture"], how="left").assign(**whole)
    table = pa.Table.from_pandas(rows[list(_COLUMNS)], schema=PASSPORT, preserve_index=False)
    said: dict[str, Any] = {"sentences": list(passport.sentences), "rules": asdict(passport.rules)}
    metadata = {METADATA_KEY: json.dumps(said, ensure_ascii=False).encode()}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer, write_page_checksum=True)
    return buffer.getvalue()
