"""Separable CMA-ES on genomes, through the package `cmaes` (Ros & Hansen 2008).

Weights are searched in units of their initial bound 1/√fan_in, so that one step size serves all layers.
"""

from __future__ import annotations

import numpy as np
import torch
from cmaes import SepCMA
from torch import Tensor

from ldnn_core.algorithms._base import State, check_losses
from ldnn_core.randomness import derive_seed
from ldnn_core.subnetwork import ActivationSpec, initial_bounds, initial_genomes

_SCALARS = ("_sigma", "_g")
_ARRAYS = ("_mean", "_C", "_pc", "_p_sigma", "_funhist_values")


class SepCmaEs:
    """Algorithm ``sep_cma_es``.

    Args:
        spec: what all sets share.
        seed: of every random choice.
        population: Q.
        mutation_scale: the initial step size σ.

    Raises:
        ValueError: a population below four, for which the method has no parents to average.
    """

    def __init__(self, spec: ActivationSpec, seed: int, *, population: int = 16, mutation_scale: float = 0.1) -> None:
        if population < 4:
            raise ValueError(f"population >= 4 must hold for sep_cma_es, but got population={population}")
        start = initial_genomes(spec, seed)[0]
        self._bounds = initial_bounds(spec)
        self._shape = start.shape
        self._cma = SepCMA(
            mean=(start / self._bounds).double().flatten().numpy(),
            sigma=mutation_scale,
            population_size=population,
            seed=derive_seed(seed, "sep-cma-es") % 2**32,
        )
        self._asked = np.zeros((population, start.numel()))

    def ask(self) -> Tensor:
        """Draws around the mean."""
        self._asked = np.stack([self._cma.ask() for _ in range(self._cma.population_size)])
        return self._genomes(self._asked)

    def tell(self, losses: Tensor) -> None:
        """Move mean, covariance and step size; infinite losses take part as the worst finite one."""
        values = check_losses(losses, len(self._asked)).double().numpy()
        finite = values[np.isfinite(values)]
        values = np.where(np.isfinite(values), values, finite.max() + 1.0 if len(finite) else 0.0)
        self._cma.tell(list(zip(self._asked, values.tolist(), strict=True)))

    def incumbent(self) -> Tensor:
        """The mean."""
        return self._genomes(self._cma._mean)

    def step_size(self) -> float:
        """σ."""
        return float(self._cma._sigma)

    def state(self) -> State:
        """Mean, covariance, paths, step size, and the generator, which the package's own pickling leaves out."""
        name, key, position, has_gauss, cached = self._cma._rng.get_state()
        assert name == "MT19937"  # RandomState has had no other
        arrays = {key: np.atleast_1d(getattr(self._cma, key)) for key in (*_SCALARS, *_ARRAYS)}
        arrays |= {"asked": self._asked, "rng_key": key.astype(np.int64)}
        arrays |= {"rng_position": np.array([position, has_gauss]), "rng_cached": np.array([cached])}
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        arrays = {name: tensor.numpy().copy() for name, tensor in state.items()}
        for name in _ARRAYS:
            setattr(self._cma, name, arrays[name])
        self._cma._D = None  # the package computes it again from C
        self._cma._sigma, self._cma._g = float(arrays["_sigma"][0]), int(arrays["_g"][0])
        self._asked = arrays["asked"]
        position, has_gauss = (int(v) for v in arrays["rng_position"])
        key = arrays["rng_key"].astype(np.uint32)
        self._cma._rng.set_state(("MT19937", key, position, has_gauss, float(arrays["rng_cached"][0])))

    def _genomes(self, points: np.ndarray) -> Tensor:
        scaled = torch.from_numpy(np.array(points)).to(torch.float32)
        return scaled.view(*points.shape[:-1], *self._shape) * self._bounds
