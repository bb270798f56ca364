"""The programs that the engine is measured against: what a competent user of PyTorch would write.

They share nothing with the engine but the initial numbers, and are checked to end with the same results.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.bench.work import LR, RULES, SPEC, Work
from ldnn_core.mlp import MlpSpec


def plain_outer_step(work: Work) -> tuple[Tensor, Tensor]:
    """Outer loss and meta-gradient (K, P) of the first network: exact sub-networks, the whole graph kept.

    The types take contiguous blocks of the layer, so that each neuron is computed once.
    """
    genomes = work.genomes[0].clone().requires_grad_()
    weights = [weight.requires_grad_() for weight in linear_tensors(work.network, work.parameters[:1])]
    squares = [torch.ones_like(weight) for weight in weights]
    losses = []
    for rows in work.batches.rows[:, 0]:
        w1, b1, w2, b2 = weights
        blocks = torch.tensor_split(F.linear(work.batches.x[rows], w1, b1), len(genomes), dim=1)
        hidden = torch.cat([_sub_network(a, genome) for a, genome in zip(blocks, genomes, strict=True)], dim=1)
        loss = F.cross_entropy(F.linear(hidden, w2, b2), work.batches.y[rows])
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        squares = [RULES.decay * s + (1 - RULES.decay) * g * g for s, g in zip(squares, gradients, strict=True)]
        weights = [
            w - LR * g / (torch.sqrt(s) + RULES.epsilon) for w, g, s in zip(weights, gradients, squares, strict=True)
        ]
        losses.append(loss)
    outer_loss = torch.stack(losses).mean()
    (gradient,) = torch.autograd.grad(outer_loss, genomes)
    return outer_loss.detach(), gradient


def sequential_relu(work: Work) -> tuple[Tensor, Tensor]:
    """Losses (T, N) and accuracies (N,) on all rows: one `nn.Module` with ReLU after the other."""
    histories, accuracies = [], []
    for n in range(len(work.parameters)):
        model, losses = _train_relu(work, n)
        histories.append(torch.stack(losses))
        with torch.no_grad():
            accuracies.append((model(work.batches.x).argmax(dim=1) == work.batches.y).double().mean())
    return torch.stack(histories, dim=1), torch.stack(accuracies)


def train_sequentially(work: Work) -> None:
    """Only the training of `sequential_relu`, which is what is timed."""
    for n in range(len(work.parameters)):
        _train_relu(work, n)


class MixedLayer(nn.Module):
    """A learned set in a layer of a network: exact sub-networks, the types in contiguous blocks.

    Args:
        genomes: of the set, (K, P); frozen.
    """

    def __init__(self, genomes: Tensor) -> None:
        super().__init__()
        self.genomes = list(genomes)

    def forward(self, a: Tensor) -> Tensor:
        """Apply each type to its neurons, (B, H) → (B, H)."""
        blocks = torch.tensor_split(a, len(self.genomes), dim=1)
        return torch.cat([_sub_network(block, g) for block, g in zip(blocks, self.genomes, strict=True)], dim=1)


def train_candidate(
    network: MlpSpec, parameters: Tensor, x: Tensor, y: Tensor, rows: Tensor, genomes: Tensor
) -> Tensor:
    """Training losses (T,) of one classifier with a candidate set, by `nn.Module` and `torch.optim`.

    Args:
        network: its sizes; one hidden layer.
        parameters: the initial classifier, (1, Θ).
        x: all rows of data.
        y: their classes.
        rows: of each inner step, (T, B).
        genomes: the candidate, (K, P).
    """
    return torch.stack(_train(plain_network(network, MixedLayer(genomes), parameters), x, y, rows))


def plain_network(network: MlpSpec, layer: nn.Module, parameters: Tensor) -> nn.Sequential:
    """A network with one hidden layer as an `nn.Module`.

    Args:
        network: its sizes.
        layer: what its hidden units apply.
        parameters: of the network, (1, Θ).
    """
    model = nn.Sequential(
        nn.Linear(network.inputs, network.hidden[0]), layer, nn.Linear(network.hidden[0], network.outputs)
    ).to(parameters)
    with torch.no_grad():
        for own, value in zip(model.parameters(), linear_tensors(network, parameters), strict=True):
            own.copy_(value)
    return model


def linear_tensors(network: MlpSpec, parameters: Tensor) -> list[Tensor]:
    """Parameters (1, Θ) of a network in the order and shapes of `nn.Linear`."""
    pairs = [(weight[0].T.contiguous(), bias.flatten().clone()) for weight, bias in network.layers(parameters)]
    return [tensor for pair in pairs for tensor in pair]


def _train_relu(work: Work, n: int) -> tuple[nn.Module, list[Tensor]]:
    model = plain_network(work.network, nn.ReLU(), work.parameters[n : n + 1])
    return model, _train(model, work.batches.x, work.batches.y, work.batches.rows[:, n])


def _train(model: nn.Module, x: Tensor, y: Tensor, rows: Tensor) -> list[Tensor]:
    optimizer = torch.optim.RMSprop(model.parameters(), lr=LR, alpha=RULES.decay, eps=RULES.epsilon)
    for parameter in model.parameters():
        # the published rule starts the squared-gradient average at ones, torch.optim at zeros
        optimizer.state[parameter] = {"step": torch.tensor(0.0), "square_avg": torch.ones_like(parameter)}
    losses = []
    for batch in rows:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def _sub_network(a: Tensor, genome: Tensor) -> Tensor:
    """sin(a) + c · s(a); as two `F.linear` over all elements at once, the fastest plain way on a CPU."""
    w1, b1, w2, b2 = torch.split(genome, [*SPEC.hidden * 3, 1])
    tanh = torch.tanh(F.linear(a.reshape(-1, 1), w1.unsqueeze(1), b1))
    return torch.sin(a) + SPEC.scale * F.linear(tanh, w2.unsqueeze(0), b2).view_as(a)
