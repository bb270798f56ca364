"""Networks of several widths in one batch by padding to the widest: what a bucket for each width is measured against.

A unit that pads has weights of zero on both sides.  Those into it get no gradient, as none comes back through the zeros
that leave it; those out of it would get one where σ(0) is not 0, so gradients are masked.  The padded networks then
train exactly as the narrow ones.

Shapes: N networks of all widths, D inputs, H units of the widest, C outputs, Θ parameters of the widest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.bench.work import SPEC, Work
from ldnn_core.activations import BankActivation, TableBank, mixed_functions
from ldnn_core.mlp import MlpSpec
from ldnn_core.training import Batches, InnerProblem


@dataclass(frozen=True)
class Padded:
    """The networks of several works as one batch.

    Attributes:
        problem: of the widest work.
        parameters: all networks, work after work, (N, Θ).
        mask: 1 where a parameter is of the network and 0 where it pads, (N, Θ).
        batches: the streams of the works.
        genomes: the set that all networks use, (1, K, P).
        functions: of each unit, (N, H).
    """

    problem: InnerProblem
    parameters: Tensor
    mask: Tensor
    batches: Batches
    genomes: Tensor
    functions: Tensor

    def train(self) -> Tensor:
        """Parameters (N, Θ) after training with the learned types, the lowering of the set included."""
        activation = BankActivation(TableBank(SPEC, self.genomes), (self.functions,))
        state = self.problem.start(self.parameters)
        with torch.no_grad():
            while state.step < len(self.batches):
                _, gradient = self.problem.gradient(state, self.batches, activation)
                state = self.problem.advance(state, gradient.mul_(self.mask))
        return state.parameters


def padded(works: Sequence[Work]) -> Padded:
    """Works that differ in width alone, the widest last, as one batch."""
    widest, streams = works[-1], works[-1].batches.rows.shape[1]
    functions = []
    for work in works:
        (own,) = mixed_functions(work.network.hidden, SPEC.num_types)
        beside = widest.network.hidden[0] - own.shape[1]
        functions.append(torch.nn.functional.pad(own, (0, beside)).expand(len(work.parameters), -1))
    parameters = [widen(work.parameters, work.network, widest.network) for work in works]
    masks = [widen(torch.ones_like(work.parameters), work.network, widest.network) for work in works]
    stream = torch.arange(streams, device=widest.parameters.device).repeat(len(works))
    return Padded(
        widest.problem,
        torch.cat(parameters),
        torch.cat(masks),
        Batches(widest.batches.x, widest.batches.y, widest.batches.rows, stream),
        widest.genomes,
        torch.cat(functions),
    )


def widen(parameters: Tensor, narrow: MlpSpec, wide: MlpSpec) -> Tensor:
    """Parameters of one hidden layer in the places of a wider network, zeros elsewhere; (n, Θ) for both sizes."""
    result = parameters.new_zeros(len(parameters), wide.num_params)
    for ours, theirs in zip(narrow.layers(parameters), wide.layers(result), strict=True):
        for own, place in zip(ours, theirs, strict=True):
            place[:, : own.shape[1], : own.shape[2]] = own
    return result
