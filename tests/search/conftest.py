"""A run that was never disturbed, made once."""

import pytest

from tests.small_runs import drive_here, new_run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    run = new_run(tmp_path_factory.mktemp("undisturbed"))
    account, _ = drive_here(run)
    assert not account.interrupted
    assert account.problems == []
    return run
