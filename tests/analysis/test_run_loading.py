import itertools
import json
import shutil
import threading

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import Run, RunFolderError, counted_attempts, load_run
from search.compaction import compact_table
from search.schema import SCHEMA_VERSION, TABLES
from search.store import Store

FRAMES = ("trials", "steps", "activations", "evaluations")


def test_tables_arrive_with_every_column_and_its_type(full_run):
    run = load_run(full_run.path)
    for table in FRAMES:
        assert list(run.table(table).columns) == TABLES[table].names
    assert run.evaluations["width"].dtype == "Int64"
    assert run.evaluations["diverged"].dtype == "boolean"
    assert run.evaluations["accuracy"].dtype == "float64"
    assert str(run.evaluations["created_at"].dtype) == "datetime64[us, UTC]"
    assert len(run.activations["curve"].iloc[0]) == 100


def test_column_types_do_not_depend_on_whether_there_are_rows(full_run, make_run):
    full, empty = load_run(full_run.path), load_run(make_run("empty").path)
    for table in FRAMES:
        assert empty.table(table).empty
        pd.testing.assert_series_equal(full.table(table).dtypes, empty.table(table).dtypes)


def test_a_second_load_sees_rows_written_since_the_first(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    first = load_run(folder.path)
    assert len(first.trials) == 1
    folder.trial("gradient-0001")
    assert len(first.trials) == 1
    assert len(load_run(folder.path).trials) == 2


def test_name_and_config_tolerate_a_bare_run_json(make_run):
    folder = make_run("bare")
    (folder.path / "run.json").write_text("{}")
    run = load_run(folder.path)
    assert (run.name, run.config) == ("bare", {})


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "must hold run.json"), ("{", "run.json must be JSON"), ("[]", "must hold an object, but .* holds a list")],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunFolderError, match=words):
        load_run(tmp_path)


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"A run must be a folder, but .*nowhere"):
        load_run(tmp_path / "nowhere")


def test_a_damaged_part_is_left_out_and_named(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    folder.trial("gradient-0001")
    part = sorted((folder.path / "trials").iterdir())[0]
    part.write_bytes(part.read_bytes()[:100])
    run = load_run(folder.path)
    assert list(run.trials["trial_id"]) == ["gradient-0001"]
    assert [bad.path.name for bad in run.left_out] == [part.name]


def test_rows_of_a_newer_schema_are_refused(make_run):
    folder = make_run()
    folder.write("trials", [{"trial_id": "gradient-0000", "schema_version": SCHEMA_VERSION + 1}])
    with pytest.raises(RunFolderError, match=f"schema version {SCHEMA_VERSION + 1}"):
        _ = load_run(folder.path).trials


def test_a_folder_removed_after_opening_is_an_error_in_words(make_run):
    folder = make_run()
    run = load_run(folder.path)
    shutil.rmtree(folder.path)
    with pytest.raises(RunFolderError):
        _ = run.trials


def test_of_repeated_rows_the_first_counts(make_run):
    folder = make_run()
    folder.evaluations("usual", {"relu": [0.5]})
    folder.evaluations("usual", {"relu": [0.9]}, attempt=1)
    assert list(load_run(folder.path).evaluations["accuracy"]) == [0.5]


def test_the_first_successful_attempt_counts_or_else_the_latest(make_run):
    folder = make_run()
    for attempt, status in enumerate(["killed", "ok", "ok"]):
        folder.trial("gradient-0000", attempt=attempt, status=status)
    for attempt in range(2):
        folder.trial("gradient-0001", attempt=attempt, status="killed")
        folder.steps("gradient-0002", [0.1], attempt=attempt)
    run = load_run(folder.path)
    kept = counted_attempts(run.trials, run.trials)
    assert dict(zip(kept["trial_id"], kept["attempt"], strict=True)) == {"gradient-0000": 1, "gradient-0001": 1}
    assert list(counted_attempts(run.steps, run.trials)["attempt"]) == [1]


def test_frames_read_the_same_by_plain_pandas(full_run):
    rows = pd.read_parquet(full_run.path / "evaluations")
    assert list(rows.columns) == TABLES["evaluations"].names
    assert len(rows) == len(load_run(full_run.path).evaluations)


def test_made_up_rows_follow_the_schema(full_run):
    part = next((full_run.path / "evaluations").iterdir())
    assert pq.read_schema(part).equals(TABLES["evaluations"])
    assert isinstance(load_run(full_run.path), Run)
    assert json.loads((full_run.path / "run.json").read_text())["name"] == "full"


# Parts of a table


def test_only_the_columns_and_rows_asked_for_are_read(full_run):
    run = load_run(full_run.path)
    some = run.read("evaluations", columns=["seed", "arm"], where={"arm": ["mixed", "relu"], "width": 50})
    whole = run.evaluations
    expected = whole[whole["arm"].isin(["mixed", "relu"]) & (whole["width"] == 50)][["seed", "arm"]]
    pd.testing.assert_frame_equal(some, expected.reset_index(drop=True))
    without = run.read("evaluations", columns=["trial_id"], where={"method": None})
    assert set(without["trial_id"]) == {"usual"}
    assert run.read("trials", where={"status": "timeout"}).empty


def test_categories_hold_the_same_text(full_run):
    run = load_run(full_run.path)
    coded = run.read("evaluations", categories=True)
    assert isinstance(coded["arm"].dtype, pd.CategoricalDtype)
    plain = coded.astype({name: run.evaluations[name].dtype for name in coded.columns})
    pd.testing.assert_frame_equal(plain, run.table("evaluations"))


def test_arrow_types_are_there_for_those_who_want_them(full_run):
    frame = load_run(full_run.path).read("activations", columns=["curve", "step"], dtype_backend="pyarrow")
    assert [str(dtype) for dtype in frame.dtypes] == ["list<item: double>[pyarrow]", "int64[pyarrow]"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": ["acuracy"]}, "did you mean 'accuracy'"),
        ({"where": {"amr": "mixed"}}, "did you mean 'arm'"),
        ({"where": {"width": "fifty"}}, r"values of evaluations.width \(int64\) cannot be \['fifty'\]"),
        ({"where": {"epoch_losses": [1.0]}}, "a column without lists is needed"),
    ],
)
def test_what_cannot_be_asked_for_is_said(full_run, options, words):
    with pytest.raises(RunFolderError, match=words):
        load_run(full_run.path).read("evaluations", **options)
    with pytest.raises(RunFolderError, match="unknown table 'evaluation': did you mean 'evaluations'"):
        load_run(full_run.path).read("evaluation")


