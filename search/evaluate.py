"""Judging found sets across sizes: which networks are still missing, and how one batch of them is judged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ldnn_core.activations import (
    Activation,
    BankActivation,
    TableBank,
    UsualActivation,
    mixed_functions,
    pure_functions,
)
from ldnn_core.evaluation import Judgement, evaluate_arms, fully_connected
from ldnn_core.randomness import derive_seed
from ldnn_core.subnetwork import ActivationSpec
from ldnn_core.tasks import TaskData
from search.config import RunConfig
from search.plan import Unit
from search.recorder import Row
from search.schema import USUAL_TRIAL, Status
from search.setting import load_task, training
from search.store import Store, StoreError, trial_key

NORMALIZED = "mixed-normalized"
"""The arm of a set that was learned without gain and offset, judged with them."""
ARCHITECTURE = "mlp"
MIXING = "within_layer"
SPLIT = "test"

Key = tuple[str, str, str, int, int, int, float | None]
"""split, trial_id, arm, width, depth, seed: what distinguishes the networks of a run; and those by which learning rates
were tuned by their rate, None for judged ones."""


@dataclass(frozen=True)
class Request:
    """Which sets are to be judged, at which sizes, by how many networks.

    Attributes:
        trial_ids: trials whose sets are judged; usual activations always are.
        widths: neurons per hidden layer.
        depths: hidden layers.
        seeds: networks per arm and size.
    """

    trial_ids: tuple[str, ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    seeds: int


@dataclass(frozen=True)
class FoundSet:
    """The set that a trial ended with.

    Attributes:
        trial_id: of the trial.
        spec: base, K and sizes.
        genomes: (K, P).
        row: the trial's row of ``trials``.
    """

    trial_id: str
    spec: ActivationSpec
    genomes: torch.Tensor
    row: Mapping[str, Any]

    def to(self, device: torch.device) -> FoundSet:
        """The same set on another device."""
        return replace(self, genomes=self.genomes.to(device))

    def arms(self, hidden: tuple[int, ...], names: Sequence[str]) -> dict[str, Activation]:
        """Those of the names that `arm_names` gives, in a network of these hidden sizes; where the genomes lie."""
        bank = TableBank(self.spec, self.genomes.unsqueeze(0))
        mixed = mixed_functions(hidden, self.spec.num_types)
        arms: dict[str, Activation] = {"mixed": BankActivation(bank, mixed)}
        for k in range(self.spec.num_types):
            arms[f"pure-{k}"] = BankActivation(bank, pure_functions(hidden, k))
        normalized = TableBank(replace(self.spec, normalized=True), self.genomes.unsqueeze(0))
        arms[NORMALIZED] = BankActivation(normalized, mixed)
        return {name: arms[name] for name in names}

    def learned_size(self, width: int, depth: int) -> tuple[int, int]:
        """Width and depth at which it was learned; where there were several, the nearest."""

        def nearest(name: str, value: int) -> int:
            learned: list[int] = self.row[f"{name}s"] or [self.row[name]]
            return min(learned, key=lambda one: (abs(one - value), one))

        return nearest("width", width), nearest("depth", depth)


def best_trials(store: Store, count: int) -> list[str]:
    """The ``count`` trials of each method with the highest scores; of equal ones those with the lower number."""
    columns = ["trial_id", "method", "number", "status", "score", "copied_from"]
    # A copy would be judged as what it was copied from, network by network.
    trials = [row for row in store.read("trials", columns=columns).to_pylist() if row["copied_from"] is None]
    best: list[str] = []
    for method in sorted({trial["method"] for trial in trials}, reverse=True):  # gradient first
        own = [trial for trial in trials if trial["method"] == method and trial["status"] == Status.OK]
        own.sort(key=lambda trial: (-trial["score"], trial["number"]))
        best += unique([trial["trial_id"] for trial in own])[:count]
    return best


def found_set(store: Store, trial_id: str) -> FoundSet:
    """Read a trial's final set.

    Raises:
        ValueError: no such trial has ended well; lists those that have.
        StoreError: its set is not there, or damaged.
    """
    # Only its own parts: to read those of all trials takes minutes when there are many, and each batch comes here.
    attempts = store.read("trials", keys=store.attempts(trial_id)).to_pylist()
    ended_well = [row for row in attempts if row["status"] == Status.OK]
    if not ended_well:
        trials = store.read("trials", columns=["trial_id", "status"]).to_pylist()
        known = ", ".join(sorted({row["trial_id"] for row in trials if row["status"] == Status.OK})) or "none"
        raise ValueError(f"a trial must have ended well to be judged, but got {trial_id!r}; those that have: {known}")
    trial = ended_well[-1]
    if original := trial["copied_from"]:
        raise ValueError(f"only a trial that was run has a set, but {trial_id} is a copy of {original}: judge that one")
    recorded, bad = store.read_checked("activations", keys=[trial_key(trial_id, trial["attempt"])])
    if bad:
        raise StoreError(f"the set of {trial_id} cannot be read: {bad[0]}. `ldnn resume` finds it again")
    types = sorted((row for row in recorded.to_pylist() if row["final"]), key=lambda row: row["type_index"])
    first = types[0]
    hidden, normalized = tuple(first["subnet_hidden"]), bool(first["normalized"])
    spec = ActivationSpec(first["base"], first["num_types"], hidden, first["subnet_scale"], normalized)
    if first["table_scale"] is not None:  # rows of earlier code do not say it, and had the default
        spec = replace(spec, table_range=first["table_range"], table_scale=first["table_scale"])
    return FoundSet(trial_id, spec, torch.tensor([row["genome"] for row in types], dtype=torch.float32), trial)


def evaluation_units(run: RunConfig, store: Store, request: Request) -> tuple[list[Unit], int]:
    """The batches of networks that are still missing, largest networks first, and how many batches are there.

    A batch is one set (or the usual activations) at one size.  Networks that the store has are never asked for
    again, also when only some seeds of a batch are missing.
    """
    present = _present(store, run)
    learned = {trial_id: arm_names(run, found_set(store, trial_id).spec) for trial_id in request.trial_ids}
    units, complete = [], 0
    sizes = [(width, depth) for depth in request.depths for width in request.widths]
    for width, depth in sorted(sizes, key=lambda size: -size[0] * size[1]):
        for trial_id in (*request.trial_ids, USUAL_TRIAL):
            arms = run.evaluation.usual if trial_id == USUAL_TRIAL else learned[trial_id]
            if not arms:
                continue
            seeds = [
                seed
                for seed in range(request.seeds)
                if any((SPLIT, trial_id, arm, width, depth, seed, None) not in present for arm in arms)
            ]
            if not seeds:
                complete += 1
                continue
            payload = {"kind": "evaluation", "trial_id": trial_id, "width": width, "depth": depth, "seeds": seeds}
            digest = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:8]
            key = f"{trial_id}-{run.task.title}-w{width}-d{depth}-{run.evaluation.lr_protocol}-{digest}"
            units.append(Unit(key, 0, payload))
    return units, complete


def judge(run: RunConfig, store: Store, payload: Mapping[str, Any], device: str) -> list[Row]:
    """Train and judge the networks of one unit; rows of ``evaluations`` that the store does not have yet."""
    trial_id, width, depth = payload["trial_id"], payload["width"], payload["depth"]
    hidden = (width,) * depth
    data = load_task(run.task, device)
    found = None if trial_id == USUAL_TRIAL else found_set(store, trial_id).to(data.train.x.device)
    arms: Mapping[str, Activation] = (
        found.arms(hidden, arm_names(run, found.spec))
        if found
        else {name: UsualActivation(name) for name in run.evaluation.usual}
    )
    judgements = [
        (split, judgement)
        for split, some in _judgements(run, data, hidden, arms, payload["seeds"])
        for judgement in some
    ]
    present = _present(store, run, trial_id)
    origin = {
        "trial_id": trial_id,
        "method": found.row["method"] if found else None,
        "estimator": found.row["estimator"] if found else None,
        "algorithm": found.row["algorithm"] if found else None,
        "task": run.task.title,
        "num_types": found.spec.num_types if found else 1,
        "base": found.spec.base if found else None,
        "architecture": ARCHITECTURE,
        "width": width,
        "depth": depth,
        "learned_width": found.learned_size(width, depth)[0] if found else None,
        "learned_depth": found.learned_size(width, depth)[1] if found else None,
        "mixing": MIXING,
        "lr_protocol": run.evaluation.lr_protocol,
        "optimizer": run.evaluation.optimizer,
        "epochs": run.evaluation.epochs,
        "batch_size": run.evaluation.batch_size,
    }
    rows = []
    for split, judgement in judgements:
        lr = None if split == SPLIT else judgement.lr
        if (split, trial_id, judgement.arm, width, depth, judgement.seed, lr) in present:
            continue
        ratio = judgement.participation_ratio
        measured = asdict(judgement) | {
            "split": split,
            "participation_ratio_normalized": None if ratio is None else ratio / width,
        }
        corrected = measured.pop("participation_ratio_corrected")
        measured["participation_ratio_corrected"] = None if corrected is None else corrected / width
        rows.append(origin | measured)
    return rows


def arm_names(run: RunConfig, spec: ActivationSpec) -> tuple[str, ...]:
    """The arms of a learned set: ``mixed``; of several types ``pure-0``, ``pure-1``, ...; with gain, if asked for."""
    pure = [f"pure-{k}" for k in range(spec.num_types if spec.num_types > 1 else 0)]
    return ("mixed", *pure, *([NORMALIZED] if run.evaluation.normalized_arm and not spec.normalized else []))


def _judgements(
    run: RunConfig,
    data: TaskData,
    hidden: tuple[int, ...],
    arms: Mapping[str, Activation],
    seeds: Sequence[int],
) -> Iterator[tuple[str, list[Judgement]]]:
    """Judged networks, split by split: with tuned learning rates those by which they were chosen come first.

    They are other networks than the judged ones, and judged by validation rows.
    """
    evaluation, network = run.evaluation, fully_connected(data, hidden)
    if evaluation.lr_protocol == "shared":
        rates = dict.fromkeys(arms, evaluation.lr)
    else:
        how, root = training(evaluation.training, len(data.split("val")[0])), derive_seed(run.seed, "tuning")
        tuning: list[Judgement] = []
        for lr in evaluation.lrs:
            with_rate = replace(how, lr=lr)
            networks = range(evaluation.tuning_seeds)
            tuning += evaluate_arms(data, network, arms, networks, with_rate, root_seed=root, split="val")
        yield "val", tuning
        rates = {arm: _best_rate([one for one in tuning if one.arm == arm]) for arm in arms}
    how = training(evaluation.training, len(data.split(SPLIT)[0]))
    root = derive_seed(run.seed, "evaluation")
    yield SPLIT, evaluate_arms(data, network, arms, seeds, replace(how, lr=rates), root_seed=root, split=SPLIT)


def _best_rate(tuning: Iterable[Judgement]) -> float:
    """The learning rate with the highest mean goodness; of equal ones the lowest."""
    found: dict[float, list[float]] = {}
    for judgement in tuning:
        found.setdefault(judgement.lr, []).append(judgement.goodness)
    return max(sorted(found), key=lambda lr: sum(found[lr]) / len(found[lr]))


def _present(store: Store, run: RunConfig, trial_id: str | None = None) -> frozenset[Key]:
    """The evaluations that the store has, or those of one trial, whose parts are known by their names."""
    columns = ["trial_id", "arm", "width", "depth", "seed", "task", "lr_protocol", "split", "lr"]
    own = None if trial_id is None else [key for key in store.keys("evaluations") if key.startswith(f"{trial_id}-")]
    rows: Iterable[Mapping[str, Any]] = store.read("evaluations", columns=columns, keys=own).to_pylist()
    wanted = (run.task.title, run.evaluation.lr_protocol)
    names = ("split", "trial_id", "arm", "width", "depth", "seed")
    return frozenset(
        (*(row[name] for name in names), None if row["split"] == SPLIT else row["lr"])
        for row in rows
        if (row["task"], row["lr_protocol"]) == wanted
    )


def unique(trial_ids: Sequence[str]) -> tuple[str, ...]:
    """The same ids, each once, in their order."""
    return tuple(dict.fromkeys(trial_ids))
