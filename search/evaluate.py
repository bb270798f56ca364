"""Judging found sets across sizes: which networks are still missing, and how one batch of them is judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any, NamedTuple

from ldnn_core.evaluation import Judgement
from ldnn_core.randomness import derive_seed
from search.conditions import Wanted, condition_columns, condition_of, difference, judged_under, rows_under, title
from search.config import RunConfig
from search.config_judging import CurvatureConfig
from search.contest import FINAL, Contest, Ring, arm_names
from search.found_set import FoundSet, found_set, set_columns
from search.plan import Unit
from search.recorder import Row
from search.schema import TABLES, USUAL_TRIAL
from search.setting import load_task
from search.sharpness import Sharpness
from search.spectral import spectral_bias_units
from search.store import Store

Key = tuple[str, str, int, int, str, int, float | None]
"""split, trial_id, width, depth, arm, seed: what distinguishes the networks of a run; and those by which learning rates
were chosen by their rate, None for judged ones."""


@dataclass(frozen=True)
class Request:
    """Which sets are to be judged, at which sizes, by how many networks.

    Attributes:
        trial_ids: trials whose sets are judged; usual activations always are.
        widths: neurons per hidden layer.
        depths: hidden layers.
        seeds: networks per arm and size.
        usual: usual activations; None for those that the run names.
        controls: controls of the sets; None for those that the run names.
        curvature: how the Hessian is measured; None for what the run says.
        spectral_bias: whether that is measured; None for what the run says.
        initial_variance: whether that is measured; None for what the run says.
        wanted: on which tasks and in which networks; by default what the run names.
    """

    trial_ids: tuple[str, ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    seeds: int
    usual: tuple[str, ...] | None = None
    controls: tuple[str, ...] | None = None
    curvature: CurvatureConfig | None = None
    spectral_bias: bool | None = None
    initial_variance: bool | None = None
    wanted: Wanted = field(default_factory=Wanted)


@dataclass(frozen=True)
class Judged:
    """Rows of a unit that the store does not have yet, table by table."""

    evaluations: list[Row] = field(default_factory=list)
    spectra: list[Row] = field(default_factory=list)


def evaluation_units(run: RunConfig, store: Store, request: Request) -> tuple[list[Unit], int]:
    """The batches of networks that are still missing, largest networks first, and how many batches are there.

    A batch is one set (or the usual activations) at one size.  Networks that the store has are never asked for
    again, also when only some seeds or arms of a batch are missing.  Only when the curvature is asked for later is a
    judged network trained once more, to the same end: parts are never changed, so its curvature becomes a row of
    ``spectra``, and nothing of ``evaluations``.  The first step is the same under all regimes, and is measured under
    the run's own.
    """
    evaluation, curvature = run.evaluation, request.curvature or run.curvature
    at_start = evaluation.initial_variance if request.initial_variance is None else request.initial_variance
    sizes = sorted(product(request.widths, request.depths), key=lambda size: -size[0] * size[1])
    seeds = range(request.seeds)
    sharp = range(min(curvature.networks, request.seeds)) if curvature.method != "none" else range(0)
    batches: list[Unit | None] = []
    for where, trial_ids in judged_under(run, request.wanted, request.trial_ids):
        judged, measured = present(store, where), present(store, where, table="spectra")
        started = present(store, where, table="initial_variance") if at_start and where.regime == run.regime else None
        for (width, depth), (trial_id, names) in product(sizes, _arms(run, store, request, trial_ids).items()):
            if not names:
                continue
            batch = _Batch(trial_id, width, depth, names, title(where, run), difference(where, run))
            unmeasured, more = batch.missing(sharp, measured), dict[str, Any]()
            if unmeasured:
                more["curvature"] = curvature.model_dump(mode="json")
                more["measured"] = sorted({seed for _, seed in unmeasured})
            wanted = batch.missing(seeds, judged) | unmeasured
            batches.append(batch.unit("evaluation", evaluation.lr_protocol, wanted, more))
            if started is not None:
                batches.append(batch.unit("initial_variance", "initial-variance", batch.missing(seeds, started)))
    units = [unit for unit in batches if unit is not None]
    complete = len(batches) - len(units)
    if evaluation.spectral_bias if request.spectral_bias is None else request.spectral_bias:
        missing, done = spectral_bias_units(store, request.trial_ids, _usual(run, request))
        units, complete = units + missing, complete + done
    return units, complete


class _Batch(NamedTuple):
    """The networks of one set, or of usual activations, at one size under one condition."""

    trial_id: str
    width: int
    depth: int
    arms: tuple[str, ...]
    title: str
    """Of the condition."""
    difference: dict[str, Any]
    """From the run's own condition, see `search.conditions`."""

    def missing(self, seeds: Iterable[int], there: frozenset[Key]) -> set[tuple[str, int]]:
        """Arms and seeds of those that are not there."""
        own = (self.trial_id, self.width, self.depth)
        return {one for one in product(self.arms, seeds) if (FINAL, *own, *one, None) not in there}

    def unit(
        self, kind: str, name: str, wanted: set[tuple[str, int]], more: dict[str, Any] | None = None
    ) -> Unit | None:
        """What makes the wanted ones; None if there are none."""
        if not wanted:
            return None
        payload = {
            "kind": kind,
            "trial_id": self.trial_id,
            "width": self.width,
            "depth": self.depth,
            "seeds": sorted({seed for _, seed in wanted}),
            "arms": [arm for arm in self.arms if any(arm == one for one, _ in wanted)],
        }
        key = f"{self.trial_id}-{self.title}-w{self.width}-d{self.depth}-{name}"
        return Unit.of(key, payload | (more or {}) | self.difference)


