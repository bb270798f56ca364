import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.runs import cells_and_counts, in_runs, is_in_runs, join, spread


def repeated(cells: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(st.tuples(st.none() | cells, st.integers(1, 60)), min_size=1, max_size=6).map(
        lambda runs: [cell for cell, count in runs for _ in range(count)]
    )


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
        (pa.float64(), st.floats(allow_nan=False)),
        (pa.bool_(), st.booleans()),
        (pa.string(), st.sampled_from(["", "relu", "µ"])),
        (pa.timestamp("us", tz="UTC"), st.integers(0, 10**9)),
        (pa.list_(pa.float64()), st.lists(st.floats(allow_nan=False), max_size=2)),
    ],
    ids=str,
)
@given(data=st.data())
def test_rows_in_runs_spread_to_the_same_rows(kind, cells, data):
    column = pa.array(data.draw(repeated(cells)), kind)
    plain = pa.table({"a": column.dictionary_encode() if pa.types.is_string(kind) else column})
    found = in_runs(plain)
    assert spread(found["a"]).to_pylist() == column.to_pylist()
    both = join([found, plain, found])
    assert both["a"].to_pylist() == 3 * column.to_pylist()
    if pa.types.is_string(kind):
        assert spread(found["a"], coded=True).to_pylist() == column.to_pylist()


def test_only_what_is_repeated_is_held_in_runs():
    rows = in_runs(pa.table({"width": [50] * 64 + [100] * 64, "seed": range(128)}))
    assert (is_in_runs(rows["width"]), is_in_runs(rows["seed"])) == (True, False)
    cells, counts = cells_and_counts(rows["width"].chunk(0))
    assert (cells.to_pylist(), list(counts)) == ([50, 100], [64, 64])
    assert cells_and_counts(rows["seed"].chunk(0))[1] is None


def test_what_is_in_runs_in_one_table_only_is_spread_when_tables_are_joined():
    one = in_runs(pa.table({"arm": pa.array(["relu"] * 64).dictionary_encode()}))
    other = pa.table({"arm": pa.array(["relu", "tanh"]).dictionary_encode()})
    assert is_in_runs(join([one, one])["arm"])
    assert join([one, other])["arm"].type == pa.dictionary(pa.int32(), pa.string())
