import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.frames import repeated_rows, to_frame
from search.runs import in_runs, is_in_runs, join

KINDS = {"arm": pa.string(), "width": pa.int64(), "accuracy": pa.float64(), "diverged": pa.bool_()}
CELLS = {
    "arm": st.sampled_from(["relu", "mixed", "tanh"]),
    "width": st.integers(-(2**60), 2**60),
    "accuracy": st.floats(0, 1),
    "diverged": st.booleans(),
}


def tables(*, gaps: bool = True) -> st.SearchStrategy[pa.Table]:
    """Of rows that repeat each other, often and in a row."""
    row = st.fixed_dictionaries({name: st.none() | cell if gaps else cell for name, cell in CELLS.items()})
    runs = st.lists(st.tuples(row, st.integers(1, 40)), min_size=1, max_size=5)
    return runs.map(
        lambda found: pa.table(
            {name: pa.array([row[name] for row, count in found for _ in range(count)], KINDS[name]) for name in KINDS}
        )
    )


def compact(rows: pa.Table) -> pa.Table:
    arm = rows.schema.get_field_index("arm")
    return in_runs(rows.set_column(arm, "arm", rows["arm"].dictionary_encode()))


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
@given(parts=st.lists(tables(), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_a_frame_does_not_depend_on_how_its_rows_are_held(parts, backend):
    plain = pa.concat_tables(parts)
    held = join([compact(part) for part in parts]).unify_dictionaries()
    expected = to_frame(plain, categories=False, dtype_backend=backend)
    pd.testing.assert_frame_equal(to_frame(held, categories=False, dtype_backend=backend), expected)
    assert expected["width"].tolist() == pd.array(plain["width"].to_pylist(), "Int64").tolist()
    coded = to_frame(held, categories=True, dtype_backend=backend)
    assert isinstance(coded["arm"].dtype, pd.CategoricalDtype)
    assert coded["arm"].astype(object).where(coded["arm"].notna(), None).tolist() == plain["arm"].to_pylist()
    np.testing.assert_array_equal(coded["accuracy"].isna(), plain["accuracy"].is_null().to_numpy())


@given(parts=st.lists(tables(), min_size=1, max_size=3), keys=st.lists(st.sampled_from(list(KINDS)), unique=True))
@settings(max_examples=40, deadline=None)
def test_repeated_rows_are_those_that_pandas_finds(parts, keys):
    frame = pa.concat_tables(parts).to_pandas()
    expected = frame[keys].duplicated() if keys else pd.Series(frame.index > 0)
    found = repeated_rows(join([compact(part) for part in parts]).unify_dictionaries(), keys)
    np.testing.assert_array_equal(np.zeros(len(frame), bool) if found is None else found, expected)


@pytest.mark.parametrize("hold", [compact, lambda part: part], ids=["in runs", "plain"])
def test_parts_without_rows_change_nothing(hold):
    # Such as a unit publishes that found all its networks measured.
    kinds = pa.schema(list(KINDS.items()))
    some = pa.table({"arm": ["relu"] * 64, "width": [50] * 64, "accuracy": [0.5] * 64, "diverged": [False] * 64}, kinds)
    rows = join([hold(part) for part in (some.slice(0, 0), some, some.slice(0, 0), some)]).unify_dictionaries()
    assert repeated_rows(rows, ["arm", "width"]).tolist() == [False] + 127 * [True]
    for categories in (True, False):
        frame = to_frame(rows, categories=categories, dtype_backend="numpy_nullable")
        assert frame["arm"].tolist() == ["relu"] * 128


def test_codes_of_categories_are_as_small_as_their_number_allows():
    for count, size in ((2, 1), (100, 1), (200, 2)):
        arms = pa.array([f"arm-{number}" for number in range(count)]).dictionary_encode()
        frame = to_frame(pa.table({"arm": arms}), categories=True, dtype_backend="numpy_nullable")
        assert frame["arm"].cat.codes.dtype.itemsize == size
        assert frame["arm"].iloc[-1] == f"arm-{count - 1}"


def test_no_rows_have_the_types_of_some():
    rows = pa.table({name: pa.array([], kind) for name, kind in KINDS.items()})
    frame = to_frame(rows, categories=False, dtype_backend="numpy_nullable")
    assert [str(kind) for kind in frame.dtypes] == ["str", "Int64", "float64", "boolean"]
    assert not is_in_runs(rows["arm"])
    assert repeated_rows(rows, ["arm"]) is None
