"""Collects the rows of a trial while it runs: steps, and the sets of the recorded steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ldnn_core.algorithms import State
from ldnn_core.lowering_error import error_bounds
from ldnn_core.subnetwork import ActivationSpec, exact_values, gain_and_offset
from search.checkpoint import Checkpoint
from search.leg import AtRung, Leg
from search.progress import Report
from search.setting import Setting

CURVE_RANGE = (-10.0, 10.0)
CURVE_POINTS = 100

Row = dict[str, Any]


def recorded_steps(last: int, records: int) -> frozenset[int]:
    """About ``records`` steps from 0 to ``last``, both among them, evenly spread."""
    return frozenset(round(last * i / (records - 1)) for i in range(records))


def curves(spec: ActivationSpec, genomes: Tensor, low: float, high: float, points: int) -> Tensor:
    """The exact functions of a set (K, P) on equally spaced points, (K, points) in float64."""
    x = torch.linspace(low, high, points, dtype=torch.float64)
    return exact_values(spec, genomes.detach().cpu().double(), x.expand(len(genomes), -1))


def type_distance(spec: ActivationSpec, genomes: Tensor) -> float | None:
    """Smallest root mean square difference of two types' curves on [-2, 2]; None for a single type."""
    if len(genomes) < 2:
        return None
    y = curves(spec, genomes, -2.0, 2.0, CURVE_POINTS)
    distances = (y.unsqueeze(0) - y.unsqueeze(1)).square().mean(-1).sqrt()
    first, second = torch.triu_indices(len(y), len(y), offset=1)
    return float(distances[first, second].min())


class Recorder:
    """Rows of one trial, a clock that stands still while probes are trained, and the end of a leg at a rung.

    Args:
        setting: of the trial.
        last_step: the index of the final set.
        report: told about every step.
        leg: the part of the trial that is run.
        after_step: shown the state after every step, with which the search could go on from there.
    """

    def __init__(
        self,
        setting: Setting,
        last_step: int,
        report: Report,
        leg: Leg | None = None,
        after_step: Callable[[int, State], None] | None = None,
    ) -> None:
        self.steps: list[Row] = []
        self.activations: list[Row] = []
        self.inner_steps_total = 0
        """Inner steps spent so far, by the networks of the search alone."""
        self.next_step = 0
        """The outer step or generation that the search begins with."""
        self._setting = setting
        self._last = last_step
        self._rungs = setting.config.rungs
        self._recorded = recorded_steps(last_step, setting.config.records).union(self._rungs)
        self._report = report
        self._after_step = after_step
        self._started = time.perf_counter()
        self._leg = leg or Leg()
        if self._leg.start:
            self._take_up(self._leg.start)

    @property
    def rung_accuracies(self) -> list[float]:
        """Validation accuracies at the rungs that were reached."""
        return [row["val_accuracy"] for row in self.steps if row["step"] in self._rungs]

    def spend(self, inner_steps: int) -> None:
        """Count inner steps of the search."""
        self.inner_steps_total += inner_steps

    def step(self, step: int, genomes: Tensor, *, inner_steps_total: int, **columns: float | None) -> None:
        """Add the row of a step, with probe and curves when the step is a recorded one.

        Args:
            step: outer step or generation.
            genomes: the set of the step, (K, P).
            inner_steps_total: inner steps spent when it was known.
            columns: further columns of the table ``steps``.
        """
        wall_seconds = time.perf_counter() - self._started
        row: Row = {"step": step, "inner_steps_total": inner_steps_total, "wall_seconds": wall_seconds, **columns}
        row["type_distance"] = type_distance(self._setting.spec, genomes)
        if step in self._recorded:
            paused = time.perf_counter()
            row["val_accuracy"] = self._setting.probe(genomes)
            self._add_activations(step, genomes)
            self._started += time.perf_counter() - paused
        self.steps.append(row)
        self._report(step, self._last, row.get("outer_loss") or 0.0)

    def begin(self) -> State | None:
        """The state that the search goes on from, on the CPU; None at its beginning.

        Raises:
            AtRung: the leg ends where it starts.
        """
        start = self._leg.start
        if start and start.rung == self._leg.until:
            raise AtRung(start.rung, start.step, start.state)
        return dict(start.state) if start else None

    def rung(self, step: int, state: State) -> None:
        """End the leg here if it ends with this step, or else show the state; call it last in every step.

        Args:
            step: the outer step or generation that is done and has its row.
            state: everything that the next one depends on, by name.

        Raises:
            AtRung: the leg ends here.
        """
        if step in self._rungs:
            rung = self._rungs.index(step)
            if self._leg.ends_at(rung, self.rung_accuracies[rung]):
                raise AtRung(rung, step, state)
        if self._after_step is not None:
            self._after_step(step, state)

    def checkpoint(self, end: AtRung, *, wall_seconds: float, started_at: str) -> Checkpoint:
        """Where the trial stands at the end of a leg, or anywhere on its way, to go on from later."""
        return Checkpoint(
            end.rung,
            end.step,
            {name: tensor.detach().cpu() for name, tensor in end.state.items()},
            self.steps,
            self.activations,
            self.inner_steps_total,
            time.perf_counter() - self._started,
            wall_seconds,
            started_at,
        )

    def _take_up(self, start: Checkpoint) -> None:
        self.steps, self.activations = list(start.steps), list(start.activations)
        self.inner_steps_total = start.inner_steps_total
        self.next_step = start.step + 1
        self._started -= start.search_seconds

    def _add_activations(self, step: int, genomes: Tensor) -> None:
        spec = self._setting.spec
        y, rows = curves(spec, genomes, *CURVE_RANGE, CURVE_POINTS), genomes.cpu().double()
        gain, offset = gain_and_offset(spec, rows)
        final = step == self._last
        for index, (genome, curve) in enumerate(zip(rows, y, strict=True)):
            self.activations.append(
                {
                    "num_types": spec.num_types,
                    "base": spec.base,
                    "subnet_hidden": list(spec.hidden),
                    "subnet_scale": spec.scale,
                    "step": step,
                    "final": final,
                    "type_index": index,
                    "genome": genome.tolist(),
                    "x_min": CURVE_RANGE[0],
                    "x_max": CURVE_RANGE[1],
                    "curve": curve.tolist(),
                    "normalized": spec.normalized,
                    "gain": float(gain[index]),
                    "offset": float(offset[index]),
                    "table_range": spec.table_range,
                    "table_scale": spec.table_scale,
                    "table_error": error_bounds(spec, genome.view(1, 1, -1)).value if final else None,
                }
            )
