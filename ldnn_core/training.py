"""The inner loop: training a batch of networks with the activation set frozen.

Shapes: N networks, S streams, T inner steps, B batch, D inputs, H units, R rows of data.
A *stream* is one source of batches and noise.  Networks that are to be compared share a stream, so that their
difference is due to what distinguishes them (common random numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ldnn_core.accelerator import block_bytes
from ldnn_core.activations import Activation, BankActivation
from ldnn_core.layout import Mixing
from ldnn_core.network import Network, Noise, widest_layer
from ldnn_core.optimizers import Optimizer, Slots
from ldnn_core.philox import uniform_noise
from ldnn_core.regime import Regime

VALIDATION_BYTES = 8 << 20
"""Networks are validated in blocks whose widest hidden layer takes about this much memory on a CPU."""


FIRST_DROPPED = 1000
"""Noise of hidden layers is numbered from 0, that of places that drop units from here."""


@dataclass(frozen=True)
class Batches:
    """Which rows every network sees at every inner step, and the noise on its hidden units.

    Attributes:
        x: all rows, (R, D).
        y: their targets, (R, ...).
        rows: (T, S, B) int64, rows of each step and stream.
        stream: (N,) int64, the stream of each network; None when there is one stream for all.
        noise: half-width of the uniform noise added to hidden units.
        noise_seeds: one seed per stream.
    """

    x: Tensor
    y: Tensor
    rows: Tensor
    stream: Tensor | None = None
    noise: float = 0.0
    noise_seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if min(self.rows.shape) < 1:
            raise ValueError(f"batches need steps, streams and rows, but got shape {tuple(self.rows.shape)}")

    def __len__(self) -> int:
        """T, the number of inner steps."""
        return len(self.rows)

    def repeated(self, times: int) -> Batches:
        """The same for ``times`` groups of networks, one group after the other.

        Every group has the streams of the networks of this one; where these are not said, a network per stream.
        """
        streams = self.rows.shape[1]
        if streams == 1:
            return replace(self, stream=None)
        stream = torch.arange(streams, device=self.rows.device) if self.stream is None else self.stream
        return replace(self, stream=stream.repeat(times))

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, (N or 1, B, ...)."""
        rows = self.rows[step]
        if self.stream is not None:
            rows = rows[self.stream]
        flat = rows.reshape(-1)  # index_select is several times faster than indexing, which serves any pattern
        x, y = self.x.index_select(0, flat), self.y.index_select(0, flat)
        return x.view(*rows.shape, *x.shape[1:]), y.view(*rows.shape, *y.shape[1:])

    def noise_at(self, step: int, hidden: Sequence[int], dropped: Sequence[int] = ()) -> Noise:
        """Noise of a step: the same whenever it is asked for, so that a step can be computed again.

        Args:
            step: of the inner loop.
            hidden: units of each layer that noise is added to.
            dropped: units of each place that drops some.

        Raises:
            ValueError: there are no seeds to draw it from.
        """
        added = list(enumerate(hidden)) if self.noise else []
        dropping = list(enumerate(dropped, start=FIRST_DROPPED))
        if not added and not dropping:
            return ()
        if not self.noise_seeds:
            raise ValueError("noise and dropout need one seed per stream, but got noise_seeds=()")
        batch = self.rows.shape[2]
        layers = [
            uniform_noise(self.noise_seeds, step, layer, (batch, units), half_width, self.x)
            for places, half_width in ((added, self.noise), (dropping, 1.0))
            for layer, units in places
        ]
        return tuple(layer if self.stream is None else layer.index_select(0, self.stream) for layer in layers)


