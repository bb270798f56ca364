"""Writes the pages of this folder from docstrings, from the models of the configuration, and from the tables' schemas.

    python docs/api/make.py            # write them
    python docs/api/make.py --check    # say which are out of date, and change nothing

What is public is decided here and in the ``__all__`` of packages: everything that `ldnn_core` and `analysis` name, and
of `search` the names in `SEARCH`.  Docstrings are read by griffe, without running the code.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import griffe

FOLDER: Final = Path(__file__).parent
ROOT: Final = FOLDER.parents[1]

SEARCH: Final = {
    "search.recipes": ("list_recipes", "load_recipe"),
    "search.config": ("RunConfig",),
    "search.config_errors": ("ConfigError", "Problem"),
    "search.run_folder": ("open_run", "RunFolder", "RunInfo", "RunFolderError"),
    "search.store": ("read_table", "Store", "StoreError", "SchemaError", "BadPart"),
    "search.schema": ("SCHEMA_VERSION", "Status", "FINISHED", "OBJECTIVES", "CONTROLS", "UNIQUE_KEYS", "describe"),
    "search.location": ("Location", "ObjectUrl", "parse_location", "LocationError"),
}
"""What of `search` is for programs of others: recipes, run folders and tables.  Searches are started by ``ldnn``."""

MADE: Final = "*Made by `python docs/api/make.py`; change docstrings and not this page.*"

INTRODUCTIONS: Final = {
    "ldnn_core": "The mathematics: sets, networks, training, estimators, evolution, judgement, cards. All names are"
    " imported from the package: `from ldnn_core import load_activation`. Shapes: N networks, B rows of a batch,"
    " H units, K types, P weights of a sub-network, Θ parameters of a network, T inner steps.",
    "analysis": "Reads run folders: loaders, statistics, passports, figures, the report. All names are imported from"
    " the package: `import analysis`. It needs neither Ray nor torch.",
    "search": "Recipes, run folders and tables. Names are imported from the module that is named above them. Searches"
    " themselves are started by the command `ldnn`. Keys of a recipe: [configuration.md](configuration.md); columns"
    " of tables: [tables.md](tables.md).",
}

_LONGEST_TYPE: Final = 60
"""In a list; longer ones, of keys of a recipe, are on a page of their own."""

Docs = griffe.Object


def public_names() -> dict[str, dict[str, list[Docs]]]:
    """Package → module where it is defined → what is public of it, in the order of the source."""
    loaded = {name: _load(name) for name in ("ldnn_core", "analysis", "search")}
    found: dict[str, dict[str, list[Docs]]] = {}
    for package in ("ldnn_core", "analysis"):
        module = loaded[package]
        names = [_target(module[str(name)]) for name in module.exports or ()]
        names.sort(key=lambda one: (_module(one).path, one.lineno or 0))
        found[package] = {path: list(group) for path, group in groupby(names, key=lambda one: _module(one).path)}
    found["search"] = {path: [_target(_within(loaded, f"{path}.{name}")) for name in SEARCH[path]] for path in SEARCH}
    return found


def _load(name: str) -> Docs:
    return griffe.load(name, search_paths=[ROOT], docstring_parser="google", resolve_aliases=True)


def _within(loaded: dict[str, Docs], path: str) -> Any:
    package, _, rest = path.partition(".")
    return loaded[package][rest]


def _target(found: Any) -> Docs:
    found = found.final_target if found.is_alias else found
    return found[found.name] if found.is_module else found  # a function and its module may have one name


def _module(found: Docs) -> Docs:
    return found.module


def pages() -> dict[str, str]:
    """File name → its text."""
    from configuration import configuration_page, tables_page

    result = {}
    for package, modules in public_names().items():
        lines = [f"# {package}", "", MADE, "", INTRODUCTIONS[package], ""]
        seen: Counter[str] = Counter()
        lines += [_row(path, objects, seen) for path, objects in modules.items()]
        for path, objects in modules.items():
            lines += ["", f"## {path}", "", _first_paragraph(_module(objects[0])), ""]
            for one in objects:
                lines += entry(one)
        result[f"{package}.md"] = _tidy(lines)
    result["configuration.md"] = _tidy(configuration_page(MADE))
    result["tables.md"] = _tidy(tables_page(MADE))
    return result


def _row(path: str, objects: list[Docs], seen: Counter[str]) -> str:
    names = ", ".join(f"[`{one.name}`](#{_anchor(one.name, seen)})" for one in objects)
    return f"- [{path}](#{path.replace('.', '')}): {names}"


def _anchor(name: str, seen: Counter[str]) -> str:
    """Where a heading is found; code hosts know no capital letters, and number those that are equal without them."""
    seen[name.lower()] += 1
    earlier = seen[name.lower()] - 1
    return f"{name.lower()}-{earlier}" if earlier else name.lower()


def _first_paragraph(module: Docs) -> str:
    return module.docstring.value.partition("\n\n")[0].replace("\n", " ") if module.docstring else ""


def entry(found: Docs, level: int = 3, name: str = "") -> Iterator[str]:
    """The lines of one name: what to write, what it does, its arguments, and what it has."""
    yield from ("#" * level + f" {name or found.name}", "", *_signature(found, name), *_described(found))
    if found.is_attribute and isinstance(found.value, griffe.ExprDict):
        yield from (f"Keys: {', '.join(f'`{_plain(key)}`' for key in found.value.keys)}.", "")
    if found.is_class:
        members = [one for one in found.members.values() if not one.is_alias and _is_shown(found, one)]
        values = [one for one in members if one.is_attribute]
        if values:
            yield from ("Values:" if has_no_arguments(found) else "Properties:", "")
            yield from (f"- `{one.name}`{_kind(one)}: {_one_line(one)}" for one in values)
        yield ""
        for one in members:
            if one.is_function:
                yield from entry(one, level + 1, f"{found.name}.{one.name}")


def _plain(key: Any) -> str:
    return str(key).strip("\"'")


def _is_shown(owner: Docs, member: Any) -> bool:
    told = {one.name for section in _sections(owner) if section.kind.value in _NAMED for one in section.value}
    return not member.name.startswith("_") and bool(member.docstring) and member.name not in told


def _kind(member: Any) -> str:
    if member.annotation:
        return f" (`{member.annotation}`)" if len(str(member.annotation)) <= _LONGEST_TYPE else ""
    return f" = `{member.value}`" if member.value else ""


def _one_line(found: Any) -> str:
    return " ".join(found.docstring.value.split())


def _signature(found: Docs, name: str) -> Iterator[str]:
    if found.is_attribute:
        text = f"{found.name}: {found.annotation}" if found.annotation else f"{found.name} = {found.value}"
    elif has_no_arguments(found):
        text = f"class {found.name}({', '.join(str(base) for base in found.bases)})"
    else:
        parameters = _shown_parameters(found)
        returns = f" -> {found.returns}" if found.is_function and found.returns else ""
        text = f"{name or found.name}({', '.join(parameters)}){returns}"
        if len(text) > 100:
            text = f"{name or found.name}(\n    " + ",\n    ".join(parameters) + f",\n){returns}"
    yield from ("```python", text, "```")


def has_no_arguments(found: Any) -> bool:
    """Whether it is an enum, an error or a table of a recipe, of which nobody wants to see how it is made."""
    kinds = ("Enum", "Error", "Exception", "Protocol", "Table")
    return found.is_class and any(str(base).endswith(kinds) for base in found.bases)


def _shown_parameters(found: Any) -> list[str]:
    shown, starred = [], False
    for one in found.parameters:
        if one.name in ("self", "cls"):
            continue
        kind = str(one.kind.value)
        starred = starred or kind.startswith("variadic positional")
        if kind == "keyword-only" and not starred:
            shown, starred = [*shown, "*"], True
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        told = f": {one.annotation}" if one.annotation else ""
        equals = " = " if told else "="
        default = "" if one.default is None or stars else f"{equals}{one.default}"
        shown.append(f"{stars}{one.name}{told}{default}")
    return shown


_NAMED: Final = {"parameters": "Arguments", "attributes": "Attributes", "other parameters": "Arguments"}
_TYPED: Final = {"returns": "Returns", "yields": "Yields", "raises": "Raises"}


def _sections(found: Any) -> list[Any]:
    return list(found.docstring.parsed) if found.docstring else []


def _described(found: Docs) -> Iterator[str]:
    for section in _sections(found):
        kind = section.kind.value
        if kind == "text":
            yield from ("", section.value, "")
        elif kind in _NAMED:
            yield from ("", f"{_NAMED[kind]}:", "")
            yield from (f"- `{one.name}`: {' '.join(one.description.split())}" for one in section.value)
        elif kind in _TYPED:
            yield from ("", f"{_TYPED[kind]}:", "")
            for one in section.value:
                which = f"`{one.annotation}`: " if kind == "raises" else ""
                yield f"- {which}{' '.join(one.description.split())}"
        else:
            raise ValueError(f"{found.path}: a section of kind {kind!r} is none of those that this page shows")
    yield ""


def _tidy(lines: Iterable[str]) -> str:
    text = "\n".join(line.rstrip() for line in "\n".join(lines).splitlines())
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main(arguments: list[str]) -> int:
    """Write the pages, or say which would change."""
    changed = []
    for name, text in pages().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            changed.append(name)
            if "--check" not in arguments:
                path.write_text(text, encoding="utf-8")
    words = "is out of date" if "--check" in arguments else "written"
    sys.stdout.writelines(f"{name} {words}\n" for name in changed)
    return 1 if changed and "--check" in arguments else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
