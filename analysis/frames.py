"""Rows as Arrow has them, as pandas has them: one type for each column, and for tens of millions of rows little memory.

What is held in runs (`search.runs`) is looked at once for each run: spread over the rows it would be as many cells as
there are rows, of which those of one part are all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from search.store import cells_and_counts, is_in_runs, spread

Backend = Literal["numpy_nullable", "pyarrow"]

_GRID_PER_ROW: Final = 32
_PANDAS_TYPES: Final = {
    # Nullable integers and flags, so that a column's type does not depend on whether a value is missing.
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(na_value=float("nan")),
}
_NUMBERS: Final = (pa.int64(), pa.float64(), pa.bool_())


def to_frame(rows: pa.Table, *, categories: bool, dtype_backend: Backend) -> pd.DataFrame:
    """The frame of a table; see `analysis.load.Run.read` for the types.

    Args:
        rows: text may be there as dictionaries, and any column in runs.
        categories: whether text is categorical.
        dtype_backend: as in pandas.
    """
    mapper = pd.ArrowDtype if dtype_backend == "pyarrow" else _PANDAS_TYPES.get
    frame: dict[str, Any] = {}
    for name in rows.column_names:
        column = rows.column(name)
        if categories and pa.types.is_string(_kind(column)):
            frame[name] = _categorical(column)
        elif dtype_backend == "numpy_nullable" and _kind(column) in _NUMBERS:
            frame[name] = _numbers(column)
        else:
            frame[name] = _plain(column, mapper)
        # Column by column, each freed when it is converted: the rows are not there twice.
        rows = rows.drop_columns([name])
    return pd.DataFrame(frame, copy=False)


def repeated_rows(rows: pa.Table, keys: Sequence[str]) -> NDArray[np.bool_] | None:
    """Which rows have a key that an earlier row has; None if none has.

    Args:
        rows: as for `to_frame`.
        keys: the columns that are the key together.
    """
    if not rows.num_rows:
        return None
    place, places = np.zeros(rows.num_rows, dtype=np.int64), 1
    for name in keys:
        codes = _Codes.of(rows.column(name))
        if codes.count <= 1:
            continue
        if places * codes.count >= 2**62:
            distinct, place = np.unique(place, return_inverse=True)
            places = len(distinct)
        place *= codes.count
        for start, some in codes.rows(missing=codes.count - 1):
            place[start : start + len(some)] += some
        places *= codes.count
    # The keys of a run nearly fill the grid of their values, so that a table of all places is small; else a hash table.
    if places <= _GRID_PER_ROW * rows.num_rows:
        is_taken = np.zeros(places, dtype=np.bool_)
        is_taken[place] = True
        if int(is_taken.sum()) == rows.num_rows:
            return None
    repeated = pd.Series(place, copy=False).duplicated().to_numpy()
    return repeated if repeated.any() else None


@dataclass(frozen=True)
class _Codes:
    """A column as places in a list of its values.

    Attributes:
        chunks: of each chunk the places, for runs one for each run, and then the rows of each run.
        values: the list.
        has_gaps: whether there are cells without a value.
    """

    chunks: list[tuple[pa.Array, NDArray[np.int64] | None]]
    values: pa.Array
    has_gaps: bool

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> _Codes:
        """Of a column that may be in runs, or a dictionary with the same values in all chunks."""
        # Without those that have no rows: Arrow leaves some of them out, and some not.
        held = [cells_and_counts(chunk) for chunk in column.chunks if len(chunk)]
        kind = column.type.value_type if is_in_runs(column) else column.type
        cells = pa.chunked_array([cell for cell, _ in held], kind)
        if not pa.types.is_dictionary(kind):
            cells = cells.dictionary_encode().unify_dictionaries()
        values = cells.chunk(0).dictionary if cells.num_chunks else pa.array([], cells.type.value_type)
        chunks = [(cell.indices, counts) for cell, (_, counts) in zip(cells.chunks, held, strict=True)]
        return cls(chunks, values, any(indices.null_count for indices, _ in chunks))

    @property
    def count(self) -> int:
        """How many different cells there are."""
        return len(self.values) + self.has_gaps

    def rows(self, *, missing: int) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """The places of some rows at a time, each time with the number of rows before them."""
        start = 0
        for indices, counts in self.chunks:
            codes = pc.fill_null(indices, missing) if indices.null_count else indices
            found = codes.to_numpy(zero_copy_only=False)
            some = found if counts is None else np.repeat(found, counts)
            yield start, some
            start += len(some)


def _kind(column: pa.ChunkedArray) -> pa.DataType:
    """Of a cell, however the column holds it."""
    kind = column.type
    while pa.types.is_run_end_encoded(kind) or pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind


def _categorical(column: pa.ChunkedArray) -> pd.Series[Any]:
    """Text as categories, with codes no larger than they must be."""
    codes = _Codes.of(column)
    smallest = np.min_scalar_type(-max(len(codes.values), 1))
    places = np.empty(len(column), smallest)
    for start, some in codes.rows(missing=-1):
        places[start : start + len(some)] = some
    kind = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), codes.values).to_pandas().dtype
    return pd.Series(pd.Categorical.from_codes(places, dtype=kind), copy=False)


def _plain(column: pa.ChunkedArray, mapper: Callable[[pa.DataType], Any]) -> pd.Series[Any]:
    """Any column, through Arrow's own conversion."""
    column = spread(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    frame: pd.DataFrame = pa.table({"": column}).to_pandas(types_mapper=mapper, split_blocks=True, self_destruct=True)
    return frame[""]


def _numbers(column: pa.ChunkedArray) -> pd.Series[Any]:
    """Numbers and flags, which are by far the most cells: straight to where they stay, chunk by chunk."""
    kind = _kind(column)
    values = np.empty(len(column), kind.to_pandas_dtype())
    missing = np.zeros(len(column), dtype=np.bool_)
    start = 0
    for chunk in column.chunks:
        cells, counts = cells_and_counts(chunk)
        stop = start + len(chunk)
        for target, found in ((values, _filled(cells)), (missing, cells.is_null() if cells.null_count else None)):
            if found is not None:
                some = found.to_numpy(zero_copy_only=False)
                target[start:stop] = some if counts is None else np.repeat(some, counts)
        start = stop
    if pa.types.is_floating(kind):
        values[missing] = np.nan
        return pd.Series(values, copy=False)
    array = pd.arrays.BooleanArray if pa.types.is_boolean(kind) else pd.arrays.IntegerArray
    return pd.Series(array(values, missing), copy=False)


def _filled(cells: pa.Array) -> pa.Array:
    if not cells.null_count:
        return cells
    return pc.fill_null(cells, pa.scalar(0, pa.int64()).cast(cells.type))
