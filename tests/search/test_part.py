import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.part import NewerSchemaError, PartError, SchemaError, check_names, decode, encode, open_end, verify
from search.schema import SCHEMA_VERSION, TABLES
from search.seal import SEAL_SIZE, footer_start


def cell_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_string(kind):
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    if pa.types.is_integer(kind):
        return st.integers(-(2**63), 2**63 - 1)
    if pa.types.is_floating(kind):
        return st.floats(allow_nan=False, allow_infinity=False)
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_timestamp(kind):
        return st.datetimes(datetime(1970, 1, 2), datetime(2262, 1, 1), timezones=st.just(UTC))
    item = st.floats(allow_nan=False) if pa.types.is_floating(kind.value_type) else cell_of(kind.value_type)
    return st.lists(item, max_size=5)


def rows_of(table: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    # The version decides how a part is read, so it stays the present one.
    cells = {f.name: st.none() | cell_of(f.type) for f in TABLES[table] if f.name != "schema_version"}
    return st.lists(st.fixed_dictionaries({}, optional=cells), max_size=4)


def foreign(table: pa.Table) -> bytes:
    """A part that another program wrote: no seal."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("table", TABLES)
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_every_column_survives_the_round_trip(table: str, data: st.DataObject) -> None:
    rows = data.draw(rows_of(table))
    before = datetime.now(UTC)
    read = decode(table, encode(table, rows))
    assert read.schema.equals(TABLES[table], check_metadata=True)
    for got, row in zip(read.to_pylist(), rows, strict=True):
        made = got["created_at"]
        assert row.get("created_at") or before <= made <= datetime.now(UTC) + timedelta(seconds=1)
        expected = {name: row.get(name) for name in TABLES[table].names}
        assert got == {**expected, "schema_version": SCHEMA_VERSION, "created_at": row.get("created_at") or made}


def test_numpy_values_are_fine() -> None:
    row = {
        "attempt": np.int32(3),
        "subnet_scale": np.float32(0.5),
        "final": np.bool_(True),
        "genome": np.array([1.5, 2.5], dtype=np.float32),
        "curve": [np.float64(1.0), np.nan, np.inf],
        "subnet_hidden": np.array([50, 20]),
    }
    got = decode("activations", encode("activations", [row])).to_pylist()[0]
    assert (got["attempt"], got["subnet_scale"], got["final"]) == (3, 0.5, True)
    assert (got["genome"], got["subnet_hidden"]) == ([1.5, 2.5], [50, 20])
    np.testing.assert_array_equal(got["curve"], [1.0, np.nan, np.inf])


def test_a_large_part_reads_equal() -> None:
    rows = [{"arm": f"pure-{i % 2}", "seed": i} for i in range(1500)]
    assert decode("spectra", encode("spectra", rows), ["arm", "seed"]).to_pylist() == rows


def test_a_part_without_rows_is_a_part() -> None:
    assert decode("steps", encode("steps", [])).num_rows == 0


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("score", float("nan"), r"trials\.score must be a finite number or null .* but got nan"),
        ("score", np.float32("inf"), "trials.score must be a finite number"),
        ("score", True, "trials.score must be a finite number"),
        ("score", "0.5", "trials.score must be a finite number"),
        ("width", 3.0, "trials.width must be a whole number, but got 3.0"),
        ("width", True, "trials.width must be a whole number"),
        ("width", 2**63, "trials.width must be int64, but"),
        ("subnet_hidden", [50, 2.5], "trials.subnet_hidden must be a list of whole numbers"),
        ("subnet_hidden", 50, "trials.subnet_hidden must be a list of whole numbers, but got 50"),
        ("method", b"gradient", "trials.method must be text"),
        ("method", "\ud800", "trials.method must be string, but"),
        ("code_dirty", 1, "trials.code_dirty must be bool, but"),
        ("started_at", datetime(2026, 1, 1), "trials.started_at must be a time with its time zone"),
        ("started_at", 5, "trials.started_at must be a time with its time zone"),
    ],
)
def test_a_value_of_another_kind_is_refused(column: str, value: object, words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        encode("trials", [{}, {column: value}])


@pytest.mark.parametrize("value", ["abc", np.ones((1, 1)), 1.0])
def test_a_list_column_takes_only_flat_lists_of_numbers(value: object) -> None:
    with pytest.raises(SchemaError, match=r"activations.genome must be list<"):
        encode("activations", [{"genome": value}])


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(SchemaError, match="unknown column of trials 'scroe': did you mean 'score'"):
        encode("trials", [{"scroe": 1.0}])
    with pytest.raises(SchemaError, match="unknown table 'trial': did you mean 'trials'"):
        encode("trial", [])
    with pytest.raises(SchemaError, match="unknown arm 1: did you mean"):
        check_names("arm", [1], ["mixed"])  # type: ignore[list-item]


@pytest.mark.parametrize("table", ["evaluations", "spectra"])
def test_every_flipped_byte_is_found(table: str) -> None:
    data = encode(table, [{"arm": "mixed", "seed": 1}, {"arm": "relu", "seed": 2}])
    bits = random.Random(0)
    footer = len(data) - footer_start(data)
    end = min(n for n in range(footer, len(data) + 1) if open_end(table, data[-n:]))
    sound = open_end(table, data)
    for place in range(len(data)):
        for mask in (0xFF, 1 << bits.randrange(8)):
            changed = bytearray(data)
            changed[place] ^= mask
            damaged = bytes(changed)
            with pytest.raises(PartError, match=r"its bytes have changed since it was written|truncated"):
                decode(table, damaged)
            # Who reads the end only, as far as the twin, gets the same rows, or has to look at all of it.
            assert open_end(table, damaged[-end:]) in (sound, None)
            is_hit = len(data) - end <= place < len(data) - footer - SEAL_SIZE
            assert not is_hit or open_end(table, damaged[-end:]) is None


def test_every_truncation_is_found() -> None:
    data = encode("spectra", [{"arm": "mixed"}])
    for length in range(1, len(data)):
        with pytest.raises(PartError, match="it is truncated, or no Parquet file"):
            decode("spectra", data[:length])
    with pytest.raises(PartError, match="it is empty"):
        decode("spectra", b"")


def test_a_cut_out_seal_is_missed() -> None:
    data = encode("spectra", [{"arm": "mixed"}])
    start = data.rfind(b"LDNN-SEAL")
    with pytest.raises(PartError, match="the seal is damaged"):
        decode("spectra", data[:start] + data[start + 48 :])


def test_what_only_looks_like_parquet_is_bad() -> None:
    with pytest.raises(PartError, match="it cannot be read as Parquet"):
        decode("spectra", b"PAR1" + b"\x07" * 40 + b"PAR1")


def test_other_readers_read_a_sealed_part(tmp_path: Any) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "part.parquet"
    path.write_bytes(encode("evaluations", [{"arm": "mixed", "accuracy": 0.5}]))
    assert pq.read_table(path).schema.equals(TABLES["evaluations"])
    assert duckdb.sql(f"select arm, accuracy from '{path}'").fetchall() == [("mixed", 0.5)]


def test_a_part_of_another_program_is_read_and_its_pages_are_checked() -> None:
    table = pa.Table.from_pylist([{"arm": f"arm-{i}", "schema_version": 1} for i in range(50)], TABLES["spectra"])
    data = foreign(table)
    assert decode("spectra", data).equals(table)
    place = data.index(b"arm-25")
    damaged = data[:place] + b"ARM" + data[place + 3 :]
    with pytest.raises(PartError, match=r"it cannot be read as Parquet: .*CRC"):
        decode("spectra", damaged)


def test_columns_come_in_the_order_asked_for() -> None:
    data = encode("spectra", [{"arm": "mixed", "seed": 7}])
    read = decode("spectra", data, ["seed", "arm"])
    assert read.column_names == ["seed", "arm"]
    assert read.to_pylist() == [{"seed": 7, "arm": "mixed"}]


def test_an_older_part_is_filled_with_nulls_and_loses_what_is_gone() -> None:
    old = pa.table({"arm": ["mixed"], "schema_version": pa.array([0]), "left_out_since": [1.0]})
    read = decode("spectra", foreign(old))
    assert read.schema.equals(TABLES["spectra"])
    assert read.select(["arm", "seed", "density"]).to_pylist() == [{"arm": "mixed", "seed": None, "density": None}]
    without_version = decode("spectra", foreign(pa.table({"arm": ["mixed"]})), ["arm", "seed"])
    assert without_version.to_pylist() == [{"arm": "mixed", "seed": None}]


def test_a_newer_part_is_refused_with_its_version() -> None:
    data = encode("spectra", [{"schema_version": SCHEMA_VERSION + 1}])
    with pytest.raises(NewerSchemaError, match=rf"schema version {SCHEMA_VERSION + 1}, but .* up to {SCHEMA_VERSION}"):
        decode("spectra", data)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"arm": [1]}, "its column arm has the type int64, but the schema says string"),
        ({"schema_version": ["1"]}, "its column schema_version has the type string"),
        ({"arn": ["mixed"]}, f"its column arn is not in schema version {SCHEMA_VERSION}"),
    ],
)
def test_other_columns_or_types_are_bad(columns: dict[str, list[Any]], words: str) -> None:
    table = pa.table({"schema_version": pa.array([SCHEMA_VERSION]), **columns})
    with pytest.raises(PartError, match=words):
        decode("spectra", foreign(table))


def test_two_columns_of_one_name_are_bad() -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["arm", "arm"])
    with pytest.raises(PartError, match="two of its columns have the same name"):
        decode("spectra", foreign(table), ["seed"])


def complaint(check: Callable[..., object], data: bytes) -> tuple[type[Exception], str] | None:
    try:
        check("spectra", data)
    except (PartError, NewerSchemaError) as error:
        return type(error), str(error)
    return None


def test_verifying_finds_what_decoding_finds() -> None:
    sealed = encode("spectra", [{"arm": "mixed", "density": [0.5] * 40}, {"arm": "relu"}])
    table = pa.Table.from_pylist([{"arm": f"arm-{i}", "schema_version": 1} for i in range(50)], TABLES["spectra"])
    other = foreign(table)
    place = other.index(b"arm-25")
    flipped = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(0, len(sealed), 97)]
    wrong = foreign(pa.table({"schema_version": pa.array([SCHEMA_VERSION]), "arm": [1]}))
    newer = encode("spectra", [{"schema_version": SCHEMA_VERSION + 1}])
    sound = [sealed, other, foreign(pa.table({"arm": ["mixed"]}))]
    bad = [*flipped, other[:place] + b"ARM" + other[place + 3 :], sealed[:-20], b"", wrong, newer]
    assert [complaint(verify, data) for data in sound] == [None] * 3
    assert [complaint(verify, data) for data in bad] == [complaint(decode, data) for data in bad]
    assert None not in [complaint(verify, data) for data in bad]
