"""From what went wrong to words on the terminal and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.text import Text

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_WRONG_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130


class InputError(ValueError):
    """What a command was given cannot be used; the words say why and what to do."""


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors that a person can mend into a sentence and an exit code; let all others be seen whole."""
    from analysis import PassportError
    from analysis import RunFolderError as AnalysisRunFolderError
    from search.compaction import CompactionError
    from search.config_errors import ConfigError
    from search.durable import StoreError
    from search.location import LocationError
    from search.ray_setup import AddressError, ClusterError
    from search.run_folder import RunFolderError
    from search.search_plan import SamplingChangedError

    wrong_input = (ConfigError, LocationError, RunFolderError, AnalysisRunFolderError, SamplingChangedError)
    try:
        yield
    except (*wrong_input, InputError, AddressError, PassportError, CompactionError) as error:
        say_error(error)
        sys.exit(EXIT_WRONG_INPUT)
    except _errors_of_data() as error:
        say_error(error)
        sys.exit(EXIT_WRONG_INPUT)
    except (StoreError, ClusterError) as error:
        say_error(error)
        sys.exit(EXIT_FAILED)


def _errors_of_data() -> tuple[type[Exception], ...]:
    """What missing or other data raise, if anything that could raise it has been loaded."""
    tasks = sys.modules.get("ldnn_core.tasks")
    return () if tasks is None else (tasks.DataError,)


def say_error(error: Exception) -> None:
    """Print its words where errors are told."""
    out = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
    out.print(Text.assemble(("error:", "bold red"), f" {error}"))
