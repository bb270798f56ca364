"""What is said when a configuration is wrong: each problem with key, value, what is allowed, and the way out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from search.config_keys import Keys, key_text, keys_of, shown

M = TypeVar("M", bound=BaseModel)
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        key: dotted name of what is wrong; empty when it is not a key.
        value: what was given, as TOML would write it; empty when nothing was given.
        allowed: what is allowed, or which rule is broken, without a full stop.
        nearest: the way out, as sentences: the nearest key or value, or what to write instead; may be empty.
    """

    key: str
    value: str
    allowed: str
    nearest: str = ""

    def __str__(self) -> str:
        subject = f"{self.key} = {self.value}" if self.key and self.value else self.key or self.value
        sentence = f"{subject}: {self.allowed}." if subject else f"{self.allowed}."
        return f"{sentence} {self.nearest}" if self.nearest else sentence


class ConfigError(ValueError):
    """A configuration is wrong; its words list every problem, a line each."""

    def __init__(self, problems: Iterable[Problem], source: str = "the configuration") -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.source = source
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{count} in {source}:", *(f"  {problem}" for problem in self.problems)]))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...], str]]:
        # Exceptions are pickled by their words; this one is made of its problems.
        return ConfigError, (self.problems, self.source)


class Relation(NamedTuple):
    """Something that must hold between fields; `keys` are dotted and start at the model that states it."""

    rule: str
    holds: bool
    keys: tuple[str, ...]


def require(model: BaseModel, relations: Iterable[Relation]) -> None:
    """Refuse a model whose relations do not all hold.

    Raises:
        PydanticCustomError: names all that do not; pydantic collects it, and `checked` turns it into problems.
    """
    broken = list(_broken(model, relations))
    if broken:
        words = "; ".join(str(one["sentence"]) for one in broken)
        raise PydanticCustomError("relation", "{words}", {"words": words, "broken": broken})


def problems_of(model: BaseModel, relations: Iterable[Relation]) -> list[Problem]:
    """Those of the relations that do not hold as problems, for what a model cannot know by itself."""
    return [Problem(one["keys"][0], one["value"], one["sentence"]) for one in _broken(model, relations)]


def _broken(model: BaseModel, relations: Iterable[Relation]) -> Iterator[dict[str, Any]]:
    for relation in relations:
        if not relation.holds:
            values = [shown(_value_at(model, key)) for key in relation.keys]
            got = ", ".join(f"{key} = {value}" for key, value in zip(relation.keys, values, strict=True))
            sentence = f"`{relation.rule}` must hold, but got ({got})"
            yield {"keys": relation.keys, "value": values[0], "sentence": sentence}


def _value_at(model: object, key: str) -> Any:
    for part in key.split("."):
        model = model[part] if isinstance(model, Mapping) else getattr(model, part)
    # A whole table is shown as a recipe has it.
    return model.model_dump(exclude_none=True) if isinstance(model, BaseModel) else model


def checked(model: type[M], data: Mapping[str, Any], source: str = "the configuration") -> M:
    """Build a model from plain data.

    Raises:
        ConfigError: something is wrong with the data; all of it is listed.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        keys = keys_of(model)
        problems = [finding.problem for finding in _findings(error, keys)]
        problems += _relations_of_the_rest(model, data, error)
        # `from None`: what pydantic says about the same is for programmers.
        raise ConfigError(dict.fromkeys(problems), source) from None


class _Finding(NamedTuple):
    """A problem, and the places of the values without which it would not be."""

    problem: Problem
    places: tuple[Place, ...]
    of_relation: bool = False


def _findings(error: ValidationError, keys: Keys) -> Iterator[_Finding]:
    for detail in error.errors(include_url=False):
        # Marks in angle brackets are how alternatives are told apart, not keys.
        place = tuple(part for part in detail["loc"] if not str(part).startswith("<"))
        key, value = key_text(place), detail["input"]
        match detail["type"]:
            case "relation":
                for broken in detail["ctx"]["broken"]:
                    places = tuple((*place, *name.split(".")) for name in broken["keys"])
                    yield _Finding(Problem(key_text(places[0]), broken["value"], broken["sentence"]), places, True)
            case "extra_forbidden":
                for unknown, inside in islice(_leaves(place, value), 5):
                    yield _Finding(_unknown(unknown, inside, keys, place), (place,))
            case "missing":
                # What is there does not make a table: it is the whole table that is wrong.
                yield _Finding(Problem(key, "", f"is missing; it must be {keys.allowed(place)}"), (place[:-1],))
            case _:
                hint = keys.way_out(place, value)
                yield _Finding(Problem(key, shown(value), f"must be {keys.allowed(place)}", hint), (place,))


def _unknown(unknown: Place, value: object, keys: Keys, place: Place) -> Problem:
    key = key_text(unknown)
    near = keys.nearest_keys(key)
    if names := keys.names_with(unknown):
        table = key_text(place[:-1])
        rule = f"there is no such key in {table} of this name, only in {' or '.join(names)}"
        return Problem(key, shown(value), rule, f"Set {table}.name too, or leave this out.")
    if key in near:  # an entry of the search space has two forms, and this is a key of the other one
        table = key_text(place[:-1])
        hint = f"Give the whole entry: {table}={{low = ..., high = ...}} or {table}={{choices = [...]}}."
        return Problem(key, shown(value), "cannot stand together with the other keys there", hint)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known here: {keys.names(place[:-1])}."
    return Problem(key, shown(value), "there is no such key", hint)


def _leaves(place: Place, value: object) -> Iterator[tuple[Place, object]]:
    """The entries of an unknown table, each of which has a nearest key of its own; anything else is itself."""
    if not isinstance(value, Mapping) or not value:
        yield place, value
        return
    for name, inside in value.items():
        yield from _leaves((*place, str(name)), inside)


def _relations_of_the_rest(model: type[M], data: Mapping[str, Any], error: ValidationError) -> Iterator[Problem]:
    """Broken relations that pydantic did not get to: it looks at them only when every field is right.

    Wrong values are taken out until what is left is right, or breaks relations in which none of them has a part.
    """
    keys = keys_of(model)
    rest = _copied(data)
    removed: set[Place] = set()
    for _ in range(5):  # each round reaches one level further out; the models are nested less deeply than that
        wrong = {place for finding in _findings(error, keys) for place in finding.places}
        if () in wrong:
            return  # something without a default is missing
        removed |= wrong
        for place in wrong:
            _remove(rest, place)
        try:
            model.model_validate(rest)
            return
        except ValidationError as next_error:
            error = next_error
        for finding in _findings(error, keys):
            if finding.of_relation and not any(_overlap(one, two) for one in finding.places for two in removed):
                yield finding.problem


def _copied(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in table.items()}


def _remove(table: Any, place: Place) -> None:
    """Take out what is at a place; of an array all of it, since its other values would move."""
    for part in place[:-1]:
        inside = table.get(part)
        if not isinstance(inside, dict):
            break
        table = inside
    else:
        part = place[-1]
    table.pop(part, None)


def _overlap(one: Place, other: Place) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))
