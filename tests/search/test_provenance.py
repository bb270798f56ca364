import hashlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import provenance
from search.provenance import canonical_json, code_version, config_hash, hostname, library_versions

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own with one commit, in the place of this one."""
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "a.py").write_text("1\n")
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "_CHECKOUT", tmp_path.resolve())
    return tmp_path


@pytest.fixture(autouse=True)
def _forget() -> Any:
    code_version.cache_clear()
    yield
    code_version.cache_clear()


def test_the_code_version_is_the_package_and_the_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "1.2.3")
    monkeypatch.setenv("GIT_DIR", "/somewhere/else")
    commit = subprocess.run(
        ["git", "--git-dir", ".git", "rev-parse", "HEAD"], cwd=checkout, check=True, capture_output=True, text=True
    ).stdout
    assert code_version() == (f"1.2.3+g{commit[:12]}", False)
    (checkout / "search" / "a.py").write_text("2\n")
    assert code_version() == (f"1.2.3+g{commit[:12]}", False), "asked once per process"
    code_version.cache_clear()
    assert code_version() == (f"1.2.3+g{commit[:12]}", True)


def test_files_that_are_no_code_do_not_make_it_dirty(checkout: Path) -> None:
    (checkout / "results").mkdir()
    (checkout / "results" / "x").write_text("")
    assert not code_version()[1]
    code_version.cache_clear()
    (checkout / "search" / "new.py").write_text("")
    assert code_version()[1]


def test_a_package_in_somebody_elses_checkout_does_not_take_its_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_CHECKOUT", checkout / "search")
    assert "+g" not in code_version()[0]


def test_a_checkout_without_commits_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "_CHECKOUT", tmp_path.resolve())
    assert "+g" not in code_version()[0]


def test_without_git_and_without_an_installed_package_there_is_still_a_version(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> Any:
        raise metadata.PackageNotFoundError("ldnn")

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setenv("PATH", "")
    assert code_version() == ("0", False)


def test_a_git_that_hangs_is_not_waited_for(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = checkout / "git"
    git.write_text("#!/bin/sh\nexec sleep 60\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(checkout), prepend=":")
    monkeypatch.setattr(provenance, "_GIT_SECONDS", 0.2)
    assert "+g" not in code_version()[0]


def test_library_versions_are_read_without_importing_them() -> None:
    code = "import sys; from search.provenance import library_versions as v; v(); print('torch' in sys.modules, v())"
    root = Path(provenance.__file__).parents[1]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert said.startswith("False {'python': ")
    versions = library_versions()
    assert versions["pyarrow"] == metadata.version("pyarrow")
    versions.clear()
    assert library_versions() != {}


def test_a_missing_library_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_LIBRARIES", ("numpy", "no-such-library"))
    provenance._library_versions.cache_clear()
    try:
        assert set(library_versions()) == {"python", "numpy"}
    finally:
        provenance._library_versions.cache_clear()


def test_the_hash_is_the_head_of_sha256_of_sorted_json() -> None:
    assert (
        config_hash({"b": (1, 2.0), "a": {"ü": None}})
        == hashlib.sha256(b'{"a":{"\\u00fc":null},"b":[1,2.0]}').hexdigest()[:16]
    )
    assert config_hash(MappingProxyType({"a": MappingProxyType({"b": 1})})) == config_hash({"a": {"b": 1}})
    assert config_hash({"a": 1}) != config_hash({"a": 1.0}) != config_hash({"a": True})


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_the_order_of_keys_does_not_matter(config: dict[str, Any]) -> None:
    assert canonical_json(dict(reversed(config.items()))) == canonical_json(config)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "a configuration must be plain, finite JSON, but: Out of range float"),
        ([float("-inf")], "a configuration must be plain, finite JSON"),
        (Path("x"), "a configuration must be plain, finite JSON, but: .*Path is not JSON"),
        ({1: 2}, "the keys of a configuration must be text, but got 1"),
        (({"x": [{None: 2}]},), "the keys of a configuration must be text, but got None"),
    ],
)
def test_what_has_no_canonical_json_has_no_hash(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config_hash({"a": value})


def test_the_hostname_is_said() -> None:
    assert isinstance(hostname(), str)
