"""``ldnn export``: a found set as an activation card, with a picture, and as plain arrays."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from analysis import Run, load_run
from analysis.card_figure import card_figure
from analysis.sets import judged
from analysis.style import look
from jobs.errors import InputError
from ldnn_core import hermite_arithmetic as arithmetic
from ldnn_core.card import ActivationCard, ObservedInputs, make_card
from ldnn_core.card_file import write_card
from ldnn_core.card_rules import CardError
from search.found_set import found_set
from search.location import Location
from search.schema import Status
from search.storage import storage_at
from search.store import Store

SEEN: Final = 1e-4
"""A bin counts as observed if at least this share of all inputs lies in it."""
_BINS: Final = (-8.0, 8.0)
"""Ends of the bins of ``preactivation_density``."""
_PASSPORT_WORDS: Final = b"ldnn.passport"
"""Where the metadata of a passport's file have its sentences."""
_FACTS: Final = (
    "run_id", "trial_id", "method", "estimator", "algorithm", "task", "seed", "score", "score_sem", "widths", "depths",
    "inner_steps", "outer_steps", "config_hash", "code_version",
)  # fmt: skip
"""Columns of ``trials`` that say where a set was learned."""


def export_set(run: Location, trial: str | None, out: Path, numpy_file: Path | None) -> None:
    """Write the card of a trial, by default of the best, a picture beside it, and its arrays if that is wanted.

    Raises:
        InputError: there is no such set, or the files cannot be written.
    """
    _check_names(out, numpy_file)
    loaded = load_run(run)
    card = card_of_trial(loaded, trial or best_trial(loaded))
    picture = out.with_suffix(".png")
    try:
        write_card(card, out)
        with look():
            card_figure(curves_of(card), _observed_ends(card)).savefig(picture)
        if numpy_file:
            with numpy_file.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays_of(card))
    except CardError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"the files cannot be written: {error}; give another --out") from error
    for path in (out, picture, numpy_file):
        if path:
            print(path)  # noqa: T201


def best_trial(run: Run) -> str:
    """The trial with the highest score, which is measured on validation rows; a copy is none.

    Raises:
        InputError: none has been done.
    """
    done = run.trials[(run.trials["status"] == Status.OK) & run.trials["copied_from"].isna()]
    if done.empty:
        raise InputError(f"a trial must be done to be exported, but {run.name!r} has none: `ldnn resume` goes on")
    return str(done.sort_values("score", ascending=False, kind="stable")["trial_id"].iloc[0])


def card_of_trial(run: Run, trial: str) -> ActivationCard:
    """The card of the set that a trial has found.

    Raises:
        InputError: there is no such trial, or it has found none.
        StoreError: its set is not there, or damaged.
    """
    try:
        found = found_set(Store(run.path), trial, torch.float64)
    except ValueError as error:
        raise InputError(f"--trial: {error}") from None
    learned = {name: _plain(found.row[name]) for name in _FACTS}
    for several, one in (("widths", "width"), ("depths", "depth")):  # a run of schema 1 knows one of each
        learned[several] = learned[several] or [found.row[one]]
    observed = observed_inputs(run.evaluations[run.evaluations["trial_id"] == trial])
    passport = passport_of(run, trial)
    return make_card(found.spec, found.genomes, observed_inputs=observed, learned=learned, passport=passport)


def observed_inputs(evaluations: pd.DataFrame) -> ObservedInputs | None:
    """The range of inputs in the judged mixed networks of a trial: all bins from the first to the last seen."""
    mixed = judged(evaluations[evaluations["arm"] == "mixed"])
    densities = [np.asarray(one, dtype=float) for one in mixed["preactivation_density"].dropna()]
    if not densities:
        return None
    share = np.mean(densities, axis=0)
    seen = np.flatnonzero(share >= SEEN)
    if not len(seen):
        return None
    low, high = _BINS
    edges = np.linspace(low, high, len(share) + 1)
    first, last = int(seen[0]), int(seen[-1])
    inside = min(1.0, float(share[first : last + 1].sum()))
    return ObservedInputs(float(edges[first]), float(edges[last + 1]), inside, len(densities))


