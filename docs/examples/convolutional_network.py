"""A found set in a convolutional network of somebody else's making.

The network is written as torchvision writes its own: blocks of convolution, batch normalisation and activation, and the
activation is an argument.  Nothing in it knows of this package.

    python docs/examples/convolutional_network.py set.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ldnn_core import load_activation


class ConvNormActivation(nn.Sequential):
    """Convolution, batch normalisation, activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation_layer: Callable[[], nn.Module]) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), activation_layer()
        )


class Residual(nn.Module):
    """Two such layers beside a shortcut."""

    def __init__(self, channels: int, activation_layer: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first = ConvNormActivation(channels, channels, 1, activation_layer)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.activation = activation_layer()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width), as it came."""
        return self.activation(x + self.second(self.first(x)))


class SmallResNet(nn.Module):
    """A stem, two stages, a mean over the picture, and a linear layer."""

    def __init__(
        self,
        inputs: int = 1,
        classes: int = 10,
        width: int = 16,
        activation_layer: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvNormActivation(inputs, width, 1, activation_layer),
            Residual(width, activation_layer),
            ConvNormActivation(width, 2 * width, 2, activation_layer),
            Residual(2 * width, activation_layer),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, height, width) → (B, classes)."""
        return self.classifier(self.features(x).flatten(1))


def train(model: nn.Module, x: Tensor, y: Tensor, *, steps: int, lr: float = 0.05) -> list[float]:
    """Losses of so many steps of stochastic gradient descent on all rows."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def hessian_times(model: nn.Module, x: Tensor, y: Tensor, direction: list[Tensor]) -> list[Tensor]:
    """The Hessian of the loss times a direction, by differentiating twice."""
    parameters = list(model.parameters())
    gradient = torch.autograd.grad(cross_entropy(model(x), y), parameters, create_graph=True)
    slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
    return list(torch.autograd.grad(slope, parameters))


def stripes(rows: int, size: int, classes: int) -> tuple[Tensor, Tensor]:
    """Made-up pictures of stripes, a class for each width, with noise."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(rows) % classes
    x = torch.sin(torch.arange(size) * (1.0 + y.view(-1, 1)) * 3 / size).view(rows, 1, 1, size).expand(-1, -1, size, -1)
    return x + 0.3 * torch.randn(rows, 1, size, size, generator=generator), y


def main() -> None:
    """Train the network with ReLU and with the set, and look at its curvature."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--width", type=int, default=16)
    asked = parser.parse_args()
    x, y = stripes(rows=60, size=16, classes=4)
    for name, layer in {"relu": nn.ReLU, "found set": lambda: load_activation(asked.card)}.items():
        torch.manual_seed(0)
        model = SmallResNet(classes=4, width=asked.width, activation_layer=layer)
        losses = train(model, x, y, steps=asked.steps)
        direction = [torch.ones_like(parameter) for parameter in model.parameters()]
        product = hessian_times(model, x, y, direction)
        finite = all(bool(part.isfinite().all()) for part in product)
        print(f"{name}: loss {losses[0]:.3f} -> {losses[-1]:.3f}, second derivatives finite: {finite}")  # noqa: T201


if __name__ == "__main__":
    main()
