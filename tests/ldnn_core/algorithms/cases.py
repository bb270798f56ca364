"""Problems with a known optimum, in the coordinates that the algorithms search."""

from __future__ import annotations

import torch

from ldnn_core.algorithms import ALGORITHMS
from ldnn_core.algorithms.coordinates import weight_units
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import ActivationSpec, exact_values, normal_quadrature

SPEC = ActivationSpec("sin", 2, (4,))
SMALL = ActivationSpec("sin", 1, (3,))
"""Of ten weights."""
AROUND_A_MEAN = ["openai_es", "snes", "sep_cma_es", "cma_es"]


def make(name, seed=0, spec=SPEC, **options):
    return ALGORITHMS[name](spec, seed, **{"population": 12, **options})


def points(genomes, spec=SPEC):
    """Genomes (..., K, P) in units of initial bounds, (..., n) float64."""
    return (genomes.double() / weight_units(spec)).flatten(-2)


def curve_change(spec, genomes, others):
    """Root mean square difference of curves under the unit normal density: (F, P) and (F, P) float64 → (F,)."""
    x, weights = normal_quadrature()
    before, after = (exact_values(spec, one, x.expand(len(one), -1)) for one in (genomes, others))
    return ((after - before).square() * weights).sum(1).sqrt()


class Quadratic:
    """½ Σ a_i (R (x - x₀))_i², the optimum at x₀ = 0.3 everywhere: a sphere, an ellipsoid, or a rotated one."""

    def __init__(self, spec=SPEC, *, condition=1.0, rotated=False):
        size = spec.num_types * spec.genome_size
        self.spec = spec
        self.curvatures = torch.logspace(0, torch.tensor(condition).log10().item(), size, dtype=torch.float64)
        normal = torch.randn(size, size, dtype=torch.float64, generator=generator(0, "rotation"))
        self.axes = torch.linalg.qr(normal).Q if rotated else torch.eye(size, dtype=torch.float64)

    def __call__(self, genomes):
        return ((points(genomes, self.spec) - 0.3) @ self.axes.T).square() @ self.curvatures / 2


def run(algorithm, loss, generations):
    for _ in range(generations):
        algorithm.tell(loss(algorithm.ask()))
    return algorithm


def losses_of_incumbent(algorithm, loss):
    return float(loss(algorithm.incumbent().unsqueeze(0)))
