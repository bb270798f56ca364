"""Judging found sets across sizes: which networks are still missing, and how one batch of them is judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

from ldnn_core.evaluation import Judgement
from ldnn_core.randomness import derive_seed
from search.conditions import Wanted, condition_columns, condition_of, difference, judged_under, rows_under, title
from search.config import CurvatureConfig, RunConfig
from search.contest import FINAL, Contest, Ring, arm_names
from search.found_set import FoundSet, found_set, set_columns
from search.initial_variance import initial_variance_units
from search.plan import Unit
from search.recorder import Row
from search.schema import USUAL_TRIAL
from search.setting import load_task
from search.sharpness import Sharpness
from search.spectral import spectral_bias_units
from search.store import Store

Key = tuple[str, str, str, int, int, int, float | None]
"""split, trial_id, arm, width, depth, seed: what distinguishes the networks of a run; and those by which learning rates
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
    ``spectra``, and nothing of ``evaluations``.
    """
    units: list[Unit] = []
    complete = 0
    for where, trial_ids in judged_under(run, request.wanted, request.trial_ids):
        missing, done = _units_under(where, run, store, replace(request, trial_ids=trial_ids))
        units, complete = units + missing, complete + done
    if run.evaluation.spectral_bias if request.spectral_bias is None else request.spectral_bias:
        usual = run.evaluation.usual if request.usual is None else request.usual
        missing, done = spectral_bias_units(store, request.trial_ids, usual)
        units, complete = units + missing, complete + done
    if run.evaluation.initial_variance if request.initial_variance is None else request.initial_variance:
        missing, done = initial_variance_units(
            run,
            store,
            _arms(run, store, request, (*request.trial_ids, USUAL_TRIAL)),
            sizes=list(product(request.widths, request.depths)),
            seeds=request.seeds,
            wanted=request.wanted,
        )
        units, complete = units + missing, complete + done
    return units, complete


def _units_under(run: RunConfig, whole: RunConfig, store: Store, request: Request) -> tuple[list[Unit], int]:
    """`evaluation_units` under one condition of the whole run; what is not the run's own stands in the payload."""
    curvature = request.curvature or run.curvature
    present, measured = _present(store, run), _present(store, run, table="spectra")
    arms = _arms(run, store, request, request.trial_ids)
    sharp = range(min(curvature.networks, request.seeds)) if curvature.method != "none" else range(0)
    units, complete = [], 0
    sizes = [(width, depth) for depth in request.depths for width in request.widths]
    for width, depth in sorted(sizes, key=lambda size: -size[0] * size[1]):
        for trial_id, names in arms.items():
            if not names:
                continue
            place = (trial_id, width, depth)
            unmeasured = _missing(measured, place, names, sharp)
            wanted = _missing(present, place, names, range(request.seeds)) | unmeasured
            if not wanted:
                complete += 1
                continue
            payload: dict[str, Any] = {
                "kind": "evaluation",
                "trial_id": trial_id,
                "width": width,
                "depth": depth,
                "seeds": sorted({seed for _, seed in wanted}),
                "arms": [arm for arm in names if any(arm == one for one, _ in wanted)],
            }
            if unmeasured:
                payload["curvature"] = curvature.model_dump(mode="json")
                payload["measured"] = sorted({seed for _, seed in unmeasured})
            payload |= difference(run, whole)
            name = f"{trial_id}-{title(run, whole)}-w{width}-d{depth}-{run.evaluation.lr_protocol}"
            units.append(Unit.of(name, payload))
    return units, complete


def _arms(run: RunConfig, store: Store, request: Request, trial_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names of the arms of each set, and of the usual activations."""
    usual = run.evaluation.usual if request.usual is None else request.usual
    controls = run.evaluation.controls if request.controls is None else request.controls
    return {
        trial_id: usual if trial_id == USUAL_TRIAL else arm_names(found_set(store, trial_id).spec, controls)
        for trial_id in trial_ids
    }


def _missing(
    there: frozenset[Key], place: tuple[str, int, int], names: Sequence[str], seeds: Iterable[int]
) -> set[tuple[str, int]]:
    """Arms and seeds of a set and size whose judged networks are not there."""
    trial_id, width, depth = place
    return {
        (arm, seed)
        for arm, seed in product(names, seeds)
        if (FINAL, trial_id, arm, width, depth, seed, None) not in there
    }


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

    present, measured = _present(store, run, trial_id), _present(store, run, trial_id, table="spectra")
    origin, rows = _origin(run, trial_id, width, depth, found), Judged()
    if run.ldnn.architecture != own:  # where sizes mean something else
        origin |= {"learned_width": None, "learned_depth": None}
    for split, judgement in ((split, one) for split, some in judgements for one in some):
        lr = None if split == FINAL else judgement.lr
        key = (split, trial_id, judgement.arm, width, depth, judgement.seed, lr)
        sharp, spectrum = {}, None
        if sharpness and split == FINAL:
            sharp = sharpness.columns.get((judgement.arm, judgement.seed), {})
            spectrum = sharpness.spectra.get((judgement.arm, judgement.seed))
        if key not in present:
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


def _present(
    store: Store, run: RunConfig, trial_id: str | None = None, *, table: str = "evaluations"
) -> frozenset[Key]:
    """The networks that a table of the store has, or those of one trial, whose parts are known by their names."""
    return frozenset(
        (
            row.get("split", FINAL),
            *(row[name] for name in ("trial_id", "arm", "width", "depth", "seed")),
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
    columns = ["trial_id", "arm", "width", "depth", "seed", "lr", *(["split"] if table == "evaluations" else [])]
    return rows_under(run, store, table, columns, trial_id)
