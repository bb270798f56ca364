"""The search space: which fields of a trial can be sampled, from what, and within which limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Generic, TypeVar, get_args

from pydantic import ConfigDict, Discriminator, Field, GetCoreSchemaHandler, Tag
from pydantic_core import CoreSchema
from typing_extensions import TypedDict

from search.config_errors import Relation
from search.config_types import (
    Array,
    BaseName,
    LearningRate,
    Method,
    MutationScale,
    NumTypes,
    Spread,
    Strength,
    Table,
    Width,
)

_T = TypeVar("_T")


class _Entry(Table, Generic[_T]):
    """Abstract: what one field is sampled from."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """A name by which pickle finds the class: unlike pydantic's own it has no dot in it."""
        return re.sub(r"\W+", "_", f"{cls.__name__}_{params[0]}")

    def __repr_name__(self) -> str:
        return "Choices" if isinstance(self, Choices) else "Range"


class Range(_Entry[_T]):
    """A number sampled between two bounds, both included."""

    low: _T
    """Lowest value."""
    high: _T
    """Highest value."""
    log: bool = False
    """Whether the logarithm is sampled evenly, so that each factor of ten is as likely as any other."""
    step: _T | None = None
    """Only low, low + step, low + 2 step, ... are sampled."""

    def contains(self, value: Any) -> bool:
        """Whether a number could be sampled."""
        low: Any = self.low
        step: Any = self.step
        steps = 0.0 if step is None else (value - low) / step
        return bool(low <= value <= self.high) and abs(steps - round(steps)) < 1e-8

    def _relations(self) -> Iterator[Relation]:
        low: Any = self.low
        high: Any = self.high
        step: Any = self.step
        yield Relation("low < high", low < high, ("low", "high"))
        yield Relation("low > 0 when log = true", low > 0 or not self.log, ("low", "log"))
        if step is not None:
            # Decimals and samplers give up at some number of values; so many steps are no steps.
            fine = step >= (high - low) / 1_000_000
            yield Relation("step >= (high - low) / 1000000", fine, ("step", "low", "high"))
            yield Relation("step <= high - low", step <= high - low, ("step", "low", "high"))
            yield Relation("step is left out when log = true", not self.log, ("step", "log"))


class Choices(_Entry[_T]):
    """A value sampled from a list."""

    choices: Annotated[tuple[_T, ...], Field(min_length=1, max_length=100), Array]
    """The list, each value once."""

    def contains(self, value: Any) -> bool:
        """Whether a value could be sampled."""
        return value in self.choices

    def _relations(self) -> Iterator[Relation]:
        yield Relation("no value stands twice in choices", len(set(self.choices)) == len(self.choices), ("choices",))


def _kind_of_entry(value: object) -> str | None:
    if isinstance(value, Range | Choices):
        return "<range>" if isinstance(value, Range) else "<choices>"
    if not isinstance(value, Mapping):
        return None
    return "<choices>" if "choices" in value else "<range>"


# The tags stand in the location of an error; the angle brackets tell them from keys.
_RANGE = Tag("<range>")
_CHOICES = Tag("<choices>")
_EITHER = Discriminator(_kind_of_entry)

# At the level of the module, because only there does pydantic make these classes known by their names to pickle.
_Rates = Annotated[Annotated[Range[LearningRate], _RANGE] | Annotated[Choices[LearningRate], _CHOICES], _EITHER]
_Scales = Annotated[Annotated[Range[MutationScale], _RANGE] | Annotated[Choices[MutationScale], _CHOICES], _EITHER]
_Widths = Annotated[Annotated[Range[Width], _RANGE] | Annotated[Choices[Width], _CHOICES], _EITHER]
_Counts = Annotated[Annotated[Range[NumTypes], _RANGE] | Annotated[Choices[NumTypes], _CHOICES], _EITHER]
_Strengths = Annotated[Annotated[Range[Strength], _RANGE] | Annotated[Choices[Strength], _CHOICES], _EITHER]
_Spreads = Annotated[Annotated[Range[Spread], _RANGE] | Annotated[Choices[Spread], _CHOICES], _EITHER]
_Bases = Choices[BaseName]


class _Space(TypedDict, total=False):
    """Which keys can be sampled, and the limits of each: those of the field that it is put into."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # type: ignore[misc]
    inner_lr: _Rates
    outer_lr: _Rates
    mutation_scale: _Scales
    width: _Widths
    num_types: _Counts
    base: _Bases
    repulsion_strength: _Strengths
    repulsion_width: _Spreads


class _SpaceSchema:
    """Lets a plain dict be checked key by key, each entry within its own limits."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(_Space)


Space = Annotated[dict[str, Range[Any] | Choices[Any]], _SpaceSchema()]

SAMPLED_INTO: Final[dict[str, tuple[str, str]]] = {
    "inner_lr": ("inner", "lr"),
    "outer_lr": ("gradient", "outer_lr"),
    "mutation_scale": ("evolution", "mutation_scale"),
    "width": ("ldnn", "width"),
    "num_types": ("ldnn", "num_types"),
    "base": ("ldnn", "base"),
    "repulsion_strength": ("regime", "repulsion_strength"),
    "repulsion_width": ("regime", "repulsion_width"),
}
"""Key of the search space → section and field of a trial that the sampled value is put into."""


def sampled_keys(method: str) -> tuple[str, ...]:
    """Keys of the search space that apply to a method; the others of a space are not sampled for it.

    Raises:
        ValueError: there is no such method.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, but got {method!r}")
    other = "evolution" if method == "gradient" else "gradient"
    return tuple(key for key, (section, _) in SAMPLED_INTO.items() if section != other)
