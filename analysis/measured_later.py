"""Curvature that was measured after a network had been judged, put beside what it was judged by."""

from __future__ import annotations

from typing import Final

import pandas as pd

from search.schema import EVALUATIONS, SPECTRA, UNIQUE_KEYS

_NETWORK: Final = [*UNIQUE_KEYS["spectra"]]
CURVATURE_COLUMNS: Final = [
    name
    for name in SPECTRA.names[SPECTRA.names.index("density") + 1 :]
    if name in EVALUATIONS.names  # all of them, which a test holds
]
"""What both tables say of a network's curvature."""


def with_later_curvature(evaluations: pd.DataFrame, spectra: pd.DataFrame) -> pd.DataFrame:
    """The evaluations with curvature from ``spectra`` where their own row has none.

    Parts are never changed: a network that is measured later has its numbers in ``spectra`` alone.

    Args:
        evaluations: a row per network.
        spectra: of the same run.
    """
    if spectra.empty:
        return evaluations
    bare = evaluations["curvature_method"].isna() & (evaluations["split"] == "test")
    known = spectra.drop_duplicates(_NETWORK)[[*_NETWORK, *CURVATURE_COLUMNS]]
    found = evaluations.loc[bare, _NETWORK].merge(known, on=_NETWORK, how="left")
    found.index = evaluations.index[bare]
    if found["curvature_method"].isna().all():
        return evaluations
    filled = evaluations.copy()
    for name in CURVATURE_COLUMNS:
        filled[name] = evaluations[name].where(~bare, found[name].reindex(evaluations.index))
    return filled
