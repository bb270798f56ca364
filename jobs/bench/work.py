"""The canonical work: classifiers 40 : H : 10 on MNIST-1D, K = 2 types from sin, T inner steps of 200 rows, RMSprop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from jobs.bench._base import Size
from ldnn_core.activations import Activation, BankActivation, ExactBank, TableBank, UsualActivation, mixed_functions
from ldnn_core.estimators import Carry, Es, Estimator, FirstOrder, OuterGradient, Pes, Truncated, Unrolled
from ldnn_core.mlp import MlpSpec
from ldnn_core.optimizers import RMSprop
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, initial_genomes
from ldnn_core.tasks import Mnist1d, TaskData, cache_folder
from ldnn_core.training import Batches, InnerProblem, Trained, shuffled_rows, train

SPEC = ActivationSpec(base="sin", num_types=2, hidden=(50,))
"""The learned set."""

RULES, LR = RMSprop(), 1e-2
"""The inner optimiser and its learning rate."""

EXACT: Final = Unrolled()
CARRIED: Final = "truncated, carried"


def contenders(length: int) -> dict[str, Estimator]:
    """Every estimator by name, in the forms that are compared.

    Args:
        length: inner steps of a piece, for those that have pieces.
    """
    return {
        "unrolled": EXACT,
        "truncated": Truncated(length),
        CARRIED: Truncated(length, carried=True),
        "first_order": FirstOrder(),
        "es": Es(),
        "pes": Pes(length),
    }


@dataclass(frozen=True)
class Work:
    """N networks ready to train.

    Attributes:
        problem: network, optimiser and learning rate.
        parameters: fresh networks, (N, Θ).
        batches: a stream of rows for each network.
        genomes: the learned sets, (M, K, P): one for all networks, or one for each.
    """

    problem: InnerProblem
    parameters: Tensor
    batches: Batches
    genomes: Tensor

    @property
    def network(self) -> MlpSpec:
        """The sizes of the networks."""
        assert isinstance(self.problem.network, MlpSpec)
        return self.problem.network

    def mixed(self, *, exact: bool = False) -> BankActivation:
        """The learned types spread over the layer; with as many sets as networks each network has its own."""
        bank = ExactBank(SPEC, self.genomes) if exact else TableBank(SPEC, self.genomes)
        sets = torch.arange(len(self.genomes)) if len(self.genomes) > 1 else None
        functions = mixed_functions(self.network.hidden, SPEC.num_types, sets)
        return BankActivation(bank, tuple(layer.to(self.parameters.device) for layer in functions))

    def outer_step(
        self, estimator: Estimator = EXACT, *, seed: int | None = None, carry: Carry | None = None
    ) -> OuterGradient:
        """Outer loss and meta-gradient, the lowering of the set included."""
        arguments = (self.problem, self.parameters, self.batches, self.mixed(), len(self.batches))
        return estimator.estimate(*arguments, seed=seed, carry=carry)

    def only(self, n: int) -> Work:
        """The same of network n alone, where one set is shared."""
        batches = replace(self.batches, rows=self.batches.rows[:, n : n + 1], stream=None)
        return replace(self, parameters=self.parameters[n : n + 1], batches=batches)

    def train_mixed(self) -> Trained:
        """Train with the learned types, the lowering of the sets included."""
        return self._train(self.mixed())

    def train_relu(self) -> Trained:
        """Train with ReLU, by the same engine."""
        return self._train(UsualActivation("relu"))

    def size(self, who: str, seconds: float) -> Size:
        """The sizes of this work and how long somebody took for it."""
        steps, networks, width = len(self.batches), len(self.parameters), self.network.hidden[0]
        each = seconds / networks
        return {"who": who, "T": steps, "N": networks, "width": width, "seconds": seconds, "seconds_per_network": each}

    def _train(self, activation: Activation) -> Trained:
        return train(self.problem, self.parameters, self.batches, activation)


def canonical(
    device: str,
    *,
    steps: int = 100,
    networks: int = 1,
    width: int = 100,
    sets: int = 1,
    first: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Work:
    """The canonical work at a size; the same networks, batches and genomes each time.

    Args:
        device: where the tensors lie.
        steps: T.
        networks: N.
        width: H.
        sets: 1, or N for a set of its own for each network.
        first: number of the first network; networks of different numbers are different, with other batches.
        dtype: of all real numbers; equal up to rounding.
    """
    data = _data(device)
    rows = data.split("test")[0]  # all 4000 rows that are not test rows
    network = MlpSpec(data.inputs, (width,), data.outputs, data.loss)
    numbers = range(first, first + networks)
    parameters = network.initial_parameters([generator(0, "bench-network", n) for n in numbers])
    order = shuffled_rows(len(rows), 200, steps, [generator(0, "bench-batches", n) for n in numbers])
    return Work(
        InnerProblem(network, RULES, LR),
        parameters.to(device, dtype),
        Batches(rows.x.to(dtype), rows.y, order.to(device)).repeated(1),
        initial_genomes(SPEC, 0, sets).to(device, dtype),
    )


@lru_cache(maxsize=1)
def _data(device: str) -> TaskData:
    return Mnist1d().load(cache_folder()).to(device)
