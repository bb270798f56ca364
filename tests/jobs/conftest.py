"""A recipe that takes seconds, and a run of it that was never disturbed."""

import json

import pytest

from tests.jobs.calls import ldnn
from tests.small_runs import TINY


def toml(table, path=()):
    """Tables of the kind that recipes have, as TOML."""
    lines = [f"[{'.'.join(path)}]"] if path else []
    lines += [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += toml(value, (*path, key))
    return lines


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text("\n".join(toml(TINY)))
    return path


@pytest.fixture(scope="session")
def undisturbed(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    answer = ldnn("search", recipe, "--out", out)
    assert answer.code == 0, answer.err
    return out / "tiny", answer