@pytest.mark.parametrize("grid", [0, 32], ids=["hashed", "gridded"])
def test_repeated_rows_are_found_however_the_keys_lie(make_run, monkeypatch, grid):
    monkeypatch.setattr("analysis.frames._GRID_PER_ROW", grid)
    folder = make_run()
    folder.evaluations("usual", {"relu": [0.5, 0.6], "sin": [0.7]})
    folder.evaluations("usual", {"relu": {1: 0.9, 10**12: 0.8}})
    folder.evaluations("usual", {"sin": [0.1]}, lr=None)
    accuracies = load_run(folder.path).read("evaluations", columns=["accuracy"])["accuracy"]
    assert list(accuracies) == [0.5, 0.6, 0.7, 0.8, 0.1]


def test_a_table_of_several_schema_versions_is_read_or_the_version_named(make_run):
    folder = make_run()
    folder.trial("gradient-0000")
    old = pa.table({"trial_id": ["gradient-0001"], "attempt": [0], "schema_version": [1], "score": [0.25]})
    pq.write_table(old, folder.path / "trials" / "part-old.parquet")
    rows = load_run(folder.path).trials.set_index("trial_id")
    assert rows["schema_version"].to_dict() == {"gradient-0000": SCHEMA_VERSION, "gradient-0001": 1}
    assert (rows.loc["gradient-0001", "score"], rows["num_params"].isna().all()) == (0.25, True)
    newer = pa.table({"trial_id": ["x"], "schema_version": [SCHEMA_VERSION + 1], "of_tomorrow": [1]})
    pq.write_table(newer, folder.path / "trials" / "part-newer.parquet")
    with pytest.raises(RunFolderError, match=f"schema version {SCHEMA_VERSION + 1}, but this version of ldnn reads up"):
        load_run(folder.path).read("trials", columns=["score"])


def test_parts_may_appear_and_vanish_while_a_table_is_read(make_run):
    folder = make_run()
    store = Store(folder.path)
    (folder.path / "evaluations").mkdir()
    for number in range(30):
        store.publish("evaluations", f"k{number}", [{"trial_id": "usual", "arm": "relu", "seed": number}])
    over, published = threading.Event(), [30]

    def disturb():
        for number in itertools.count(30):
            if over.is_set():
                return
            store.publish("evaluations", f"k{number}", [{"trial_id": "usual", "arm": "relu", "seed": number}])
            published[0] = number + 1
            if number % 7 == 0:
                compact_table(store, "evaluations", sorted(store.keys("evaluations")), remove_parts=True)

    other = threading.Thread(target=disturb)
    (folder.path / ".staging").mkdir(exist_ok=True)
    other.start()
    try:
        for _ in range(25):
            before = published[0]
            seeds = load_run(folder.path).read("evaluations", columns=["seed"])["seed"].tolist()
            assert set(range(before)) <= set(seeds)
            assert len(set(seeds)) == len(seeds)
    finally:
        over.set()
        other.join()
