"""`ldnn_core.curvature.measure_curvature` by PyHessian (Yao et al. 2020): one network after the other.

An independent program for the same numbers, slower.  What is wrong in PyHessian 0.1, and what is done about it here:

* ``density`` calls ``torch.eig``, which torch no longer has: it gets one made of ``torch.linalg.eigh``.
* ``trace`` stops after two samples whenever their running mean is negative, because it compares without taking the
  absolute value: it is asked for one sample at a time.
* Eigenvalues come by power iteration, so the largest *absolute* ones, to a tolerance of 1e-3: they are taken from the
  Lanczos runs of ``density`` instead, the largest first.
* Vectors are divided by their length plus 1e-6, so that they are too short where a residual is small, and a vector is
  made orthogonal in one pass, which a residual of rounding does not survive: both are replaced.
* Random vectors come from torch's global generator: they are handed in.
* The tridiagonal matrix is float32 whatever the network is: it is float64.
* It flips the module to evaluation mode and leaves it so, and leaves a graph in its gradients, with a warning of a
  leak: the module is made for the purpose, its gradients are dropped, and the warning is kept quiet.

Nothing of this is done to the installed package: a private copy of its module is changed.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor, nn

from ldnn_core.activations import Activation
from ldnn_core.curvature.lanczos import any_direction
from ldnn_core.curvature.measure import Curvature, check_counts, sign_probes, summarized
from ldnn_core.network import Network

_ROUNDING: Final = 1e-5
"""What is left of a vector of length one when all of it lay along others; in float32 that is more than in float64."""


def measure_curvature(
    network: Network,
    parameters: Tensor,
    x: Tensor,
    y: Tensor,
    activation: Activation,
    *,
    generator: torch.Generator,
    probes: int,
    lanczos_steps: int,
    eigenvalues: int,
) -> Curvature:
    """Measure the Hessians of trained networks with PyHessian; arguments, result and errors as of the batched one.

    The same generator gives the same probes as there, so the two differ by rounding alone: PyHessian's vectors have
    the type of the parameters, which matters where Lanczos has not converged.
    """
    steps = check_counts(network, probes, lanczos_steps, eigenvalues)
    signs = sign_probes(probes, network.num_params, generator).to(parameters)
    samples, nodes, weights = [], [], []
    for index in range(len(parameters)):
        one = slice(index, index + 1)
        model = _OneNetwork(network, parameters[one], activation.of_networks(one))
        found = _measure_one(model, network, x, y, signs, steps)
        samples.append(found[0])
        nodes.append(found[1])
        weights.append(found[2])
    return summarized(torch.stack(samples), torch.stack(nodes), torch.stack(weights), eigenvalues)


class _OneNetwork(nn.Module):
    """One network of the batch as PyHessian wants it; its parameters are one vector."""

    def __init__(self, network: Network, parameters: Tensor, activation: Activation) -> None:
        super().__init__()
        self._network, self._activation = network, activation
        self.flat = nn.Parameter(parameters.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return self._network.forward(self.flat, x.unsqueeze(0), self._activation)[0]


def _measure_one(
    model: _OneNetwork, network: Network, x: Tensor, y: Tensor, signs: Tensor, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Samples of the trace (P,), nodes and weights of the density (P, m), in float64; NaN where one is not finite."""

    def criterion(z: Tensor, target: Tensor) -> Tensor:
        return network.loss.value(z, target.unsqueeze(0)).sum()

    with warnings.catch_warnings(), torch.enable_grad():
        warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
        mended = private_pyhessian([*signs, *signs])  # for the trace, and again for the density
        vars(mended).update(normalization=_unit, orthnormal=_orthonormal)
        reader = mended.hessian(model, criterion, data=(x, y), cuda=False)
        reader.device = x.device  # it knows "cpu" and "cuda" only
        samples = torch.tensor([reader.trace(maxIter=1)[0] for _ in signs], dtype=torch.float64)
        nodes = weights = torch.full((len(signs), steps), float("nan"), dtype=torch.float64)
        if bool(torch.isfinite(samples).all()):
            nodes, weights = (torch.tensor(one, dtype=torch.float64) for one in reader.density(steps, len(signs)))
    model.flat.grad = None  # else graph and gradient keep each other alive
    return samples, nodes, weights


class _Torch:
    """The module torch, as PyHessian's copy sees it: with ``eig``, without a random generator of its own.

    Args:
        signs: what ``randint_like`` gives, one after the other, as zeros and ones.
    """

    def __init__(self, signs: Iterable[Tensor]) -> None:
        self._signs: Iterator[Tensor] = iter(signs)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def randint_like(self, like: Tensor, high: int, device: Any) -> Tensor:
        return (next(self._signs) > 0).to(like).view_as(like)

    def zeros(self, *shape: Any) -> Tensor:
        return torch.zeros(*shape, dtype=torch.float64)

    def eig(self, matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
        """Values as pairs (real, imaginary) and vectors, as ``torch.eig`` gave them."""
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], dim=1), vectors


def private_pyhessian(signs: Iterable[Tensor]) -> ModuleType:
    """A copy of the module ``pyhessian.hessian`` whose ``density`` runs, with these signs as its random vectors.

    Args:
        signs: of +1 and -1, one for each tensor of parameters whenever ``trace`` or ``density`` draws a vector.
    """
    spec = importlib.util.find_spec("pyhessian.hessian")
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    vars(copy)["torch"] = _Torch(signs)
    return copy


def _unit(v: list[Tensor]) -> list[Tensor]:
    length = _flat(v).norm()
    return [part / length for part in v]


def _orthonormal(w: list[Tensor], known: list[list[Tensor]]) -> list[Tensor]:
    """In two passes; where nothing but rounding is left of w, another direction goes on."""
    basis = torch.stack([_flat(v) for v in known])
    flat = _flat(w)
    once = _without(flat / flat.norm(), basis)
    if float(once.norm()) < _ROUNDING:
        once = _without(any_direction(len(flat), len(known), flat), basis)
    twice = _without(once / once.norm(), basis)
    parts = (twice / twice.norm()).split([part.numel() for part in w])
    return [part.view_as(own) for part, own in zip(parts, w, strict=True)]


def _flat(v: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in v])


def _without(w: Tensor, basis: Tensor) -> Tensor:
    return w - (basis @ w) @ basis
