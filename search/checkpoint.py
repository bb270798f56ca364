"""Where a trial stands at a rung, and how that is kept on disk until the trial is over.

The files are ours for the life of a wave: ``checkpoints/<trial_id>-<configuration>-r<rung>.safetensors`` in the run
folder.  They save time and change nothing: a trial whose file is missing or damaged is run again up to that rung.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from search.durable import StoreError, describe_failure
from search.location import Location
from search.storage import storage_at

if TYPE_CHECKING:  # whoever asks how far a run is has no use for torch, which takes seconds to load
    from torch import Tensor

FOLDER: Final = "checkpoints"
_SUFFIX: Final = ".safetensors"
_ABOUT: Final = "about"
_STATE: Final = "state."
_DIGEST: Final = "sha256"
_NAME: Final = re.compile(r"(.+)-[0-9a-f]{16}-r([0-9]+)\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A trial at a rung: what its search needs to go on, and everything that it has recorded.

    Attributes:
        rung: which of the trial's rungs, from 0.
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


def save(root: Location, trial_id: str, config_hash: str, checkpoint: Checkpoint) -> None:
    """Place a checkpoint durably, unless there is one of that trial, configuration and rung.

    Raises:
        StoreError: the disk is full, or the run folder is gone or not writable.
    """
    import torch
    from safetensors.torch import save as save_tensors

    about = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint) if field.name != "state"}
    tensors = {_ABOUT: torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)}
    tensors |= {_STATE + name: tensor.contiguous() for name, tensor in checkpoint.state.items()}
    storage = storage_at(root)
    try:
        storage.prepare([FOLDER])
    except OSError as error:
        raise StoreError(describe_failure(f"make {root / FOLDER}", error)) from error
    name = _name(trial_id, config_hash, checkpoint.rung)
    storage.place_once(name, save_tensors(tensors, {_DIGEST: _digest(tensors)}))


def load(root: Location, trial_id: str, config_hash: str, rung: int) -> Checkpoint | None:
    """The checkpoint of a trial at a rung; None if it is not there, or damaged, when it is removed."""
    from safetensors import SafetensorError

    storage, name = storage_at(root), _name(trial_id, config_hash, rung)
    try:
        return _parse(storage.read(name))
    except FileNotFoundError:
        return None
    except (SafetensorError, ValueError, KeyError, TypeError):
        with suppress(FileNotFoundError):
            storage.delete(name)
        return None


def latest(root: Location, trial_id: str, config_hash: str, rung: int) -> Checkpoint | None:
    """The checkpoint of a trial at the last rung, up to the given one, of which there is a sound one."""
    found = (load(root, trial_id, config_hash, one) for one in range(rung, -1, -1))
    return next((one for one in found if one is not None), None)


def rungs_reached(root: Location) -> dict[str, int]:
    """Trial → the last rung of which there is a checkpoint."""
    reached: dict[str, int] = {}
    for name in storage_at(root).names(FOLDER):
        if match := _NAME.fullmatch(name):
            reached[match[1]] = max(int(match[2]), reached.get(match[1], 0))
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


def _name(trial_id: str, config_hash: str, rung: int) -> str:
    return f"{FOLDER}/{trial_id}-{config_hash}-r{rung}{_SUFFIX}"


def _parse(data: bytes) -> Checkpoint:
    from safetensors.torch import load as load_tensors

    tensors = load_tensors(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    if header["__metadata__"][_DIGEST] != _digest(tensors):
        raise ValueError("its bytes are not those that were written")
    about = json.loads(tensors.pop(_ABOUT).numpy().tobytes())
    return Checkpoint(state={name.removeprefix(_STATE): tensor for name, tensor in tensors.items()}, **about)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
