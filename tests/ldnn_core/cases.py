"""Small inner problems that several tests share."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ldnn_core.activations import Bank, BankActivation, ExactBank, TableBank, mixed_functions
from ldnn_core.losses import CrossEntropy, SquaredError
from ldnn_core.mlp import MlpSpec
from ldnn_core.optimizers import SGD, Adam, Optimizer, RMSprop
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, initial_genomes
from ldnn_core.training import Batches, InnerProblem, shuffled_rows

OPTIMIZERS: dict[str, Optimizer] = {"rmsprop": RMSprop(), "sgd": SGD(0.9), "adam": Adam()}


@dataclass(frozen=True)
class Case:
    """A batch of small networks, ready to train."""

    spec: ActivationSpec
    genomes: torch.Tensor
    problem: InnerProblem
    parameters: torch.Tensor
    batches: Batches

    def activation(self, genomes=None, *, exact: bool = False, fused: bool = True) -> BankActivation:
        """The set spread over the layers."""
        genomes = self.genomes if genomes is None else genomes
        bank: Bank = ExactBank(self.spec, genomes) if exact else TableBank(self.spec, genomes, fused=fused)
        return BankActivation(bank, mixed_functions(self.problem.network.hidden, self.spec.num_types))


def small_case(
    *,
    networks: int = 3,
    steps: int = 4,
    hidden: tuple[int, ...] = (7,),
    num_types: int = 2,
    base: str = "sin",
    optimizer: str = "rmsprop",
    regression: bool = False,
    noise: float = 0.0,
    dtype: torch.dtype = torch.float64,
) -> Case:
    """Networks 5 : hidden : 3 on 40 random rows, batches of 8."""
    source = generator(0, "case")
    x = torch.randn(40, 5, generator=source, dtype=torch.float64).to(dtype)
    y = torch.randn(40, 3, generator=source).to(dtype) if regression else torch.randint(3, (40,), generator=source)
    network = MlpSpec(5, hidden, 3, SquaredError() if regression else CrossEntropy())
    spec = ActivationSpec(base, num_types, (6,), 0.8)
    rows = shuffled_rows(40, 8, steps, [generator(n, "rows") for n in range(networks)])
    stream = torch.arange(networks)
    batches = Batches(x, y, rows, stream, noise=noise, noise_seeds=tuple(range(networks)))
    return Case(
        spec,
        initial_genomes(spec, 1, dtype=dtype),
        InnerProblem(network, OPTIMIZERS[optimizer], 0.05),
        network.initial_parameters([generator(n, "network") for n in range(networks)], dtype),
        batches,
    )
