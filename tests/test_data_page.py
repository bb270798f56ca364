"""The recipes of docs/data.md agree with each other and with the cross-size table, and the notebook runs."""

import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

import analysis
from search.schema import UNIQUE_KEYS
from tests.analysis.conftest import RunFolder, fill

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), re.DOTALL)
NOTEBOOK = ROOT / "docs" / "passport.ipynb"
TOOLS = {"pandas": "import pandas", "duckdb": "import duckdb", "polars": "import polars"}
KEY = ["trial_id", "width", "arm"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder that has runs/quickstart, with made-up rows."""
    folder = tmp_path_factory.mktemp("data")
    fill(RunFolder(folder / "runs" / "quickstart"), trials=1, widths=(20, 50, 100))
    return folder


def recipe(tool):
    [code] = [block for block in BLOCKS if TOOLS[tool] in block]
    return code


def run_recipe(tool, place, monkeypatch):
    monkeypatch.chdir(place)
    names = {}
    exec(recipe(tool), names)
    table = names["table"]
    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(table.to_dict(as_series=False))
    return frame.sort_values(KEY).reset_index(drop=True)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_makes_the_cross_size_table(tool, place, monkeypatch, capsys):
    pytest.importorskip(tool)
    found = run_recipe(tool, place, monkeypatch)
    expected = analysis.cross_size_table(analysis.load_run(place / "runs" / "quickstart").evaluations)
    expected = expected[~expected["arm"].isin(["relu", "silu", "tanh", "sin"])].sort_values(KEY).reset_index(drop=True)
    assert len(found) == 2 * 3 * 3
    assert [tuple(row) for row in found[KEY].to_numpy()] == [tuple(row) for row in expected[KEY].to_numpy()]
    for column in ("accuracy", "vs_relu"):
        assert list(found[column]) == pytest.approx(list(expected[column]), abs=1e-12)
    assert capsys.readouterr().out.strip()


def test_keys_of_tables_are_those_of_the_schema():
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| `(\w+)` \|[^|]+\| ([^|]+) \|$", page, re.MULTILINE))
    short = {"trial_id": "trial", "type_index": "type", "lr_protocol": "protocol"}
    keys = {table: ", ".join(short.get(name, name) for name in names) for table, names in UNIQUE_KEYS.items()}
    assert tuple(UNIQUE_KEYS["spectra"]) == tuple(name for name in UNIQUE_KEYS["evaluations"] if name != "split")
    assert said == keys | {"spectra": "as `evaluations`, without split"}


def test_our_loader_works_as_the_page_says(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    exec(BLOCKS[0], {})
    assert "mixed" in capsys.readouterr().out


def test_the_notebook_is_kept_without_outputs():
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    links = re.findall(r"\]\(([^)#]+)\)", "".join(cell.source for cell in notebook.cells))
    assert links
    assert all((NOTEBOOK.parent / link).exists() for link in links)


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("default")
def test_the_notebook_goes_from_a_run_to_its_passport(place, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    shutil.copytree(place / "runs", tmp_path / "runs")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # Kernels listen on loopback unless told otherwise; that of this interpreter, whatever others are installed.
    client = nbclient.NotebookClient(
        notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.create_kernel_manager()
    client.km.ip = "127.0.0.1"
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    [path] = tmp_path.glob("passport-*.parquet")
    assert len(pd.read_parquet(path))
    said = "".join(output.get("text", "") for output in outputs)
    run = analysis.load_run(place / "runs" / "quickstart")
    passport = analysis.scale_passport(run.evaluations, trial_id=path.stem.removeprefix("passport-"))
    assert f"\n{passport.label}\n" in said
