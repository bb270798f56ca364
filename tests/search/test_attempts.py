import pytest

from search.attempts import counted


@pytest.mark.parametrize(
    ("statuses", "attempt"),
    [
        (["ok"], 0),
        (["killed", "ok"], 1),
        (["killed", "failed"], 1),
        (["ok", "failed"], 0),
        (["killed", "diverged", "oom"], 1),
        (["killed", "pruned", "ok"], 1),
        (["killed"] * 11, 10),
    ],
)
def test_the_first_attempt_that_has_finished_counts_or_else_the_last(statuses: list[str], attempt: int):
    rows = [{"trial_id": "t", "attempt": number, "status": status} for number, status in enumerate(statuses)]
    for given in (rows, rows[::-1]):
        assert counted(given) == [rows[attempt]]


def test_every_trial_has_one_row():
    rows = [{"trial_id": name, "attempt": 0, "status": "failed"} for name in ("b", "a", "b")]
    assert [row["trial_id"] for row in counted(rows)] == ["b", "a"]
    assert counted([]) == []
