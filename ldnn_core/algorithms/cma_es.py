"""CMA-ES on genomes, full (Hansen 2016) or separable (Ros & Hansen 2008), through the package `cmaes`.

n weights of a set cost the full method n² numbers of memory, Q n² while a generation is told, and an
eigendecomposition per generation: about 10 ms at n = 300, 0.2 s at n = 1000.  The separable one knows variances only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from cmaes import CMA, SepCMA
from threadpoolctl import ThreadpoolController
from torch import Tensor

from ldnn_core.algorithms._base import State, check_losses
from ldnn_core.algorithms.coordinates import Coordinates
from ldnn_core.randomness import derive_seed
from ldnn_core.subnetwork import ActivationSpec

_SCALARS = ("_sigma", "_g")
_ARRAYS = ("_mean", "_C", "_pc", "_p_sigma")
# The decomposition of C is kept between `ask` and `tell`; computed again from C it would differ in its last digits.
_DECOMPOSED = ("_D", "_B")


class CmaEs:
    """Algorithms ``cma_es`` and ``sep_cma_es``.

    Args:
        spec: what all sets share.
        seed: of every random choice.
        population: Q.
        mutation_scale: the initial step size σ.
        layer_scales: relative scale of each layer of the sub-network; see `weight_units`.
        separable: whether the covariance is diagonal.

    Raises:
        ValueError: a population below four, for which the method has no parents to average, or layer scales that do
            not fit.
    """

    def __init__(
        self,
        spec: ActivationSpec,
        seed: int,
        *,
        population: int = 16,
        mutation_scale: float = 0.1,
        layer_scales: Sequence[float] = (),
        separable: bool = False,
    ) -> None:
        name = "sep_cma_es" if separable else "cma_es"
        if population < 4:
            raise ValueError(f"population >= 4 must hold for {name}, but got population={population}")
        self._coordinates = Coordinates.of(spec, seed, layer_scales)
        self._cma = (SepCMA if separable else CMA)(
            mean=self._coordinates.start.clone().numpy(),
            sigma=mutation_scale,
            population_size=population,
            seed=derive_seed(seed, name.replace("_", "-")) % 2**32,
        )
        self._asked = np.zeros((population, self._cma.dim))
        self._libraries = ThreadpoolController()

    def ask(self) -> Tensor:
        """Draws around the mean."""
        with self._one_thread():
            self._asked = self._draws()
        return self._genomes(self._asked)

    def tell(self, losses: Tensor) -> None:
        """Move mean, covariance and step size; a generation without a finite loss moves nothing."""
        values = check_losses(losses, len(self._asked)).double()
        if torch.isfinite(values).any():
            with self._one_thread():
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
        arrays |= {key: getattr(self._cma, key) for key in _DECOMPOSED if getattr(self._cma, key, None) is not None}
        arrays |= {"asked": self._asked, "rng_key": key.astype(np.int64)}
        arrays |= {"rng_position": np.array([position, has_gauss]), "rng_cached": np.array([cached])}
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        arrays = {name: tensor.numpy().copy() for name, tensor in state.items()}
        for name in _ARRAYS:
            setattr(self._cma, name, arrays[name])
        for name in _DECOMPOSED:
            setattr(self._cma, name, arrays.get(name))
        self._cma._sigma, self._cma._g = float(arrays["_sigma"][0]), int(arrays["_g"][0])
        self._asked = arrays["asked"]
        position, has_gauss = (int(v) for v in arrays["rng_position"])
        key = arrays["rng_key"].astype(np.uint32)
        self._cma._rng.set_state(("MT19937", key, position, has_gauss, float(arrays["rng_cached"][0])))

    def _one_thread(self) -> AbstractContextManager[object]:
        """Matrix products and decompositions of more threads differ in their last digits."""
        limited: AbstractContextManager[object] = self._libraries.limit(limits=1, user_api="blas")
        return limited

    def _draws(self) -> np.ndarray:
        """What the package's `ask` gives for each candidate in turn, (Q, n)."""
        cma, count = self._cma, len(self._asked)
        if isinstance(cma, SepCMA):
            return np.stack([cma.ask() for _ in range(count)])
        # The package multiplies the decomposition out again for each candidate, which takes as long as making it.
        axes, lengths = cma._eigen_decomposition()
        draws: np.ndarray = cma._mean + cma._sigma * (cma._rng.randn(count, cma.dim) @ (axes * lengths).T)
        return draws

    def _genomes(self, points: np.ndarray) -> Tensor:
        return self._coordinates.genomes(torch.from_numpy(np.array(points)))
