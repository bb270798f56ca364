"""How large the signal is in every layer before the first training step, per arm and size, over seeds."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.statistics import ENDS, Vector, mean_intervals

NETWORKS: Final = ["run_id", "method", "trial_id", "task", "architecture", "mixing", "depth", "width", "arm"]
"""Columns that say which networks one line is about."""

_SIDES: Final = ("variance_in", "variance_out")
COLUMNS: Final = [
    *NETWORKS, "layer", "networks",
    *(f"{side}{end}" for side in _SIDES for end in (*ENDS, "_interval", "_not_finite")),
]  # fmt: skip
"""Columns of the table; layers are counted from 1, in the order in which a row passes the activations."""


def initial_variance_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, size and layer: mean variance of what goes in and of what comes out, with 95 % intervals.

    Networks whose signal is not finite in a layer are counted in ``…_not_finite`` and in no mean: that is then of the
    others, or NaN.

    Args:
        rows: of the table ``initial_variance``, of one or several runs.
    """
    records: list[dict[str, Any]] = []
    samples: list[Vector] = []
    for key, own in rows.groupby(NETWORKS, sort=False, dropna=False):
        named = dict(zip(NETWORKS, key, strict=True))
        by_side = [np.array([*own[side]], dtype=np.float64) for side in _SIDES]
        for layer in range(by_side[0].shape[1]):
            records.append(named | {"layer": layer + 1, "networks": len(own)})
            samples += [values[:, layer] for values in by_side]
    for place, (values, estimate) in enumerate(zip(samples, mean_intervals(samples), strict=True)):
        side = _SIDES[place % 2]
        records[place // 2] |= estimate.columns(side) | {
            f"{side}_interval": str(estimate.interval),
            f"{side}_not_finite": int((~np.isfinite(values)).sum()),
        }
    return pd.DataFrame.from_records(records, columns=COLUMNS)
