"""Whether a run goes on with the code that it was begun with."""

from __future__ import annotations

from search.lineage import revise
from search.provenance import code_digest, code_version, library_versions
from search.run_folder import Difference, RunFolder, RunFolderError, open_run


def same_code(run: RunFolder, warnings: list[str], *, required: bool, revises: bool) -> RunFolder:
    """Compare the code and the libraries of now with those of a run.

    What counts is the content of the sources that numbers depend on.  Where it differs and so does the version or the
    commit, the run was begun with other code.  Where only the content differs somebody has edited files meanwhile, or
    before, which is only warned of, and so are other versions of libraries: they change numbers in the last bits, if at
    all, and every row says which they were.

    Args:
        run: the run.
        warnings: gets sentences.
        required: whether other code is refused.
        revises: whether other code that is not refused is told in the run's lineage.

    Returns:
        The run, with the revision that says so if the code is another.

    Raises:
        RunFolderError: the code is another, and required to be the same.
    """
    info = run.info
    now = library_versions()
    others = [
        f"{name} {old} -> {now.get(name, 'absent')}" for name, old in info.versions.items() if now.get(name) != old
    ]
    if others:
        warnings.append(
            f"libraries differ from those of the run, so numbers may in their last bits: {', '.join(others)}"
        )
    version, dirty = code_version()
    is_same = info.code_version == version if info.code_digest is None else info.code_digest == code_digest()
    if is_same:
        return run
    if info.code_version == version:
        edited = "has uncommitted changes" if dirty else "had uncommitted changes when the run was made"
        warnings.append(f"the code {edited}: trials that are run now may differ from those that are there")
        return run
    words = f"code_version: {info.code_version} -> {version}"
    if required:
        raise RunFolderError(
            f"{run.path} was made by other code:\n  {words}\nTrials of both could not be compared. Check that version "
            f"out, make a new run with `ldnn fork {run.path}`, or, if the change makes no difference to numbers, go on "
            f"with `ldnn resume {run.path} --other-code`, which is recorded"
        )
    warnings.append(f"the code is not that which the run was made with: {words}")
    if not revises:
        return run
    changes = [
        Difference("code_version", info.code_version, version),
        Difference("code_digest", info.code_digest, code_digest()),
    ]
    revise(run, run.info.config, reason="other code", changes=changes)
    return open_run(run.path)
