"""A run that nothing happens to, made once in this process and without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from search.run_folder import RunFolder
from tests.faults.harness import LONG_RUN, temporary_folder_of_their_own
from tests.small_runs import drive_here, new_run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder; the runs that are hurt have the same configuration."""
    run = new_run(tmp_path_factory.mktemp("whole"), **LONG_RUN)
    account, _ = drive_here(run)
    assert account.problems == []
    return run.path


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a short name, for the paths of sockets, in which drivers of this test put what is Ray's."""
    with temporary_folder_of_their_own(monkeypatch.setenv) as folder:
        yield folder


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report at the end of a run takes seconds and is no part of it."""
    monkeypatch.setattr("jobs.running._write_report", lambda run: run.path)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same of the smallest run."""
    run = new_run(tmp_path_factory.mktemp("undisturbed"))
    account, _ = drive_here(run)
    assert account.problems == []
    return run
