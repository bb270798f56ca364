"""What an activation card tells beside its tensors, as JSON: written, and read with nothing taken on trust."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from ldnn_core.base_functions import BASE_FUNCTIONS
from ldnn_core.card import ActivationCard, ObservedInputs, TableErrors
from ldnn_core.card_rules import WAY_OUT, CardError, hold, number, parsed, whole
from ldnn_core.subnetwork import ActivationSpec

MOST_TYPES: Final = 64
MOST_LAYERS: Final = 8
MOST_UNITS: Final = 1024
LARGEST_RANGE: Final = 100.0
LARGEST_TABLE_SCALE: Final = 4096
LARGEST_SCALE: Final = 1e9
_MOST_NETWORKS: Final = 10**9
_DEEPEST: Final = 8
"""Levels of lists and objects in the free parts of the JSON, ``learned`` and ``passport``."""
_KEYS: Final = {
    "base", "num_types", "hidden", "scale", "normalized", "table_range", "table_scale", "errors", "lipschitz",
    "observed_inputs", "learned", "passport",
}  # fmt: skip


def card_text(card: ActivationCard) -> str:
    """What is told of a card; `told_of_card` reads it.

    Raises:
        CardError: ``learned`` or ``passport`` hold what JSON cannot.
    """
    spec = card.spec
    told = {
        "base": spec.base,
        "num_types": spec.num_types,
        "hidden": list(spec.hidden),
        "scale": spec.scale,
        "normalized": spec.normalized,
        "table_range": spec.table_range,
        "table_scale": spec.table_scale,
        "errors": asdict(card.errors),
        "lipschitz": card.lipschitz,
        "observed_inputs": None if card.observed_inputs is None else asdict(card.observed_inputs),
        "learned": card.learned,
        "passport": card.passport,
    }
    try:
        return json.dumps(told, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise CardError(f"what a card tells must be JSON without NaN, but: {error}; leave it out") from error


def told_of_card(text: str) -> dict[str, Any]:
    """The arguments of an `ActivationCard`, but for its tensors.

    Raises:
        CardError: something is missing, unknown, or not what it must be.
    """
    told = parsed(text, "the card's JSON")
    hold(isinstance(told, dict), "the card's JSON must be an object", type(told).__name__)
    missing, unknown = sorted(_KEYS - set(told)), sorted(set(told) - _KEYS)
    hold(not missing, "a card must have all of its keys", {"missing": missing})
    hold(not unknown, "a card must have no other keys", {"unknown": unknown})
    spec = _spec(told)
    return {
        "spec": spec,
        "errors": _errors(told["errors"], spec.num_types),
        "lipschitz": _bounds("lipschitz", told["lipschitz"], spec.num_types),
        "observed_inputs": _observed(told["observed_inputs"]),
        "learned": _free("learned", told["learned"]),
        "passport": None if told["passport"] is None else _free("passport", told["passport"]),
    }


def _spec(told: Mapping[str, Any]) -> ActivationSpec:
    base = told["base"]
    hold(
        isinstance(base, str) and base in BASE_FUNCTIONS,
        f"a base function must be one of {', '.join(BASE_FUNCTIONS)}",
        base,
    )
    hidden = told["hidden"]
    hold(
        isinstance(hidden, list)
        and 1 <= len(hidden) <= MOST_LAYERS
        and all(whole(units, MOST_UNITS) for units in hidden),
        f"hidden must be 1 to {MOST_LAYERS} sizes from 1 to {MOST_UNITS}",
        hidden,
    )
    types, scale, range_, cells = (told[name] for name in ("num_types", "scale", "table_range", "table_scale"))
    hold(whole(types, MOST_TYPES), f"num_types must be whole, from 1 to {MOST_TYPES}", types)
    hold(number(scale) and 0 < scale <= LARGEST_SCALE, f"0 < scale <= {LARGEST_SCALE:g} must hold", scale)
    hold(isinstance(told["normalized"], bool), "normalized must be true or false", told["normalized"])
    hold(number(range_) and 0 < range_ <= LARGEST_RANGE, f"0 < table_range <= {LARGEST_RANGE:g} must hold", range_)
    hold(
        whole(cells, LARGEST_TABLE_SCALE) and cells.bit_count() == 1,
        f"table_scale must be a power of two up to {LARGEST_TABLE_SCALE}",
        cells,
    )
    try:
        return ActivationSpec(base, types, tuple(hidden), float(scale), told["normalized"], float(range_), cells)
    except ValueError as error:
        raise CardError(f"{error}; {WAY_OUT}") from error


def _errors(told: Any, types: int) -> TableErrors:
    names = ("value", "slope", "curvature")
    hold(isinstance(told, dict) and set(told) == set(names), f"errors must be those of {', '.join(names)}", told)
    return TableErrors(*(_bounds(f"the error of a {name}", told[name], types) for name in names))


def _bounds(name: str, told: Any, types: int) -> tuple[float, ...]:
    hold(
        isinstance(told, list) and len(told) == types and all(number(one) and one >= 0 for one in told),
        f"{name} must be {types} finite numbers from 0 on",
        told,
    )
    return tuple(float(one) for one in told)


def _observed(told: Any) -> ObservedInputs | None:
    if told is None:
        return None
    names = {"low", "high", "share", "networks"}
    hold(
        isinstance(told, dict) and set(told) == names and all(number(one) for one in told.values()),
        f"observed_inputs must be null or the numbers {', '.join(sorted(names))}",
        told,
    )
    hold(whole(told["networks"], _MOST_NETWORKS), f"networks must be whole, from 1 to {_MOST_NETWORKS}", told)
    try:
        return ObservedInputs(float(told["low"]), float(told["high"]), float(told["share"]), told["networks"])
    except ValueError as error:
        raise CardError(f"{error}; {WAY_OUT}") from error


def _free(name: str, told: Any) -> dict[str, Any]:
    """An object of texts, finite numbers, flags, nulls, and lists and objects of them."""
    hold(isinstance(told, dict), f"{name} must be an object", type(told).__name__)
    _hold_free(name, told, _DEEPEST)
    return dict(told)


def _hold_free(name: str, told: Any, levels: int) -> None:
    if isinstance(told, float):
        hold(number(told), f"numbers in {name} must be finite", told)
    if isinstance(told, dict | list):
        hold(levels > 0, f"{name} must have at most {_DEEPEST} levels")
        for one in told.values() if isinstance(told, dict) else told:
            _hold_free(name, one, levels - 1)
