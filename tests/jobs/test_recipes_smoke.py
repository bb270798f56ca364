"""Every recipe that comes with the package runs from the search to the report at its smallest scale."""

import pandas as pd
import pytest

from search.recipes import list_recipes
from search.schema import UNIQUE_KEYS
from tests.jobs.calls import ldnn
from tests.search.test_scales import PACKAGE


@pytest.mark.parametrize("name", [name for name, _ in list_recipes(PACKAGE)])
def test_recipe_runs_from_search_to_report(name, tmp_path):
    done = ldnn("search", name, "--set", "scale=smoke", "--out", tmp_path, "--workers", "0")
    assert done.code == 0, done.err + done.out
    trials = pd.read_parquet(tmp_path / name / "trials")
    assert len(trials) >= 1
    page = (tmp_path / name / "report" / "index.html").read_text()
    assert "</html>" in page
    if any((tmp_path / name / "evaluations").glob("*.parquet")):
        rows = pd.read_parquet(tmp_path / name / "evaluations")
        assert not rows.duplicated([*UNIQUE_KEYS["evaluations"]]).any()
        assert rows["accuracy"].between(0, 1).all() or (rows["metric"] == "loss").all()
