"""Recipes: configurations of runs as TOML files with a name, and the ``--set a.b=c`` that changes them.

A recipe is found by its name among those that come with the package, whose folder the caller gives, or by its path.
It may start with ``extends = "other"``: the other recipe, from the same folder or from the package, is read first,
and the tables of this one are laid over it key by key.
"""

from __future__ import annotations

import copy
import errno
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from search.config import RunConfig
from search.config_errors import ConfigError, Problem, checked
from search.config_keys import keys_of, nearest, shown
from search.config_space import SAMPLED_INTO
from search.scales import FULL, scaled

LARGEST_RECIPE: Final = 64 * 1024
"""Bytes; a recipe is read by people."""
LONGEST_OVERRIDE: Final = 4000
"""Characters."""
DEEPEST_TABLE: Final = 8
"""Tables within tables; the configuration itself has five levels."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")


def list_recipes(folder: Path) -> list[tuple[str, str]]:
    """Name and description of every recipe in a folder, by name.

    Raises:
        ConfigError: one of them cannot be read.
    """
    found = []
    for path in sorted(folder.glob("*.toml")):
        found.append((path.stem, str(_read(path).get("description", ""))))
    return found


def load_recipe(name_or_path: str, overrides: Sequence[str] = (), *, folder: Path) -> RunConfig:
    """The configuration that a recipe describes.

    Args:
        name_or_path: name of a recipe in `folder`, or path of a ``.toml`` file.
        overrides: ``a.b=c`` each; c is TOML, or else plain text.  The last override of a key wins.  ``scale=NAME``
            is laid over the recipe first; see `search.scales`.
        folder: where the recipes that have names are.

    Raises:
        ConfigError: the recipe is not there or not TOML, or its content or an override is wrong; lists all problems.
    """
    source = f"recipe {shown(name_or_path)}"
    path = _find(name_or_path, folder)
    table = _with_base(path, folder)
    table.setdefault("name", path.stem)
    scales = [override for override in overrides if override.partition("=")[0].strip() == "scale"]
    name = _value(scales[-1].partition("=")[2].strip()) if scales else FULL
    defaults = RunConfig(name="recipe").model_dump()
    table = scaled(table, name, source, _laid_over, defaults)
    return overridden(table, [override for override in overrides if override not in scales], source)


def overridden(stored: Mapping[str, Any], overrides: Sequence[str], source: str) -> RunConfig:
    """The configuration that a table with some values changed describes.

    Args:
        stored: the table, in the form that recipes have.
        overrides: ``a.b=c`` each; c is TOML, or else plain text.  The last override of a key wins.
        source: what the table is, for the words.

    Raises:
        ConfigError: its content or an override is wrong; lists all problems.
    """
    table = copy.deepcopy(dict(stored))
    named = [override.partition("=")[2] for override in overrides if override.partition("=")[0].strip() == "task.name"]
    if named and _is_another_task(table.get("task"), {"name": _value(named[-1].strip())}):
        del table["task"]
    problems: list[Problem] = []
    changed: list[str] = []
    for override in overrides:
        problem = _apply(table, override, changed)
        if problem is not None:
            problems.append(problem)
    problems += _overrides_without_effect(table, changed)
    try:
        run = checked(RunConfig, table, source)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems], source) from None
    if problems:
        raise ConfigError(problems, source)
    return run


def _find(name_or_path: str, folder: Path) -> Path:
    if name_or_path.endswith(".toml"):
        return Path(name_or_path)
    known = [path.stem for path in sorted(folder.glob("*.toml"))]
    if name_or_path in known:
        return folder / f"{name_or_path}.toml"
    near = nearest(name_or_path, known)
    hint = f"Did you mean {near!r}?" if near is not None else ""
    allowed = f"there is no recipe of this name; there are {', '.join(known)}, or give the path of a .toml file"
    raise ConfigError([Problem("", shown(name_or_path), allowed, hint)], "the name of the recipe")


def _read(path: Path) -> dict[str, Any]:
    """The content of a TOML file of reasonable size."""
    try:
        content = _content(path)
        table = tomllib.loads(content.decode())
        wrong = f"has tables within tables more than {DEEPEST_TABLE} deep" if _depth(table) > DEEPEST_TABLE else ""
    except FileNotFoundError:
        wrong = "there is no such file"
    except OSError as error:
        wrong = f"cannot be read ({error.strerror})"
    except UnicodeDecodeError as error:
        wrong = f"is not UTF-8 text (byte {error.start} is wrong)"
    except RecursionError:
        wrong = "has brackets within brackets too deeply"
    except ValueError as error:
        wrong = f"is not TOML: {error}"
    if wrong:
        raise ConfigError([Problem("", shown(str(path)), wrong)], "the recipe file")
    task = table.get("task")
    if isinstance(task, dict) and isinstance(task.get("path"), str) and task["path"]:
        # A recipe says where data lies as seen from itself; on the command line it is as seen from the working folder.
        task["path"] = str(path.absolute().parent / Path(task["path"]).expanduser())
    return table


def _content(path: Path) -> bytes:
    # What a path names is asked before it is opened, because opening a pipe would wait for ever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        content = file.read(LARGEST_RECIPE + 1)
    if len(content) > LARGEST_RECIPE:
        raise OSError(errno.EFBIG, f"larger than {LARGEST_RECIPE} bytes, which no recipe is")
    return content


def _depth(table: object) -> int:
    """How deep tables and lists are nested, counted without recursion, for a hostile file nests them very deeply."""
    level, depth = [table], 0
    while level:
        inside = [one for value in level if isinstance(value, dict | list) for one in _children(value)]
        level, depth = inside, depth + 1
    return depth - 1


def _children(value: dict[str, object] | list[object]) -> list[object]:
    return list(value.values()) if isinstance(value, dict) else value


def _with_base(path: Path, folder: Path) -> dict[str, Any]:
    """A recipe laid over the one that it extends; a base does not extend another, so there is no going in circles."""
    table = _read(path)
    if "extends" not in table:
        return table
    name = table.pop("extends")
    source = f"recipe {shown(str(path))}"
    if not isinstance(name, str) or not _NAME.match(name):
        problem = Problem("extends", shown(name), "must be the name of another recipe, without folder and .toml")
        raise ConfigError([problem], source)
    beside = path.parent / f"{name}.toml"
    base_path = beside if beside.is_file() else _find(name, folder)
    if base_path.resolve() == path.resolve():
        raise ConfigError([Problem("extends", shown(name), "a recipe cannot extend itself")], source)
    base = _read(base_path)
    if "extends" in base:
        rule = f"must be a recipe that extends none, but it extends {shown(base['extends'])}"
        raise ConfigError([Problem("extends", shown(name), rule)], source)
    base.pop("name", None)  # a run is named after its own recipe
    if _is_another_task(base.get("task"), table.get("task")):
        del base["task"]
    return _laid_over(base, table)


def _laid_over(base: Mapping[str, Any], table: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    merged = dict(base)
    for key, value in table.items():
        below = merged.get(key)
        # An entry of the search space is one thing: a range laid over choices would be neither.
        if isinstance(value, dict) and isinstance(below, dict) and path != ("search", "space"):
            merged[key] = _laid_over(below, value, (*path, key))
        else:
            merged[key] = value
    return merged


def _is_another_task(below: object, above: object) -> bool:
    """Whether a table [task] names another task than the one below it, whose keys then say nothing any more."""
    if not isinstance(below, dict) or not isinstance(above, dict) or "name" not in above:
        return False
    return bool(above["name"] != below.get("name", "mnist1d"))


def _apply(table: dict[str, Any], override: str, changed: list[str]) -> Problem | None:
    """Put one override into the table, in place; says what is wrong with its form."""
    form = "must have the form key=value, for example ldnn.width=50"
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or len(override) > LONGEST_OVERRIDE or not _KEY.match(key):
        if len(override) > LONGEST_OVERRIDE:
            form = f"is longer than {LONGEST_OVERRIDE} characters"
        near = keys_of(RunConfig).nearest_keys(key) if _KEY.match(key) else []
        return Problem("", f"--set {shown(override)}", form, f"Did you mean {near[0]}=...?" if near else "")
    if key == "extends":
        return Problem(key, shown(text), "can only stand in a recipe file")
    *tables, last = key.split(".")
    if len(tables) >= DEEPEST_TABLE:
        return Problem(shown(key), "", f"has more than {DEEPEST_TABLE} parts, which no key has")
    value = _value(text.strip())
    for depth, part in enumerate(tables, start=1):
        inside = table.setdefault(part, {})
        if not isinstance(inside, dict):
            return Problem(key, shown(value), f"{'.'.join(tables[:depth])} is a single value and has no keys in it")
        table = inside
    table[last] = value
    changed.append(key)
    return None


def _value(text: str) -> object:
    """The value of an override: as TOML if it is TOML, otherwise as plain text."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    # More keys than one mean that the text has a line break, after which TOML took the rest for another entry.
    if set(table) != {"value"} or _depth(table) > DEEPEST_TABLE:
        return text
    return table["value"]


def _overrides_without_effect(table: Mapping[str, Any], changed: Sequence[str]) -> list[Problem]:
    """Overrides of fields that the recipe's search space overwrites in every trial: nobody means that."""
    search = table.get("search")
    space = search.get("space") if isinstance(search, dict) else None
    if not isinstance(space, dict):
        return []
    problems = []
    for name, (section, field) in SAMPLED_INTO.items():
        key = f"{section}.{field}"
        if key in changed and name in space:
            inside = table[section]
            value = shown(inside.get(field) if isinstance(inside, dict) else inside)
            rule = f"has no effect, because search.space.{name} is sampled into it in every trial"
            instead = f'--set "search.space.{name}={{choices=[{value}]}}"'
            hint = f"Write {instead} instead, or sample nothing: search.space={{}}."
            problems.append(Problem(key, value, rule, hint))
    return problems
