"""The commands that the report names for missing figures are commands that there are."""

import shlex

import pytest
from typer.main import get_command

from analysis import FIGURES
from jobs.cli import app
from jobs.running import RECIPES
from search.recipes import load_recipe


@pytest.mark.parametrize("name", FIGURES)
def test_the_command_is_understood(name):
    program, word, *rest = shlex.split(FIGURES[name].command)
    assert program == "ldnn"
    command = get_command(app).commands[word]
    context = command.make_context(word, list(rest))  # it takes the list apart
    if word == "search":
        assert rest[0] == "RECIPE"
        load_recipe("quickstart", context.params["settings"], folder=RECIPES)
