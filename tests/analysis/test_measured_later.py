"""Curvature that was measured later stands beside what its network was judged by."""

import numpy as np
import pandas as pd
import pytest

from analysis import load_run
from analysis.measured_later import CURVATURE_COLUMNS, with_later_curvature
from search.config_judging import CurvatureConfig
from search.evaluate import Request
from search.schema import EVALUATIONS
from tests.small_runs import drive_here, new_run

HOW = {"method": "batched", "networks": 1, "rows": 50, "probes": 2, "lanczos_steps": 6, "eigenvalues": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = new_run(
        tmp_path_factory.mktemp("later"),
        method="gradient",
        search={"trials": 1},
        evaluation={"widths": [4], "usual": ["tanh"]},
        curvature=HOW,
    )
    drive_here(made)
    request = Request(("gradient-0000",), (4,), (1,), 2, curvature=CurvatureConfig(**HOW | {"networks": 2}))
    drive_here(made, search=False, request=request)
    return load_run(made.path)


def test_the_columns_are_those_about_curvature_that_both_tables_have():
    named = {name for name in EVALUATIONS.names if name.startswith(("hessian", "near_zero", "curvature", "noise"))}
    assert set(CURVATURE_COLUMNS) == named


def test_every_judged_network_has_its_curvature_whenever_it_was_measured(run):
    raw, spectra = run.table("evaluations"), run.table("spectra")
    assert list(raw.groupby("seed")["hessian_trace"].count()) == [4, 0]
    filled = run.evaluations.drop(columns="chance")
    assert list(filled.columns) == list(raw.columns)
    assert (filled.dtypes == raw.dtypes).all()
    assert filled["hessian_trace"].notna().all()
    by_network = spectra.set_index(["arm", "seed"])
    for row in filled.to_dict("records"):
        own = by_network.loc[(row["arm"], row["seed"])]
        for name in set(CURVATURE_COLUMNS) - {"noise_alignment", "noise_trace"}:
            assert np.array_equal(row[name], own[name]), name
    others = raw.columns.difference(CURVATURE_COLUMNS)
    pd.testing.assert_frame_equal(filled[others], raw[others])
    first = raw["seed"] == 0
    pd.testing.assert_frame_equal(filled[first], raw[first])


def test_without_further_curvature_rows_are_those_of_the_table(run):
    raw, spectra = run.table("evaluations"), run.table("spectra")
    assert with_later_curvature(raw, spectra.iloc[:0]) is raw
    assert with_later_curvature(raw, spectra[spectra["seed"] == 0]) is raw
