"""From millions of evaluation rows to the cross-size table (P8), and what publishing a part costs (P8b).

Runs are made up (`made_up_run`): a part for every set, size and batch of 20 seeds.  Each figure is that of a process of
its own, which imports, reads and makes the table, and says its time and its peak memory.  The references are what a
competent user would write with pandas and with DuckDB: read the same columns, group, average, and average the paired
differences to relu; they check no part and make no intervals.  The files have been written just before, so that all
read them from memory where there is enough.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import torch

from jobs.bench._base import Conditions, Result, Size, agree, in_fresh_process
from jobs.bench.made_up_run import Shape, part, write_run
from search.compaction import compact_table
from search.part import encode
from search.store import Store

SHAPES: Final = (Shape(4, 10, 25), Shape(10, 20, 50), Shape(20, 50, 100))
"""10^3, 10^4 and 10^5 parts; 10^5, 10^6 and 10^7 rows."""
QUICK: Final = (Shape(2, 2, 2), Shape(2, 2, 4))

PANDAS_PARTS: Final = 10_000
"""Up to how many parts pandas reads the folder: at 10^5 it takes minutes."""

_FREE: Final = 12e9
_PUBLISHED: Final = 200

_TELL = """
from jobs.peak import peak_bytes
def tell(table, started):
    means = [float(one) for one in table]
    took, used, peak = time.perf_counter() - started, time.process_time(), peak_bytes() / 1e6
    print(json.dumps({"seconds": took, "cpu": used, "peak_mb": peak, "means": means}))
"""
_OURS = f"""
import json, sys, time
started = time.perf_counter()
from analysis import cross_size_table, load_run
from analysis.cross_size import NEEDED
{_TELL}
table = cross_size_table(load_run(sys.argv[1]).read("evaluations", columns=NEEDED, categories=True))
table = table[~table["arm"].isin(["relu", "silu", "gelu", "tanh", "sin"])]
tell(table.sort_values(["trial_id", "depth", "width", "arm"])["vs_relu"], started)
"""
_PANDAS = f"""
import json, sys, time
started = time.perf_counter()
import pandas as pd
{_TELL}
size = ["task", "architecture", "lr_protocol", "mixing", "depth", "width"]
rows = pd.read_parquet(sys.argv[1] + "/evaluations", columns=[*size, "trial_id", "split", "arm", "seed", "accuracy"])
rows = rows[rows["split"] == "test"]
relu = rows[rows["arm"] == "relu"].set_index([*size, "seed"])["accuracy"].rename("relu")
sets = rows[rows["trial_id"] != "usual"].join(relu, on=[*size, "seed"])
sets["vs_relu"] = sets["accuracy"] - sets["relu"]
table = sets.groupby(["trial_id", *size, "arm"], observed=True)[["accuracy", "vs_relu"]].agg(["mean", "sem"])
table = table["vs_relu", "mean"].reset_index()
tell(table.sort_values(["trial_id", "depth", "width", "arm"])["vs_relu"].iloc[:, 0], started)
"""
_DUCKDB = "\n".join(
    [
        "import json, sys, time\nstarted = time.perf_counter()\nimport duckdb",
        _TELL,
        """
duckdb.sql("set threads to " + sys.argv[2])
rows = duckdb.read_parquet(sys.argv[1] + "/evaluations/*.parquet").filter("split = 'test'")
rows.select("task, architecture, lr_protocol, mixing, depth, width, trial_id, arm, seed, accuracy").create("part_of")
table = duckdb.sql('''
    select trial_id, depth, width, arm, avg(accuracy), avg(accuracy - relu) as vs_relu, stddev(accuracy - relu)
    from part_of
    join (select task, architecture, lr_protocol, mixing, depth, width, seed, accuracy as relu
          from part_of where arm = 'relu') using (task, architecture, lr_protocol, mixing, depth, width, seed)
    where trial_id <> 'usual'
    group by task, architecture, lr_protocol, mixing, depth, width, trial_id, arm
    order by trial_id, depth, width, arm''').fetchall()
