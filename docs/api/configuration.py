"""The pages of the keys of a recipe, from the models that check them, and of the columns of tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from search.config import RunConfig
from search.config_space import SAMPLED_INTO
from search.schema import SCHEMA_VERSION, TABLES, UNIQUE_KEYS, describe

_BOUNDS: Final = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_TASKS: Final = "oneOf"


def configuration_page(made: str) -> Iterator[str]:
    """Every key of a recipe with its values, what it is by default, and what it means."""
    schema = RunConfig.model_json_schema()
    parts = schema["$defs"]
    yield from ("# Configuration", "", made, "")
    yield (
        "A recipe is a TOML file with these tables; what it leaves out has the value in the third column. `--set"
        " table.key=value` changes one value. What must hold between keys is said when it does not."
    )
    yield from ("", "## Keys without a table", "")
    plain = {key: field for key, field in schema["properties"].items() if not _tables_of(field, parts)}
    yield from _keys(plain, parts)
    for key, field in schema["properties"].items():
        tables = _tables_of(field, parts)
        for table in tables:
            own = f', name = "{table["properties"]["name"]["const"]}"' if len(tables) > 1 else ""
            yield from ("", f"## [{key}]{own}", "", _text(table["description"]), "")
            yield from _keys(table["properties"], parts)
    yield from ("", "## [search.space]", "", "Each key of this table is sampled, trial by trial, and replaces:", "")
    yield from ("| key | replaces |", "|---|---|")
    yield from (f"| `{key}` | `{section}.{name}` |" for key, (section, name) in SAMPLED_INTO.items())
    yield ""
    yield "An entry is `{ low = ..., high = ... }`, with `log = true` or `step = ...`, or it is `{ choices = [...] }`."


def _tables_of(field: dict[str, Any], parts: dict[str, Any]) -> list[dict[str, Any]]:
    refs = [field] if "$ref" in field else field.get(_TASKS, [])
    return [parts[one["$ref"].rpartition("/")[2]] for one in refs]


def _keys(fields: dict[str, Any], parts: dict[str, Any]) -> Iterator[str]:
    yield from ("| key | values | default | meaning |", "|---|---|---|---|")
    for key, field in fields.items():
        default = _value(field["default"]) if "default" in field else ""
        yield f"| `{key}` | {_allowed(field, parts)} | {default} | {_text(field['description'])} |"


def _allowed(field: dict[str, Any], parts: dict[str, Any]) -> str:
    """The values that a key may have, in words."""
    if "allowed" in field:
        return str(field["allowed"])
    if "const" in field:
        return _value(field["const"])
    if "enum" in field:
        return ", ".join(_value(one) for one in field["enum"])
    if "$ref" in field:
        return "a table, see [search.space]" if field["$ref"].endswith("_Space") else "a table"
    if "anyOf" in field:
        return " or ".join(_allowed(one, parts) for one in field["anyOf"])
    if field["type"] == "array":
        items = field["items"]
        of = "tables" if "$ref" in items or _TASKS in items else _allowed(items, parts)
        ends = [str(field[end]) for end in ("minItems", "maxItems") if end in field]
        return f"list of {' to '.join(ends) if len(ends) > 1 else 'at most ' + ends[0] if ends else 'any number'}: {of}"
    name = {"integer": "whole number", "number": "number", "boolean": "true, false", "string": "text"}[field["type"]]
    bounds = [f"{sign} {_number(field[key])}" for key, sign in _BOUNDS.items() if key in field]
    return f"{name} {' and '.join(bounds)}".strip()


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return f"`[{', '.join(str(one) for one in value)}]`"
    return f"`{value}`" if value != "" else "nothing"


def _text(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|")


def tables_page(made: str) -> Iterator[str]:
    """Every column of every table of a run folder."""
    yield from ("# Tables", "", made, "")
    yield (
        f"Columns of the Parquet tables of a run folder, schema version {SCHEMA_VERSION}. How to read them:"
        " [data.md](../data.md). A cell may be null where its meaning has no value."
    )
    for table, schema in TABLES.items():
        key = ", ".join(f"`{name}`" for name in UNIQUE_KEYS[table])
        yield from (
            "",
            f"## {table}",
            "",
            f"One row for each {key}.",
            "",
            "| column | type | meaning |",
            "|---|---|---|",
        )
        meanings = describe(table)
        yield from (f"| `{field.name}` | {field.type} | {_text(meanings[field.name])} |" for field in schema)
