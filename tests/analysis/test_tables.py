import pytest

from analysis import compare, load_run, verdict
from analysis.tables import (
    accuracy_tables,
    advantage_tables,
    comparison_tables,
    cost_table,
    failures_table,
    settings_rows,
    trials_table,
)
from analysis.words import NOTHING, count, number, percent, percent_interval, points, seconds


@pytest.fixture(scope="module")
def run(full_run):
    return load_run(full_run.path)


def heads(table):
    return [column.head for column in table.columns]


def test_every_row_has_as_many_cells_as_there_are_columns(run):
    found = verdict(run)
    tables = [*advantage_tables(found), *accuracy_tables(found), *comparison_tables(compare(run))]
    tables += [trials_table(run), failures_table(run), cost_table(run)]
    assert len(tables) == 2 + 2 + 2 + 3
    for table in tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_advantage_table_has_a_row_per_size_in_order(run):
    table = next(advantage_tables(verdict(run)))
    assert [row[0] for row in table.rows] == ["width 20", "width 50 (learned)", "width 100", "width 200"]
    assert table.rows[1][1] == "+6.0 [5.5, 6.5]"
    assert table.rows[3][3].endswith("(sin)")
    assert "remarks" not in heads(table)


def test_remarks_appear_when_there_is_something_to_say(make_run):
    folder = make_run()
    folder.evaluations("usual", {"relu": [0.5, 0.5]})
    folder.evaluations("gradient-0000", {"mixed": [0.6, 0.7, 0.6]})
    table = next(advantage_tables(verdict(load_run(folder.path))))
    assert heads(table)[-1] == "remarks"
    assert table.rows[0][-1] == "1 seed without a partner; not measured; too few seeds"


def test_accuracy_table_names_diverged_networks_and_absent_arms(make_run):
    folder = make_run()
    folder.evaluations("usual", {"relu": [0.5, 0.5]}, 20)
    folder.evaluations("gradient-0000", {"mixed": [0.6, 0.1]}, 20, diverged=True)
    folder.evaluations("gradient-0000", {"mixed": [0.6]})
    table = next(accuracy_tables(verdict(load_run(folder.path))))
    assert heads(table) == ["size", "mixed", "relu"]
    assert table.rows == (
        ("width 20", "35.0 [10.0, 60.0], 2 diverged", "50.0 [50.0, 50.0]"),
        ("width 50 (learned)", "60.0", NOTHING),
    )


def test_failures_hold_the_words_of_the_exception(run):
    assert failures_table(run).rows == (("gradient-0007", "0", "failed", "RuntimeError: no more luck"),)


def test_pruned_trials_are_no_failures_and_copies_say_of_what(make_run):
    folder = make_run()
    folder.trial("gradient-0000", score=0.5)
    folder.trial("gradient-0001", status="pruned", score=None)
    folder.trial("gradient-0002", score=0.5, copied_from="gradient-0000", wall_seconds=0.0)
    run = load_run(folder.path)
    assert failures_table(run).rows == ()
    assert [row[1] for row in trials_table(run).rows] == ["ok", "pruned", "ok, copy of gradient-0000"]


def test_a_trial_whose_process_was_ended_has_a_line_with_nothing_measured(make_run):
    folder = make_run()
    folder.trial("gradient-0000", inner_steps_total=3000, wall_seconds=2.0)
    nothing = dict.fromkeys(("score", "score_sem", "inner_steps_total", "wall_seconds"))
    folder.trial("gradient-0001", status="killed", **nothing)
    table = trials_table(load_run(folder.path))
    places = [heads(table).index(head) for head in ("status", "inner steps", "time", "inner steps/s")]
    assert [[row[place] for place in places] for row in table.rows] == [
        ["ok", "3\u2009000", "2\u2009s", "1\u2009500"],
        ["killed", NOTHING, NOTHING, NOTHING],
    ]


def test_settings_are_flattened_to_dotted_keys():
    nested = {"a": {"b": [1, 2], "c": None}, "d": {}, "e": True}
    assert list(settings_rows(nested)) == [("a.b", "1, 2"), ("a.c", NOTHING), ("d", NOTHING), ("e", "True")]


def test_an_interval_that_only_just_excludes_zero_shows_it():
    assert percent_interval(0.0002, 0.01) == "[0.02, 1.00]"
    assert percent_interval(-0.01, -0.0002) == "[-1.00, -0.02]"
    assert percent_interval(-0.0001, 0.01) == "[0.0, 1.0]"


def test_numbers_read_as_people_write_them():
    nothing = float("nan")
    assert (number(12345, 0), number(nothing)) == ("12\u2009345", NOTHING)
    assert (percent(0.1234), percent(nothing), percent_interval(nothing, 1.0)) == ("12.3", NOTHING, "")
    assert points(0.031, 0.02, 0.042, signed=True) == "+3.1 [2.0, 4.2]"
    assert (points(nothing, nothing, nothing), points(0.01, nothing, nothing)) == (NOTHING, "1.0")
    assert [seconds(value) for value in (0.0312, 90, 7200, nothing)] == [
        "0.0312\u2009s",
        "1.5\u2009min",
        "2.0\u2009h",
        NOTHING,
    ]
    assert (count(1, "seed"), count(2, "seed")) == ("1 seed", "2 seeds")


def test_tables_of_several_kinds_of_network_have_captions_of_their_own(make_run):
    folder = make_run()
    for architecture in ("mlp", "resnet"):
        folder.evaluations("usual", {"relu": [0.5, 0.5]}, architecture=architecture)
        folder.evaluations("gradient-0000", {"mixed": [0.6, 0.7]}, architecture=architecture)
    found = verdict(load_run(folder.path))
    for tables in (advantage_tables(found), accuracy_tables(found)):
        captions = [table.caption for table in tables]
        assert [[kind in caption for kind in ("mlp", "resnet")] for caption in captions] == [
            [True, False],
            [False, True],
        ]


def test_final_sets_of_several_conditions_have_tables_that_say_which(make_run):
    folder = make_run()
    for task in ("mnist1d", "digits"):
        for trial in ("gradient-0000", "evolution-0001"):
            folder.evaluations(trial, {"mixed": [0.5, 0.6]}, 20, task=task)
    tables = list(comparison_tables(compare(load_run(folder.path))))
    assert [[row[0] for row in table.rows] for table in tables] == [["width 20"], ["width 20"]]
    assert ["digits" in table.caption for table in tables] == [True, False]
    assert "mnist1d" in tables[1].caption


def test_costs_are_those_of_judged_networks_size_by_size(make_run):
    folder = make_run()
    for depth in (1, 2):
        folder.evaluations("usual", {"relu": [0.5, 0.5]}, depth=depth, wall_seconds=depth)
    folder.evaluations("usual", {"relu": [0.5] * 9}, split="val", wall_seconds=99.0, lr=0.3)
    table = cost_table(load_run(folder.path))
    assert [(row[0], row[1], row[3]) for row in table.rows] == [
        ("width 50", "2", "1\u2009s"),
        ("width 50, depth 2", "2", "2\u2009s"),
    ]
