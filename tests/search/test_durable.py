import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import search
from search.durable import CRASH_EXIT, StoreError, crash_point, describe_failure, place_once, sync_folder

ROOT = Path(search.__file__).parents[1]


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    (tmp_path / ".staging").mkdir()
    (tmp_path / "steps").mkdir()
    return tmp_path / ".staging"


def refuse_links(monkeypatch: pytest.MonkeyPatch, number: int = errno.EPERM) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_the_first_file_stands(staging: Path) -> None:
    target = staging.parent / "steps" / "a"
    assert place_once(b"first", target, staging=staging)
    assert not place_once(b"second", target, staging=staging)
    assert target.read_bytes() == b"first"
    assert list(staging.iterdir()) == []


def test_the_first_file_stands_where_links_are_missing(staging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch)
    target = staging.parent / "steps" / "a"
    assert place_once(b"first", target, staging=staging)
    assert not place_once(b"second", target, staging=staging)
    assert target.read_bytes() == b"first"
    assert [path.name for path in staging.iterdir()] == [".rename.lock"]


def test_one_of_many_wins_where_links_are_missing(staging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch, errno.EOPNOTSUPP)
    target = staging.parent / "steps" / "a"
    won: list[int] = []

    def place(number: int) -> None:
        if place_once(b"%d" % number, target, staging=staging):
            won.append(number)

    threads = [threading.Thread(target=place, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [target.read_bytes()] == [b"%d" % number for number in won]


def test_a_link_whose_answer_was_lost_counts_as_ours(staging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    assert place_once(b"ours", staging.parent / "steps" / "a", staging=staging)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "could not publish a in .*steps: No space left on device. The disk.* is full: free some space"),
        (errno.EDQUOT, "a quota or a limit on file sizes is full"),
        (errno.EROFS, "Read-only file system. This process may not do that there: make the run folder .* writable"),
        (errno.EACCES, "make the run folder readable and writable"),
        (errno.EIO, "Input/output error. See to the disk, then `ldnn resume` the run"),
    ],
)
def test_a_failure_says_what_where_and_the_way_out(
    staging: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    refuse_links(monkeypatch, number)
    with pytest.raises(StoreError, match=words):
        place_once(b"data", staging.parent / "steps" / "a", staging=staging)
    assert list(staging.iterdir()) == []
    assert list((staging.parent / "steps").iterdir()) == []


@pytest.mark.parametrize("gone", ["steps", ".staging"])
def test_a_vanished_folder_is_said(staging: Path, gone: str) -> None:
    (staging.parent / gone).rmdir()
    with pytest.raises(StoreError, match=r"No such file or directory\. A folder of the run is missing: put it back"):
        place_once(b"data", staging.parent / "steps" / "a", staging=staging)


def test_a_full_disk_leaves_nothing_behind(staging: Path) -> None:
    done = run(
        "import resource; from pathlib import Path; from search.durable import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"root = Path({str(staging.parent)!r})\n"
        "try: place_once(bytes(5000), root / 'steps' / 'a', staging=root / '.staging')\n"
        "except StoreError as error: print(error)\n"
    )
    assert "File too large. The disk, a quota or a limit on file sizes is full" in done.stdout, done.stderr
    assert list(staging.iterdir()) == []
    assert list((staging.parent / "steps").iterdir()) == []


def test_a_folder_that_cannot_be_flushed_by_design_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fsync", fsync)
    error = errno.EINVAL
    sync_folder(tmp_path)
    error = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)


def test_a_failure_without_a_number_is_told_in_its_own_words() -> None:
    assert describe_failure("x", OSError("odd")) == "could not x: odd. See to the disk, then `ldnn resume` the run."


def test_a_crash_point_ends_the_process_only_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LDNN_CRASH_POINT", raising=False)
    crash_point("linked", "steps/part-a")
    code = "from search.durable import crash_point\ncrash_point('linked', 'steps/part-a'); print('alive')"
    assert run(code, LDNN_CRASH_POINT="linked").returncode == CRASH_EXIT
    assert run(code, LDNN_CRASH_POINT="linked@steps/").returncode == CRASH_EXIT
    assert run(code, LDNN_CRASH_POINT="linked@trials/").stdout == "alive\n"
