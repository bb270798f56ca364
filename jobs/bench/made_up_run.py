"""Run folders of any size with made-up evaluations, written part by part with the store's own encoder."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from search.part import encode_table
from search.schema import SCHEMA_VERSION, TABLES, USUAL_TRIAL

RUN_ID: Final = "made-up-01234567"
SEEDS_IN_PART: Final = 20
LEARNED: Final = ("mixed", "pure-0", "pure-1", "untrained", "shuffled")
USUAL: Final = ("relu", "silu", "gelu", "tanh", "sin")
ROWS_IN_PART: Final = SEEDS_IN_PART * len(LEARNED)
WIDTHS: Final = (10, 20, 35, 50, 75, 100, 150, 200, 400, 800)
DEPTHS: Final = (1, 2, 3, 4, 6)

_MADE: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_PARTS_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Shape:
    """How large a made-up run is: a part for every owner, size and batch of seeds, of `ROWS_IN_PART` rows.

    Attributes:
        owners: learned sets, and one more for the usual activations.
        sizes: of networks, at most ``len(WIDTHS) * len(DEPTHS)``.
        batches: of `SEEDS_IN_PART` seeds, each a part of its own, as when seeds are added again and again.
    """

    owners: int
    sizes: int
    batches: int

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return self.owners * self.sizes * self.batches

    @property
    def rows(self) -> int:
        """How many rows they have."""
        return self.parts * ROWS_IN_PART


def write_run(root: Path, shape: Shape, *, processes: int) -> None:
    """Make a run folder with evaluations whose accuracies follow from their part's number alone."""
    folder = root / "evaluations"
    folder.mkdir(parents=True)
    (root / "run.json").write_text(json.dumps({"name": root.name, "run_id": RUN_ID, "config": {}}))
    starts = range(0, shape.parts, _PARTS_AT_ONCE)
    if processes == 1:
        for start in starts:
            write_parts(folder, shape, start)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(write_parts, folder, shape), starts))


def write_parts(folder: Path, shape: Shape, start: int) -> None:
    """Some parts; not flushed one by one, as those of a search are."""
    for number in range(start, min(start + _PARTS_AT_ONCE, shape.parts)):
        key, rows = part(shape, number)
        handle = os.open(folder / f"part-{key}.parquet", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(handle, encode_table("evaluations", rows))
        os.close(handle)


def part(shape: Shape, number: int) -> tuple[str, pa.Table]:
    """Key and rows of a part."""
    rest, batch = divmod(number, shape.batches)
    owner, size = divmod(rest, shape.sizes)
    width, depth = WIDTHS[size % len(WIDTHS)], DEPTHS[size // len(WIDTHS)]
    is_usual = owner == 0
    trial = USUAL_TRIAL if is_usual else f"gradient-{owner - 1:04d}"
    arms = USUAL if is_usual else LEARNED
    rng = np.random.default_rng(number)
    seeds = batch * SEEDS_IN_PART + np.arange(SEEDS_IN_PART)
    # Seeds are easy or hard for all arms alike, so that differences are paired.
    luck = np.random.default_rng([size, batch]).normal(0, 0.02, SEEDS_IN_PART)
    means = 0.5 + 0.03 * np.log2(width / 10) / 6 + np.linspace(0.03, -0.03, len(arms)) + 0.002 * (owner % 7)
    accuracy = np.round(means[:, None] + luck + rng.normal(0, 0.015, (len(arms), SEEDS_IN_PART)), 3).ravel()
    noise = rng.random((8, ROWS_IN_PART))
    columns: dict[str, Any] = {
        "run_id": RUN_ID,
        "trial_id": trial,
        "attempt": 0,
        "schema_version": SCHEMA_VERSION,
        "created_at": _MADE,
        "method": None if is_usual else "gradient",
        "estimator": None if is_usual else "unrolled",
        "task": "mnist1d",
        "seed": np.tile(seeds, len(arms)),
        "arm": np.repeat(arms, SEEDS_IN_PART),
        "num_types": 1 if is_usual else 2,
        "base": None if is_usual else "sin",
        "architecture": "mlp",
        "width": width,
        "depth": depth,
        "learned_width": None if is_usual else 100,
        "learned_depth": None if is_usual else 1,
        "num_params": 51 * width * depth,
        "mixing": "within_layer",
        "lr": 0.01,
        "lr_protocol": "shared",
        "optimizer": "rmsprop",
        "epochs": 12,
        "batch_size": 100,
        "split": "test",
        "metric": "accuracy",
        "accuracy": accuracy,
        "loss": 1.2 + noise[0],
        "train_loss": 1 + noise[1],
        "diverged": False,
        "best_epoch_accuracy": accuracy + 0.01,
        "participation_ratio": width * noise[2],
        "participation_ratio_normalized": noise[2],
        "participation_ratio_corrected": noise[3],
        "weight_norm": 10 + noise[4],
        "outside_table": noise[5] / 100,
        "wall_seconds": 0.1,
        "inner_steps": 480,
        "batch_of_networks": ROWS_IN_PART,
        "config_hash": "0123456789abcdef",
        "code_version": "0.1.0+g0123456789ab",
        "code_dirty": False,
        "versions": '{"numpy": "2.4.0", "pandas": "3.0.0", "python": "3.11.0", "torch": "2.13.0"}',
        "hostname": "made-up",
        "device": "cpu",
        "threads": 1,
    }
    arrays = [_array(columns.get(field.name), field.type) for field in TABLES["evaluations"]]
    key = f"{trial}-mnist1d-w{width}-d{depth}-shared-{batch:08x}"
    return key, pa.Table.from_arrays(arrays, schema=TABLES["evaluations"])


def _array(cells: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(cells, np.ndarray):
        return pa.array(cells, kind)
    return pa.nulls(ROWS_IN_PART, kind) if cells is None else pa.repeat(pa.scalar(cells, kind), ROWS_IN_PART)
