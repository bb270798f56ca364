"""Which keys a configuration has, what each allows, and which key or value was probably meant.

All of it is read from the JSON schema of the models, so that a message cannot differ from what is checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cache
from typing import Any

from pydantic import BaseModel

Node = Mapping[str, Any]
Location = Sequence[str | int]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_LONGEST_SHOWN = 80


def key_text(location: Location) -> str:
    """A location as people write it, e.g. ``evaluation.widths[1]``; odd keys quoted, so that none fakes a line."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.match(part) else _shortened(repr(part)))
    return text


def shown(value: object) -> str:
    """A value about as TOML writes it, on one line and shortened."""
    return _shortened(_written(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a whole number of more than 30 digits"  # Python refuses to write very long ones
    if isinstance(value, list | tuple):
        # Ten values are more than are shown in the end.
        return f"[{', '.join(_written(one) for one in value[:10])}{', ...' if len(value) > 10 else ''}]"
    if isinstance(value, Mapping):
        entries = (f"{key_text([str(key)])} = {_written(one)}" for key, one in list(value.items())[:10])
        return f"{{{', '.join(entries)}}}"
    return repr(value) if isinstance(value, str | int | float) else str(value)


def likeness(one: str, other: str) -> float:
    """How alike two words are, from 0 to 1, upper and lower case being the same."""
    return SequenceMatcher(None, one.casefold()[:200], other.casefold()[:200]).ratio()


def nearest(word: str, words: Sequence[str], at_least: float = 0.5) -> str | None:
    """The word most like the given one; None when there is none like it."""
    best = max(words, key=lambda other: likeness(word, other), default=None)
    return best if best is not None and likeness(word, best) >= at_least else None


@cache
def keys_of(model: type[BaseModel]) -> Keys:
    """The keys of a model and of all models within it."""
    return Keys(model.model_json_schema())


class Keys:
    """The keys of a configuration, found in its JSON schema.

    Attributes:
        known: dotted name of every table and field → its part of the schema.
    """

    def __init__(self, schema: Node) -> None:
        self._definitions: Node = schema.get("$defs", {})
        self._root = schema
        self.known: dict[str, Node] = {}
        for name, node in self._walk((), schema):
            # Tables with a name have the same key in several forms.
            self.known[name] = _either([self.known[name], node]) if name in self.known else node

    def _variants(self, node: Node) -> list[Node]:
        """A node's alternatives with references followed; null, which only defaults use, is left out."""
        if "$ref" in node:
            return self._variants(self._definitions[node["$ref"].rsplit("/", 1)[-1]])
        alternatives = node.get("oneOf") or node.get("anyOf")
        if alternatives:
            return [variant for one in alternatives for variant in self._variants(one)]
        return [] if node.get("type") == "null" else [node]

    def _walk(self, path: tuple[str, ...], node: Node) -> Iterator[tuple[str, Node]]:
        for variant in self._variants(node):
            for name, child in variant.get("properties", {}).items():
                yield ".".join((*path, name)), child
                yield from self._walk((*path, name), child)
            if "items" in variant:
                yield from self._walk(path, variant["items"])

    def allowed(self, location: Location) -> str:
        """What the key at a location must be, e.g. "a whole number from 1 to 4096"."""
        node = self._at(location)
        return self._description(node) if node is not None else "something else"

    def names(self, location: Location) -> str:
        """The keys of the table at a location, as a list in words."""
        known = [variant.get("properties", {}) for variant in self._variants(self._at(location) or self._root)]
        return ", ".join(dict.fromkeys(name for properties in known for name in properties))

    def _at(self, location: Location) -> Node | None:
        node: Node | None = self._root
        for part in location:
            node = self._child(node, part) if node is not None else None
        return node

    def _child(self, node: Node, part: str | int) -> Node | None:
        variants = self._variants(node)
        if isinstance(part, int):
            found = [variant["items"] for variant in variants if "items" in variant]
        else:
            found = [variant["properties"][part] for variant in variants if part in variant.get("properties", {})]
        return _either(found) if found else None

    def names_with(self, location: Location) -> list[str]:
        """Of tables that are told apart by their name: the names of those that have the key at a location."""
        if len(location) < 2:
            return []
        *place, key = location
        variants = [one.get("properties", {}) for one in self._variants(self._at(place) or {})]
        return [value for one in variants if key in one and "name" in one for value in _values(one["name"])]

    def _description(self, node: Node) -> str:
        variants = self._variants(node)
        values = [value for variant in variants for value in _values(variant)]
        if len(variants) > 1 and all(_values(variant) for variant in variants):
            return f"one of {', '.join(values)}"
        names = [name for variant in variants for name in _values(variant.get("properties", {}).get("name", {}))]
        if len(names) > 1:
            return f"a table with a name, one of {', '.join(names)}, and the keys of that"
        return " or ".join(dict.fromkeys(self._description_of_variant(one) for one in self._variants(node)))

    def _description_of_variant(self, node: Node) -> str:
        if "allowed" in node:
            return str(node["allowed"])
        values = _values(node)
        if values:
            return f"one of {', '.join(values)}" if len(values) > 1 else values[0]
        match node.get("type"):
            case "object":
                names = list(node.get("properties", {}))
                return f"a table with the {'keys' if len(names) > 1 else 'key'} {', '.join(names)}"
            case "array":
                least, most = node.get("minItems", 0), node.get("maxItems")
                return f"a list of {least} to {most} values, each {self._description(node['items'])}"
            case "integer":
                return f"a whole number{_limits(node)}"
            case "number":
                return f"a number{_limits(node)}"
            case "string":
                return f"a text of at most {node['maxLength']} characters" if "maxLength" in node else "a text"
            case "boolean":
                return "true or false"
        return "something else"

    def nearest_keys(self, key: str) -> list[str]:
        """The keys most like the given one, best first: by their last word, then by the tables they stand in."""
        parent, _, last = key.rpartition(".")
        scores = {}
        for known in self.known:
            known_parent, _, known_last = known.rpartition(".")
            alike = likeness(last, known_last)
            if known.count(".") > 2 and likeness(parent.rpartition(".")[2], known_parent.rpartition(".")[2]) < 0.8:
                continue  # every entry of the search space has low and high: only those of this entry can be meant
            if alike >= 0.65 or likeness(key, known) >= 0.8:
                scores[known] = alike + 0.3 * likeness(parent, known_parent) * bool(parent)
        if not scores:
            return []
        best = max(scores.values())
        near = [known for known, score in scores.items() if score >= best - 0.05]
        return sorted(near, key=lambda known: (-scores[known], known.count(".")))[:3]

    def way_out(self, location: Location, value: object) -> str:
        """What was probably meant by a wrong value, as a sentence; empty when nobody knows."""
        node = self._at(location)
        if node is None:
            return ""
        variants = self._variants(node)
        kinds = {variant.get("type") for variant in variants}
        if "array" in kinds and not isinstance(value, list | tuple | Mapping):
            return f"Write [{value}]." if not isinstance(value, str) or "," in value else f"Write [{shown(value)}]."
        if any("choices" in variant.get("properties", {}) for variant in variants) and not isinstance(value, Mapping):
            return f"Write {{choices = {shown(value if isinstance(value, list | tuple) else [value])}}}."
        if isinstance(value, str):
            named = [name for variant in variants for name in _values(variant)]
            if named:
                return self._nearest_value(value, named)
            return _unquoted(value, kinds)
        if isinstance(value, float) and value.is_integer() and "integer" in kinds:
            return f"Write {shown(int(value))}, without a point or exponent."
        return ""

    def _nearest_value(self, value: str, named: Sequence[str]) -> str:
        sentences = []
        own = nearest(value, named)
        if own is not None:
            sentences.append(f"Did you mean {own!r}?")
        # A word may be right and its key wrong: method = 'genetic'.
        closeness = max(0.75, likeness(value, own) if own is not None else 0)
        elsewhere: dict[str, list[str]] = {}
        for key, node in self.known.items():
            for variant in self._variants(node):
                for name in _values(variant):
                    if name not in named and likeness(value, name) >= closeness:
                        elsewhere.setdefault(name, []).append(key)
        sentences += [f"{name!r} is a value of {' and '.join(keys)}." for name, keys in elsewhere.items()]
        return " ".join(sentences)


def _either(nodes: Sequence[Node]) -> Node:
    """A node that allows what any of several allows; only one of equal ones is kept."""
    kept: list[Node] = []
    for node in nodes:
        kept += [one for one in node.get("anyOf", [node]) if one not in kept]
    return kept[0] if len(kept) == 1 else {"anyOf": kept}


def _values(node: Node) -> list[str]:
    """The words that a node allows; empty when it allows others than words."""
    values = node.get("enum") or ([node["const"]] if "const" in node else [])
    return [str(value) for value in values]


def _limits(node: Node) -> str:
    words = []
    if "exclusiveMinimum" in node:
        words.append(f"above {_plain(node['exclusiveMinimum'])}")
    if "exclusiveMaximum" in node:
        words.append(f"below {_plain(node['exclusiveMaximum'])}")
    if "minimum" in node and "maximum" in node:
        return f" from {_plain(node['minimum'])} to {_plain(node['maximum'])}"
    if "minimum" in node:
        words.insert(0, f"at least {_plain(node['minimum'])}")
    if "maximum" in node:
        words.append(f"at most {_plain(node['maximum'])}")
    return f" {' and '.join(words)}" if words else ""


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _unquoted(text: str, kinds: set[Any]) -> str:
    """A hint for a number or truth value that did not parse as TOML, such as ``.5`` or ``True``."""
    if "boolean" in kinds and text.casefold() in {"true", "false"}:
        return f"Write {text.casefold()}, without quotes."
    if kinds & {"integer", "number"}:
        try:
            number = float(text)
        except ValueError:
            return ""
        if math.isfinite(number):
            written = int(number) if "integer" in kinds and number.is_integer() else number
            return f"Write {shown(written)}, without quotes."
    return ""
