"""Where a trial stands, at a rung or between two, and how that is kept until the trial is over.

The files are ours for the life of a wave: ``checkpoints/<trial_id>-<configuration>-<place>.safetensors`` in the run,
where the place is ``r<rung>`` or, for one that a long trial leaves on its way, ``s<step>`` (`search.keeper`).  They
save time and change nothing: a trial whose file is missing, damaged or of other code is run again from an earlier one.
Tensors and JSON under a checksum; nothing in them is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from search.durable import doing
from search.location import Location
from search.provenance import code_digest
from search.storage import NotAFileError, Storage, storage_at
from search.store import QUARANTINE

if TYPE_CHECKING:  # whoever asks how far a run is has no use for torch, which takes seconds to load
    from torch import Tensor

FOLDER: Final = "checkpoints"
_SUFFIX: Final = ".safetensors"
_ABOUT: Final = "about"
_STATE: Final = "state."
_DIGEST: Final = "sha256"
_CODE: Final = "code"
_NAME: Final = re.compile(r"(.+)-([0-9a-f]{16})-([rs])([0-9]+)\.safetensors")

BETWEEN: Final = -1
"""In place of a rung: the trial stands between two."""


@dataclass(frozen=True)
class Checkpoint:
    """A trial after one of its steps: what its search needs to go on, and everything that it has recorded.

    Attributes:
        rung: which of the trial's rungs, from 0; `BETWEEN` for a step that is none.
        step: the outer step or generation of the last row.
        state: tensors by name, on the CPU.
        steps: rows of ``steps`` so far, as the recorder has them.
        activations: rows of ``activations`` so far.
        inner_steps_total: inner steps spent.
        search_seconds: on the clock of the search, which stands still during probes.
        wall_seconds: of the trial, probes included.
        started_at: when the trial started, ISO 8601, UTC.
    """

    rung: int
    step: int
    state: Mapping[str, Tensor]
    steps: list[dict[str, Any]]
    activations: list[dict[str, Any]]
    inner_steps_total: int
    search_seconds: float
    wall_seconds: float
    started_at: str

    def accuracies(self, rungs: Collection[int]) -> tuple[float, ...]:
        """Validation accuracies at the rungs so far, which lie at these steps."""
        return tuple(row["val_accuracy"] for row in self.steps if row["step"] in rungs)


@dataclass(frozen=True)
class Damaged:
    """A file that was no checkpoint any more.

    Attributes:
        name: of the file.
        reason: what is wrong with it.
    """

    name: str
    reason: str


def save(root: Location, trial_id: str, config_hash: str, checkpoint: Checkpoint) -> str:
    """Place a checkpoint durably, unless there is one of that trial, configuration and place.

    Returns:
        The name of its file in `FOLDER`.

    Raises:
        StoreError: the disk is full, or the run folder is gone or not writable.
    """
    import torch
    from safetensors.torch import save as save_tensors

    about = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint) if field.name != "state"}
    tensors = {_ABOUT: torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)}
    tensors |= {
        _STATE + name: tensor.contiguous().clone() for name, tensor in checkpoint.state.items()
    }  # none shares memory
    storage = storage_at(root)
    with doing(f"make {root / FOLDER}"):
        storage.prepare([FOLDER])
    is_rung = checkpoint.rung != BETWEEN
    name = _name(trial_id, config_hash, "r" if is_rung else "s", checkpoint.rung if is_rung else checkpoint.step)
    storage.place_once(f"{FOLDER}/{name}", save_tensors(tensors, {_DIGEST: _digest(tensors), _CODE: code_digest()}))
    return name


def load(root: Location, name: str) -> Checkpoint | Damaged | None:
    """The checkpoint in a file of `FOLDER`.

    Returns:
        None if the file is not there, or was written by other code, whose numbers may differ.  A damaged one is put
        aside into quarantine with a report, and said.
    """
    from safetensors import SafetensorError

    storage = storage_at(root)
    try:
        return _parse(storage.read(f"{FOLDER}/{name}"))
    except FileNotFoundError:
        return None
    except NotAFileError:
        return Damaged(name, "it is not a regular file")
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        damaged = Damaged(name, " ".join(f"{type(error).__name__}: {error}".split())[:300])
        with suppress(OSError):
            _put_aside(storage, damaged)
        return damaged


def latest(
    root: Location,
    trial_id: str,
    config_hash: str,
    rung: int,
    *,
    step: float = -1,
    damaged: list[Damaged] | None = None,
) -> Checkpoint | None:
    """The sound checkpoint of a trial that is furthest.

    Args:
        root: the run.
        trial_id: of the trial.
        config_hash: of its configuration.
        rung: the last rung that may be taken.
        step: the last step between rungs that may be taken; by default none is.
        damaged: gets those that were found damaged on the way.
    """
    found: list[Checkpoint] = []
    for kind, last in (("r", rung), ("s", step)):
        for place in sorted(_places(root, trial_id, config_hash, kind), reverse=True):
            if place > last:
                continue
            one = load(root, _name(trial_id, config_hash, kind, place))
            if isinstance(one, Checkpoint):
                found.append(one)
                break
            if one is not None and damaged is not None:
                damaged.append(one)
    return max(found, key=lambda one: one.step, default=None)


def _places(root: Location, trial_id: str, config_hash: str, kind: str) -> list[int]:
    """Rungs (r) or steps (s) of which a trial has a file."""
    matches = (_NAME.fullmatch(name) for name in storage_at(root).names(FOLDER))
    return [int(one[4]) for one in matches if one and one.group(1, 2, 3) == (trial_id, config_hash, kind)]


def remove_older(root: Location, trial_id: str, config_hash: str, *, keep: int) -> None:
    """Remove the files between rungs of a trial but the ``keep`` furthest."""
    with suppress(OSError):
        for step in sorted(_places(root, trial_id, config_hash, "s"))[:-keep]:
            storage_at(root).delete(f"{FOLDER}/{_name(trial_id, config_hash, 's', step)}")


def rungs_reached(root: Location) -> dict[str, int]:
    """Trial → the last rung of which there is a checkpoint."""
    reached: dict[str, int] = {}
    for name in storage_at(root).names(FOLDER):
        if (match := _NAME.fullmatch(name)) and match[3] == "r":
            reached[match[1]] = max(int(match[4]), reached.get(match[1], 0))
    return reached


def clear(root: Location, trials: Collection[str]) -> None:
    """Remove the checkpoints of trials that are over."""
    with suppress(OSError):
        storage = storage_at(root)
        for name in storage.names(FOLDER):
            if (match := _NAME.fullmatch(name)) and match[1] in trials:
                storage.delete(f"{FOLDER}/{name}")


def clear_all(root: Location) -> None:
    """Remove every checkpoint of a run; for the driver, when no trial will go on."""
    if isinstance(root, Path):
        shutil.rmtree(root / FOLDER, ignore_errors=True)
        return
    storage = storage_at(root)
    with suppress(OSError):
        for name in storage.names(FOLDER):
            storage.delete(f"{FOLDER}/{name}")


def _name(trial_id: str, config_hash: str, kind: str, place: int) -> str:
    return f"{trial_id}-{config_hash}-{kind}{place}{_SUFFIX}"


def _put_aside(storage: Storage, damaged: Damaged) -> None:
    home = f"{QUARANTINE}/{FOLDER}/{damaged.name}"
    report = {"checkpoint": damaged.name, "reason": damaged.reason, "moved_at": datetime.now(UTC).isoformat()}
    # The report first, as the store does it: what lies in quarantine always has one.
    storage.replace(f"{home}.json", (json.dumps(report, indent=2) + "\n").encode())
    storage.move(f"{FOLDER}/{damaged.name}", home)


def _parse(data: bytes) -> Checkpoint | None:
    from safetensors.torch import load as load_tensors

    tensors = load_tensors(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    if header["__metadata__"][_DIGEST] != _digest(tensors):
        raise ValueError("its bytes are not those that were written")
    if header["__metadata__"].get(_CODE) != code_digest():
        return None
    about = json.loads(tensors.pop(_ABOUT).numpy().tobytes())
    return Checkpoint(state={name.removeprefix(_STATE): tensor for name, tensor in tensors.items()}, **about)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