def passport_of(run: Run, trial: str) -> dict[str, Any] | None:
    """The passport that was made for a trial: ``label``, ``sentences``, and ``table``, by columns; None without one.

    Raises:
        InputError: its file cannot be read.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", trial):  # it becomes part of a name
        return None
    name = f"report/passport-{trial}.parquet"
    try:
        table = pq.read_table(io.BytesIO(storage_at(run.path).read(name)), page_checksum_verification=True)
        said = json.loads((table.schema.metadata or {}).get(_PASSPORT_WORDS, b"{}"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read: {error}; make it again, or remove it") from error
    columns = {column: [_plain(one) for one in values] for column, values in table.to_pydict().items()}
    labels = {label for label in columns.get("label", []) if label is not None}
    return {
        "label": str(labels.pop()) if len(labels) == 1 else None,
        "sentences": [str(sentence) for sentence in said.get("sentences", [])],
        "table": columns,
    }


def curves_of(card: ActivationCard, limit: float = 4.0, points: int = 801) -> pd.DataFrame:
    """Points of each type: ``type_index``, ``x``, ``value``, ``slope`` and ``base``, as far as inputs were observed."""
    spec, grid, seen = card.spec, card.spec.grid, card.observed_inputs
    half = min(spec.table_range, max(limit, -seen.low, seen.high) if seen else limit)
    x = torch.linspace(-half, half, points, dtype=torch.float64)
    first = torch.arange(spec.num_types).unsqueeze(1) * grid.cells
    value, slope = (
        arithmetic.derivative(
            x.expand(spec.num_types, -1), card.coefficients, first, grid.scale, grid.origin, grid.cells, order
        )
        for order in (0, 1)
    )
    base = spec.base_function.value(x)
    parts = [
        pd.DataFrame({"type_index": k, "x": x.numpy(), "value": value[k], "slope": slope[k], "base": base.numpy()})
        for k in range(spec.num_types)
    ]
    return pd.concat(parts, ignore_index=True)


def arrays_of(card: ActivationCard) -> dict[str, Any]:
    """The set as plain arrays: knots (G + 1,), values and slopes there (K, G + 1), and what they are made of."""
    grid = card.spec.grid
    c0, c1, c2, c3 = card.coefficients.unbind(-1)
    last_value, last_slope = (c0 + c1 + c2 + c3)[:, -1:], (c1 + 2 * c2 + 3 * c3)[:, -1:]
    tensors = {
        "knots": grid.knots(),
        "values": torch.cat([c0, last_value], 1),
        "slopes": torch.cat([c1, last_slope], 1) * grid.scale,
        "coefficients": card.coefficients,
        "genomes": card.genomes,
        "gain": card.gain,
        "offset": card.offset,
    }
    facts = {"base": card.spec.base, "hidden": card.spec.hidden, "subnet_scale": card.spec.scale}
    return {name: tensor.numpy() for name, tensor in tensors.items()} | {n: np.array(v) for n, v in facts.items()}


def _check_names(out: Path, numpy_file: Path | None) -> None:
    for option, path, ending in (("--out", out, ".safetensors"), ("--numpy", numpy_file, ".npz")):
        if path is None:
            continue
        if path.suffix != ending:
            raise InputError(f"{option} must end in {ending}, but got {str(path)!r}")
        if not path.parent.is_dir():
            raise InputError(f"{option} must lie in a folder that is there, but {str(path.parent)!r} is not: make it")


def _observed_ends(card: ActivationCard) -> tuple[float, float] | None:
    return (card.observed_inputs.low, card.observed_inputs.high) if card.observed_inputs else None


def _plain(value: Any) -> Any:
    """A cell of a table as JSON has it."""
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(one) for one in value]
    if pd.isna(value):
        return None
    plain = value.item() if isinstance(value, np.generic) else value
    return plain if not isinstance(plain, float) or math.isfinite(plain) else None