def _arms(run: RunConfig, store: Store, request: Request, trial_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names of the arms of each set, and of the usual activations."""
    usual = _usual(run, request)
    controls = run.evaluation.controls if request.controls is None else request.controls
    return {
        trial_id: usual if trial_id == USUAL_TRIAL else arm_names(found_set(store, trial_id).spec, controls)
        for trial_id in trial_ids
    }


def _usual(run: RunConfig, request: Request) -> tuple[str, ...]:
    return run.evaluation.usual if request.usual is None else request.usual


def judge(run: RunConfig, store: Store, payload: Mapping[str, Any], device: str) -> Judged:
    """Train and judge the networks of one unit; rows of ``evaluations`` and ``spectra`` that are not there yet."""
    trial_id, width, depth = payload["trial_id"], payload["width"], payload["depth"]
    own, run = run.ldnn.architecture, condition_of(payload, run)
    data = load_task(run.task, device)
    found = None if trial_id == USUAL_TRIAL else found_set(store, trial_id).to(data.train.x.device)
    ring = Ring(run.ldnn.architecture, run.ldnn.mixing, width, depth)
    contest = Contest.of(run, data, ring, payload["arms"], found)
    sharpness = None
    if "curvature" in payload:
        how = CurvatureConfig.model_validate(payload["curvature"])
        sharpness = Sharpness(how, frozenset(payload["measured"]), derive_seed(run.seed, "curvature"))
    known = _known_rates(store, run, trial_id, width, depth)
    observe = sharpness.observe if sharpness else None
    judgements = list(contest.judgements(payload["seeds"], known, observe))

    there, measured = present(store, run, trial_id), present(store, run, trial_id, table="spectra")
    origin, rows = _origin(run, trial_id, width, depth, found), Judged()
    if run.ldnn.architecture != own:  # where sizes mean something else
        origin |= {"learned_width": None, "learned_depth": None}
    for split, judgement in ((split, one) for split, some in judgements for one in some):
        lr = None if split == FINAL else judgement.lr
        key = (split, trial_id, width, depth, judgement.arm, judgement.seed, lr)
        sharp, spectrum = {}, None
        if sharpness and split == FINAL:
            sharp = sharpness.columns.get((judgement.arm, judgement.seed), {})
            spectrum = sharpness.spectra.get((judgement.arm, judgement.seed))
        if key not in there:
            units = contest.network(judgement.arm).channels[0]
            rows.evaluations.append(origin | _measurements(judgement, units) | sharp | {"split": split})
        if spectrum is not None and key not in measured:
            rows.spectra.append(_spectrum(origin, judgement) | sharp | spectrum)
    return rows


def _origin(run: RunConfig, trial_id: str, width: int, depth: int, found: FoundSet | None) -> Row:
    """Columns that the networks of a unit share."""
    evaluation = run.evaluation
    own = {
        "trial_id": trial_id,
        "width": width,
        "depth": depth,
        "learned_width": found.learned_size(width, depth)[0] if found else None,
        "learned_depth": found.learned_size(width, depth)[1] if found else None,
        "optimizer": evaluation.optimizer,
        "epochs": evaluation.epochs,
        "batch_size": evaluation.batch_size,
    }
    return set_columns(found) | condition_columns(run, "evaluations") | own


def _measurements(judgement: Judgement, units: int) -> Row:
    """Columns of one network; participation ratios relative to the units of its first hidden layer."""
    columns = asdict(judgement)
    ratio, corrected = judgement.participation_ratio, columns.pop("participation_ratio_corrected")
    columns["participation_ratio_normalized"] = None if ratio is None else ratio / units
    columns["participation_ratio_corrected"] = None if corrected is None else corrected / units
    return columns


def _spectrum(origin: Row, judgement: Judgement) -> Row:
    """The columns of ``spectra`` that say which network it is."""
    shared = (
        *("trial_id", "method", "estimator", "algorithm", "task", "architecture"),
        *("width", "depth", "mixing", "lr_protocol", "regime"),
    )
    own = {name: getattr(judgement, name) for name in ("arm", "lr", "seed", "num_params")}
    return {name: origin[name] for name in shared} | own


def present(store: Store, run: RunConfig, trial_id: str | None = None, *, table: str = "evaluations") -> frozenset[Key]:
    """The networks that a table of the store has, or those of one trial, whose parts are known by their names."""
    return frozenset(
        (
            row.get("split", FINAL),
            *(row[name] for name in ("trial_id", "width", "depth", "arm", "seed")),
            None if row.get("split", FINAL) == FINAL else row["lr"],
        )
        for row in _rows(store, run, trial_id, table)
    )


def _known_rates(store: Store, run: RunConfig, trial_id: str, width: int, depth: int) -> dict[str, float]:
    """The learning rates of arms that have been judged at a size."""
    return {
        row["arm"]: row["lr"]
        for row in _rows(store, run, trial_id, "evaluations")
        if (row["split"], row["width"], row["depth"]) == (FINAL, width, depth)
    }


def _rows(store: Store, run: RunConfig, trial_id: str | None, table: str) -> Iterable[Mapping[str, Any]]:
    names = ("trial_id", "arm", "width", "depth", "seed", "lr", "split")
    columns = [name for name in names if name in TABLES[table].names]
    return rows_under(run, store, table, columns, trial_id)
