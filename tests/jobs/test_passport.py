"""`ldnn passport` and what `ldnn compare` says about runs that differ, on made-up runs."""

import pandas as pd
import pytest

from tests.analysis.made_up import Shape, made_up_rows, write_run
from tests.jobs.calls import ldnn


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "made-up", {"evaluations": made_up_rows(Shape(), {(50, 1): 0.03, (200, 1): -0.02})})


def test_a_passport_is_a_table_a_label_and_three_files(run):
    answer = ldnn("passport", run)
    assert answer.code == 0
    assert "Scale passport of gradient-0000: size-specific" in answer.out
    assert "better at width 50; worse at width 200; no advantage at width 20, width 100" in " ".join(answer.out.split())
    names = {f"passport-gradient-0000.{ending}" for ending in ("parquet", "png", "svg")}
    assert {file.name for file in (run / "report").iterdir()} == names
    assert set(pd.read_parquet(run / "report" / "passport-gradient-0000.parquet")["label"]) == {"size-specific"}


def test_a_passport_is_for_programs_too(run):
    found = ldnn("passport", run, "--trial", "gradient-0000", "--lr-protocol", "shared", "--json").json
    (made,) = found["passports"]
    assert (made["label"], made["trial_id"]) == ("size-specific", "gradient-0000")
    assert {row["width"] for row in made["grid"]} == {20, 50, 100, 200}
    assert made["summary"][0]["worst_width"] == 200
    assert [place.rpartition(".")[2] for place in made["files"]] == ["parquet", "png", "svg"]


def test_one_seed_has_a_passport_without_a_label(tmp_path):
    folder = write_run(tmp_path / "one", {"evaluations": made_up_rows(Shape(seeds=1), 0.03)})
    answer = ldnn("passport", folder)
    assert answer.code == 0
    assert "no label: one seed only" in answer.out
    assert ldnn("passport", folder, "--json").json["passports"][0]["label"] is None


@pytest.mark.parametrize(
    ("tables", "options", "words"),
    [
        ({}, [], "No learned set has been evaluated yet; `ldnn evaluate`"),
        ({}, ["--trial", "gradient-0000"], "No network has been evaluated yet"),
        (None, ["--trial", "gradient-0007"], "'gradient-0007' has none; these have: gradient-0000"),
        (None, ["--lr-protocol", "per_arm_size"], "has no evaluation rows that are lr_protocol per_arm_size"),
    ],
)
def test_what_there_is_no_passport_of_is_refused_in_a_sentence(run, tmp_path, tables, options, words):
    folder = run if tables is None else write_run(tmp_path / "empty", tables)
    answer = ldnn("passport", folder, *options)
    assert (answer.code, answer.out) == (2, "")
    assert words in " ".join(answer.err.split())
    assert not (folder / "report").exists()


def test_comparing_runs_of_different_settings_says_which(tmp_path):
    folders = [
        write_run(tmp_path / name, {}, run_id=name, config={"name": name, "ldnn": {"width": width}})
        for name, width in (("a", 50), ("b", 100))
    ]
    sentences = ldnn("compare", *folders, "--json").json["sentences"]
    assert sentences[0] == "These runs are pooled though their settings differ: ldnn.width (50 in a; 100 in b)."