tell([row[5] for row in table], started)
""",
    ]
)


def measure_store(conditions: Conditions) -> list[Result]:
    """P8 from parts and from one compacted file, their growth and references; P8b.

    Raises:
        RuntimeError: the disk has less than 12 GB free, or a measuring process failed.
    """
    shapes = QUICK if conditions.quick else SHAPES
    sizes: list[Size] = []
    checks: dict[str, float] = {}
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="ldnn-bench-store-") as folder:
            found, errors = _measure(Path(folder), shape, quick=conditions.quick)
            sizes += found
            checks |= errors
    last = [size for size in sizes if size["rows"] == shapes[-1].rows]
    loose, single = (next(size for size in last if size["who"] == who) for who in ("ours, parts", "ours, one file"))
    files = tuple(size for size in sizes if size["who"] == "ours, one file")
    peak = max(size["peak_mb"] for size in (loose, single))
    rows = f"{shapes[-1].rows:.0e} evaluation rows to the cross-size table"
    return [
        Result(
            "P8",
            f"{rows}, from {shapes[-1].parts} parts",
            loose["seconds"],
            20.0,
            "s",
            tuple(sizes),
            conditions,
            check=checks,
        ),
        Result("P8-one", f"{rows}, from one compacted file", single["seconds"], 20.0, "s", files, conditions),
        Result("P8-memory", f"{rows}: peak memory of the process", peak, 3000.0, "MB", (loose, single), conditions),
        _publishing(conditions),
    ]


def _measure(folder: Path, shape: Shape, *, quick: bool) -> tuple[list[Size], dict[str, float]]:
    if not quick and shutil.disk_usage(folder).free < _FREE:
        raise RuntimeError(f"the benchmark of the store needs 12 GB of free disk, but {folder.parent} has less")
    root = folder / "made-up"
    started = time.perf_counter()
    write_run(root, shape, processes=1 if quick else os.cpu_count() or 1)
    making = time.perf_counter() - started
    bytes_of_parts = sum(entry.stat().st_size for entry in os.scandir(root / "evaluations"))
    made: Size = {"who": "making the parts", "parts": shape.parts, "rows": shape.rows, "seconds": making}
    sizes: list[Size] = [made | {"disk_mb": bytes_of_parts / 1e6}]
    means: dict[str, list[float]] = {}

    def measure(who: str, code: str, *arguments: str) -> None:
        found = in_fresh_process(code, root, *arguments)
        means[who] = found.pop("means")
        sizes.append({"who": who, "parts": shape.parts, "rows": shape.rows, **found})

    measure("ours, parts", _OURS)
    measure("DuckDB, parts", _DUCKDB, str(os.cpu_count() or 1))
    if shape.parts <= PANDAS_PARTS:
        measure("pandas, parts", _PANDAS)
    for size in sizes[2:]:
        size["ratio"] = size["seconds"] / sizes[1]["seconds"]
    store = Store.create(root)
    started = time.perf_counter()
    done = compact_table(store, "evaluations", sorted(store.keys("evaluations")), remove_parts=True)
    compacting = time.perf_counter() - started
    sizes.append({**made, "who": "compacting", "seconds": compacting, "disk_mb": done.bytes_after / 1e6})
    measure("ours, one file", _OURS)
    before = len(sizes)
    measure("DuckDB, one file", _DUCKDB, str(os.cpu_count() or 1))
    measure("pandas, one file", _PANDAS)
    for size in sizes[before:]:
        size["ratio"] = size["seconds"] / sizes[before - 1]["seconds"]
    expected = torch.tensor(means["DuckDB, parts"], dtype=torch.float64)
    errors = {
        f"{who}, {shape.rows} rows": agree(who, torch.tensor(found, dtype=torch.float64), expected, 1e-9)
        for who, found in means.items()
        if who != "DuckDB, parts"
    }
    return sizes, errors


def _publishing(conditions: Conditions) -> Result:
    """Median time of `Store.publish` of a part of 100 rows, with all that makes it durable; others for the growth."""
    count = 10 if conditions.quick else _PUBLISHED
    whole: list[dict[str, Any]] = part(QUICK[0], 5)[1].to_pylist()
    sizes: list[Size] = []
    for rows in (whole[:20], whole, whole * 5):
        with tempfile.TemporaryDirectory(prefix="ldnn-bench-store-") as folder:
            store = Store.create(Path(folder))
            times = []
            for number in range(count):
                started = time.perf_counter()
                store.publish("evaluations", f"key-{number}", rows)
                times.append(1e3 * (time.perf_counter() - started))
        started = time.perf_counter()
        for _ in range(count):
            data = encode("evaluations", rows)
        encoding = 1e3 * (time.perf_counter() - started) / count
        size: Size = {"who": "publish", "rows": len(rows), "disk_mb": len(data) / 1e6}
        sizes.append(size | {"median_ms": statistics.median(times), "most_ms": max(times), "encoding_ms": encoding})
    what = f"publishing a part of {len(whole)} rows durably: median"
    return Result("P8b", what, sizes[1]["median_ms"], 10.0, "ms", tuple(sizes), conditions)
