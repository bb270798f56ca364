"""Hessian trace and spectral density of many networks (P7): PyHessian one by one against the batched measurement.

The networks are those of an evaluation, trained for a while: a learned set mixed and pure, and usual functions.  The
reference is PyHessian 0.1 on an `nn.Module` for each, its dead ``torch.eig`` replaced, with the same random signs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.bench._base import Conditions, Result, Size, agree, seconds_of
from jobs.bench.references import MixedLayer, linear_tensors, plain_network
from jobs.bench.work import SPEC, canonical
from ldnn_core.activations import (
    Activation,
    BankActivation,
    GroupedActivation,
    TableBank,
    UsualActivation,
    mixed_functions,
    pure_functions,
)
from ldnn_core.curvature import Curvature, measure_curvature, sign_probes
from ldnn_core.curvature.measure import summarized
from ldnn_core.mlp import MlpSpec
from ldnn_core.pyhessian_curvature import private_pyhessian
from ldnn_core.randomness import generator
from ldnn_core.training import train

LEARNED: Final = ("mixed", "pure-0", "pure-1")
USUAL: Final[dict[str, type[nn.Module]]] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, "tanh": nn.Tanh}
"""Usual arms, and what a user of PyTorch has for them."""

PROBES, STEPS, EIGENVALUES = 2, 32, 3
TOLERANCE = {"trace": 1e-3, "eigenvalues": 1e-3, "density": 2e-2}
"""Largest relative errors against PyHessian, which keeps its vectors in float32."""


@dataclass(frozen=True)
class Trained:
    """Networks of some arms, and the rows that their loss is measured on.

    Attributes:
        network: their sizes.
        parameters: (N, Θ), arm after arm.
        arms: name and activation of each arm, with as many networks each.
        genomes: the learned set, (K, P).
        x: rows.
        y: their targets.
    """

    network: MlpSpec
    parameters: Tensor
    arms: tuple[tuple[str, Activation], ...]
    genomes: Tensor
    x: Tensor
    y: Tensor

    def measure(self) -> Curvature:
        """All of them by the engine."""
        each = len(self.parameters) // len(self.arms)
        activation = GroupedActivation(tuple((arm, each) for _, arm in self.arms))
        counts = {"probes": PROBES, "lanczos_steps": STEPS, "eigenvalues": EIGENVALUES}
        return measure_curvature(
            self.network, self.parameters, self.x, self.y, activation, generator=generator(0, "bench-probes"), **counts
        )

    def one_of_each(self, names: Sequence[str]) -> Trained:
        """The first network of each of these arms."""
        each = len(self.parameters) // len(self.arms)
        chosen = [index for index, (name, _) in enumerate(self.arms) if name in names]
        return replace(
            self, parameters=self.parameters[[i * each for i in chosen]], arms=tuple(self.arms[i] for i in chosen)
        )

    def with_rows(self, count: int) -> Trained:
        """The same on the first so many rows."""
        return replace(self, x=self.x[:count], y=self.y[:count])

    def size(self, who: str, seconds: float) -> Size:
        """The sizes and how long somebody took."""
        networks = len(self.parameters)
        about = {"who": who, "N": networks, "width": self.network.hidden[0], "rows": len(self.x)}
        arms = ", ".join(name for name, _ in self.arms)
        return about | {"arms": arms, "seconds": seconds, "seconds_per_network": seconds / networks}


def measure_of_curvature(conditions: Conditions) -> list[Result]:
    """P7 at the canonical width, of usual arms alone as well, and growth over networks, rows and width."""
    device, quick = conditions.device, conditions.quick
    seeds, steps, width, rows = (1, 4, 8, 60) if quick else (8, 100, 100, 1000)
    names = (*LEARNED, *USUAL, "sin")
    trained = trained_networks(device, names, seeds=seeds, steps=steps, width=width)
    whole = trained.with_rows(rows)
    few, usual = whole.one_of_each(names), whole.one_of_each(tuple(USUAL))
    check = check_curvature(few)
    many_usual = trained_networks(device, tuple(USUAL), seeds=2 * seeds, steps=steps, width=width).with_rows(rows)
    repeats = 1 if quick else 2
    ours, one_by_one = seconds_of(device, whole.measure, lambda: by_pyhessian(few), repeats=repeats)
    ours_usual, usual_by_one = seconds_of(device, many_usual.measure, lambda: by_pyhessian(usual), repeats=repeats)
    base = whole.size("ours", ours), few.size("PyHessian, one by one", one_by_one)
    base_usual = many_usual.size("ours", ours_usual), usual.size("PyHessian, one by one", usual_by_one)
    grown = [
        size
        for some in (trained.one_of_each(tuple(USUAL)).with_rows(r) for r in ((20, 60) if quick else (250, 4000)))
        for size in _both(device, some, repeats)
    ]
    for other in (4, 16) if quick else (25, 400):
        network = trained_networks(device, tuple(USUAL), seeds=1, steps=steps, width=other).with_rows(rows)
        grown += _both(device, network, repeats)
    what = "Hessian trace and density, per network: PyHessian one by one ÷ ours"
    ratio, usual_ratio = (
        reference["seconds_per_network"] / own["seconds_per_network"] for own, reference in (base, base_usual)
    )
    number, of_usual = len(whole.parameters), len(many_usual.parameters)
    return [
        Result("P7", f"{what}, {number} networks of an evaluation", ratio, 8, "ratio", base, conditions, True, check),
        Result(
            "P7-usual",
            f"{what}, {of_usual} networks of usual functions",
            usual_ratio,
            None,
            "ratio",
            (*base_usual, *grown),
            conditions,
            True,
            check,
        ),
    ]


def trained_networks(
    device: str, names: Sequence[str], *, seeds: int, steps: int, width: int, dtype: torch.dtype = torch.float32
) -> Trained:
    """Networks of these arms after so many inner steps of the canonical work; arms share seeds."""
    work = canonical(device, steps=steps, width=width, networks=seeds, dtype=dtype)
    bank = TableBank(SPEC, work.genomes)
    functions = {
        "mixed": mixed_functions(work.network.hidden, SPEC.num_types),
        **{f"pure-{k}": pure_functions(work.network.hidden, k) for k in range(SPEC.num_types)},
    }
    arms = tuple(
        (name, BankActivation(bank, functions[name]) if name in functions else UsualActivation(name)) for name in names
    )
    activation = GroupedActivation(tuple((arm, seeds) for _, arm in arms))
    start, batches = work.parameters.repeat(len(arms), 1), work.batches.repeated(len(arms))
    parameters = train(work.problem, start, batches, activation).parameters
    return Trained(work.network, parameters, arms, work.genomes[0], work.batches.x, work.batches.y)


def check_curvature(trained: Trained, tolerance: dict[str, float] | None = None) -> dict[str, float]:
    """The relative errors of trace, largest eigenvalues and density to those of PyHessian with the same signs.

    Raises:
        DisagreementError: one is above its tolerance.
    """
    ours, reference = trained.measure(), by_pyhessian(trained)
    return {
        name: agree(name, getattr(ours, name), getattr(reference, name), allowed)
        for name, allowed in (tolerance or TOLERANCE).items()
    }


def by_pyhessian(trained: Trained) -> Curvature:
    """One `nn.Module` after the other; for the check summarised in the same way."""
    signs = sign_probes(PROBES, trained.network.num_params, generator(0, "bench-probes")).to(trained.x)
    vectors = [
        part for sign in signs for part in linear_tensors(trained.network, sign[None])
    ] * 2  # for trace and density
    samples, nodes, weights = [], [], []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
        for index, parameters in enumerate(trained.parameters):
            name = trained.arms[index * len(trained.arms) // len(trained.parameters)][0]
            model = _module(trained, name, parameters)
            reader = private_pyhessian(vectors).hessian(
                model, F.cross_entropy, data=(trained.x, trained.y), cuda=trained.x.is_cuda
            )
            samples.append(reader.trace(maxIter=PROBES, tol=0.0))
            values, shares = reader.density(iter=STEPS, n_v=PROBES)
            nodes.append(values)
            weights.append(shares)
            model.zero_grad()  # as its graph and its gradient keep each other alive
    first, second, third = (torch.tensor(one, dtype=torch.float64) for one in (samples, nodes, weights))
    return summarized(first, second, third, EIGENVALUES)


class _Sine(nn.Module):
    def forward(self, a: Tensor) -> Tensor:
        return torch.sin(a)


def _module(trained: Trained, name: str, parameters: Tensor) -> nn.Module:
    if name in LEARNED:
        genomes = trained.genomes if name == "mixed" else trained.genomes[int(name.removeprefix("pure-")), None]
        layer: nn.Module = MixedLayer(genomes)
    else:
        layer = USUAL[name]() if name in USUAL else _Sine()
    return plain_network(trained.network, layer, parameters[None])


def _both(device: str, some: Trained, repeats: int) -> tuple[Size, Size]:
    ours, reference = seconds_of(device, some.measure, lambda: by_pyhessian(some), repeats=repeats)
    return some.size("ours", ours), some.size("PyHessian, one by one", reference)
