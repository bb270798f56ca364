import numpy as np
import pandas as pd
import pytest

from analysis import load_run
from tests.analysis.made_up import LEVEL, Shape, as_frame, made_up_evaluations, made_up_rows, write_run


def means(frame, column="accuracy"):
    return frame.groupby(["width", "arm"])[column].mean()


def test_made_up_means_are_those_asked_for():
    shape = Shape(seeds=400, controls={"shuffled": 0.004})
    found = means(made_up_evaluations(shape, {(100, 1): 0.05}))
    assert found[100, "mixed"] - found[100, "relu"] == pytest.approx(0.05, abs=0.002)
    assert found[20, "mixed"] - found[20, "relu"] == pytest.approx(0.0, abs=0.002)
    assert found[20, "relu"] == pytest.approx(LEVEL, abs=0.003)
    assert found[100, "mixed"] - found[100, "shuffled"] == pytest.approx(0.004, abs=0.002)


def test_a_share_of_the_mix_collapses_where_it_was_asked_for():
    frame = made_up_evaluations(Shape(collapsed={(200, 1): 0.5}))
    broken = frame[frame["diverged"].astype(bool)]
    assert set(broken["arm"]) == {"mixed"}
    assert set(broken["width"]) == {200}
    assert len(broken) == 10


def test_a_loss_is_the_exponential_of_minus_its_outcome():
    frame = made_up_evaluations(Shape(metric="loss", seeds=400), advantage=0.2)
    outcome = -np.log(means(frame, "loss"))
    assert outcome[50, "mixed"] - outcome[50, "relu"] == pytest.approx(0.2, abs=0.002)
    assert frame["accuracy"].isna().all()


def test_a_written_run_is_read_as_the_frame(tmp_path):
    rows = made_up_rows(Shape(seeds=2))
    run = load_run(write_run(tmp_path / "made-up", {"evaluations": rows}))
    pd.testing.assert_frame_equal(run.table("evaluations"), as_frame("evaluations", rows))