def shuffled_rows(num_rows: int, batch_size: int, steps: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Rows of each step and stream, (T, S, B): whole epochs in random order, an incomplete last batch dropped.

    Args:
        num_rows: how many there are.
        batch_size: B.
        steps: T.
        generators: one for each of S streams.

    Raises:
        ValueError: a batch is larger than the data or empty.
    """
    if not 1 <= batch_size <= num_rows:
        raise ValueError(f"1 <= batch_size <= rows must hold, but got (batch_size={batch_size}, rows={num_rows})")
    per_epoch = num_rows // batch_size
    epochs = -(-steps // per_epoch)
    streams = []
    for source in generators:
        order = [torch.randperm(num_rows, generator=source)[: per_epoch * batch_size] for _ in range(epochs)]
        streams.append(torch.cat(order).view(-1, batch_size)[:steps])
    return torch.stack(streams, dim=1)


@dataclass(frozen=True)
class TrainState:
    """Where a batch of networks is in its training.

    Attributes:
        parameters: (N, Θ).
        slots: the optimiser's memory, each (N, Θ).
        step: inner steps done.
    """

    parameters: Tensor
    slots: Slots
    step: int = 0


@dataclass(frozen=True)
class Validation:
    """Rows that networks are judged by after their last inner step.

    Attributes:
        x: inputs (V, ...).
        y: targets (V, ...).
        error: outputs (N, V, C) and targets → (N,), small is good, e.g. the share of wrong answers; None for the loss
            of the network, the only one that gradients can be had of.
    """

    x: Tensor
    y: Tensor
    error: Callable[[Tensor, Tensor], Tensor] | None = None


@dataclass(frozen=True)
class InnerProblem:
    """How networks are trained and judged; with a state, an activation and batches it makes the inner loop.

    Attributes:
        network: what is trained, and its loss.
        optimizer: the inner optimiser.
        lr: learning rate, a number or (N, 1).
        validation: what the outer loss is measured on; None for the training losses of the last inner steps.
        mixing: where the types of a set are told apart, for those who spread sets over the network.
    """

    network: Network
    optimizer: Optimizer
    lr: Tensor | float
    validation: Validation | None = None
    mixing: Mixing = "within_layer"

    def start(self, parameters: Tensor) -> TrainState:
        """The state before the first inner step."""
        return TrainState(parameters, self.optimizer.slots(parameters))

    def gradient(self, state: TrainState, batches: Batches, activation: Activation) -> tuple[Tensor, Tensor]:
        """Loss (N,) and gradient (N, Θ) at the state's step."""
        x, y = batches.at(state.step)
        noise = batches.noise_at(state.step, self.network.hidden, self.network.dropped)
        return self.network.loss_gradient(state.parameters, x, y, activation, noise)

    def gradient_vjp(
        self, state: TrainState, batches: Batches, activation: BankActivation, v: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pull cotangents v of the gradient and w of the loss back; see `Network.gradient_vjp`."""
        x, y = batches.at(state.step)
        noise = batches.noise_at(state.step, self.network.hidden, self.network.dropped)
        return self.network.gradient_vjp(state.parameters, x, y, activation, v, w, noise)

    def advance(self, state: TrainState, gradient: Tensor, factor: float = 1.0) -> TrainState:
        """The state after one optimiser update, with the learning rate times a factor."""
        lr = self.lr if factor == 1.0 else self.lr * factor
        parameters, slots = self.optimizer.update(state.parameters, state.slots, gradient, lr, state.step)
        return TrainState(parameters, slots, state.step + 1)

    def repeated(self, times: int) -> InnerProblem:
        """The same problem for ``times`` groups of its networks, one group after the other."""
        if not isinstance(self.lr, Tensor) or self.lr.numel() == 1:
            return self
        return replace(self, lr=self.lr.repeat(times, 1))

    def validation_loss(self, parameters: Tensor, activation: Activation) -> Tensor:
        """What the validation rows say of trained networks (N, Θ) → (N,), without a graph or noise.

        Raises:
            ValueError: the problem has no validation rows.
        """
        judged = self.validation
        if judged is None:
            raise ValueError("the problem must have validation rows, but got validation=None")
        error = judged.error or self.network.loss.value
        row = widest_layer(self.network, tuple(judged.x.shape[1:])) * judged.x.element_size()
        size = max(1, block_bytes(VALIDATION_BYTES, judged.x) // (len(judged.x) * row))
        losses = []
        with torch.no_grad():
            for first in range(0, len(parameters), size):
                block = slice(first, min(first + size, len(parameters)))
                own = activation.of_networks(block)
                z, _ = self.network.forward(parameters[block], judged.x.unsqueeze(0), own)
                losses.append(error(z, judged.y if judged.error else judged.y.unsqueeze(0)).to(parameters.dtype))
        return torch.cat(losses)

    def steps(self, state: TrainState, batches: Batches, activation: Activation) -> Iterator[tuple[TrainState, Tensor]]:
        """Yield, for every remaining step, the state after it and the loss (N,) before its update."""
        while state.step < len(batches):
            loss, gradient = self.gradient(state, batches, activation)
            state = self.advance(state, gradient)
            yield state, loss


@dataclass(frozen=True)
class Trained:
    """What a finished inner loop leaves.

    Attributes:
        parameters: (N, Θ).
        losses: training loss at every step before its update, (T, N).
        diverged: (N,) bool, whether a loss or a final parameter is not finite.
        snapshots: parameters on the way, (N, Θ) each, as the regime asks.
    """

    parameters: Tensor
    losses: Tensor
    diverged: Tensor
    snapshots: tuple[Tensor, ...] = ()


def train(
    problem: InnerProblem,
    parameters: Tensor,
    batches: Batches,
    activation: Activation,
    *,
    after_step: Callable[[TrainState], None] | None = None,
    regime: Regime | None = None,
) -> Trained:
    """Run the whole inner loop from fresh parameters, without a graph.

    Args:
        problem: network, optimiser, learning rate.
        parameters: initial parameters (N, Θ); not changed.
        batches: rows and noise of every step.
        activation: of all hidden layers.
        after_step: called with the state after every step, e.g. to measure accuracy at the end of an epoch.
        regime: schedule, weight decay, repulsion and snapshots; None for a constant learning rate and nothing else.
    """
    state, regime = problem.start(parameters), regime or Regime()
    checkpoint_steps = regime.repulsion.at if regime.repulsion else ()
    losses: list[Tensor] = []
    checkpoints: list[Tensor] = []
    snapshots: list[Tensor] = []
    with torch.no_grad():
        while state.step < len(batches):
            loss, gradient = problem.gradient(state, batches, activation)
            gradient = regime.gradient(gradient, state.parameters, checkpoints)
            state = problem.advance(state, gradient, regime.schedule.factor(state.step))
            losses.append(loss)
            if state.step in checkpoint_steps:
                checkpoints.append(state.parameters)
            if state.step in regime.snapshots:
                snapshots.append(state.parameters)
            if after_step is not None:
                after_step(state)
    history = torch.stack(losses)
    finite = torch.isfinite(history).all(dim=0) & torch.isfinite(state.parameters).all(dim=1)
    return Trained(state.parameters, history, ~finite, tuple(snapshots))
