"""What networks with a learned set can use: the mix, its pure halves, and the controls that a win is held against.

Shapes: K types, P weights of a sub-network, S seeds, H units of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from ldnn_core.activations import BankActivation, GroupedActivation, TableBank, mixed_functions, pure_functions
from ldnn_core.evaluation import Arm, PerSeed
from ldnn_core.layout import Mixing
from ldnn_core.network import Network
from ldnn_core.randomness import derive_seed, generator
from ldnn_core.subnetwork import ActivationSpec, initial_genomes

WIDENED: Final = "relu-equal"
"""The control that is another network, see `widened`, and uses relu."""

SETS_AT_ONCE: Final = 32
"""Sets that are lowered to tables together: 50 MB of intermediate numbers for two sub-networks of 50 units."""


@dataclass(frozen=True)
class SetArms:
    """The arms of one learned set in one kind of network; each bank is made when an arm first needs it.

    Attributes:
        spec: base, K and sizes.
        genomes: the set (K, P), where networks are to lie.
        network: what they are to be used in.
        root_seed: of what is random about a control.
        mixing: where types are told apart.
    """

    spec: ActivationSpec
    genomes: Tensor
    network: Network
    root_seed: int
    mixing: Mixing = "within_layer"

    def arm(self, name: str) -> Arm:
        """The arm of that name: ``mixed``, ``pure-0``, ... or a control other than `WIDENED`.

        * ``untrained``: the mix of random sub-networks of the same base and sizes, of its own for every seed;
        * ``copies``: the mix of K copies of type 0, the same networks as ``pure-0``;
        * ``shuffled``: as many units of each type as in the mix, drawn anew for every seed and layer;
        * ``no-gain`` and ``mixed-normalized``: the mix without and with gain and offset.

        Raises:
            ValueError: another name, or a control that does not differ from the mix; see `controls_of`.
        """
        if name == "mixed":
            return BankActivation(self._bank, self._mixed())
        if name in pure_names(self.spec):
            return BankActivation(self._bank, pure_functions(self.network.channels, int(name.removeprefix("pure-"))))
        if name not in controls_of(self.spec) or name == WIDENED:
            known = ", ".join(("mixed", *pure_names(self.spec), *(c for c in controls_of(self.spec) if c != WIDENED)))
            raise ValueError(f"an arm of a set of {self.spec.num_types} types must be one of {known}, but got {name!r}")
        if name == "untrained":
            return PerSeed(self._untrained)
        if name == "shuffled":
            return PerSeed(self._shuffled)
        if name == "copies":
            copies = self.genomes[:1].expand_as(self.genomes).contiguous()
            return BankActivation(TableBank(self.spec, copies.unsqueeze(0)), self._mixed())
        other = replace(self.spec, normalized=name == "mixed-normalized")
        return BankActivation(TableBank(other, self.genomes.unsqueeze(0)), self._mixed())

    @cached_property
    def _bank(self) -> TableBank:
        return TableBank(self.spec, self.genomes.unsqueeze(0))

    def _mixed(self, sets: Tensor | None = None) -> tuple[Tensor, ...]:
        network = self.network
        return mixed_functions(network.channels, self.spec.num_types, sets, blocks=network.blocks, mixing=self.mixing)

    def _untrained(self, seeds: Sequence[int]) -> GroupedActivation:
        groups = []
        for start in range(0, len(seeds), SETS_AT_ONCE):
            some = [
                initial_genomes(self.spec, derive_seed(self.root_seed, "untrained", seed))
                for seed in seeds[start : start + SETS_AT_ONCE]
            ]
            bank = TableBank(self.spec, torch.cat(some).to(self.genomes))
            groups.append((BankActivation(bank, self._mixed(torch.arange(len(some)))), len(some)))
        return GroupedActivation(tuple(groups))

    def _shuffled(self, seeds: Sequence[int]) -> BankActivation:
        layers = []
        for layer, (types,) in enumerate(self._mixed()):
            sources = (generator(self.root_seed, "shuffled", seed, layer) for seed in seeds)
            layers.append(torch.stack([types[torch.randperm(len(types), generator=source)] for source in sources]))
        return BankActivation(self._bank, tuple(layers))


def pure_names(spec: ActivationSpec) -> tuple[str, ...]:
    """``pure-0``, ``pure-1``, ...; none for a single type, of which the mix is made anyway."""
    return tuple(f"pure-{k}" for k in range(spec.num_types)) if spec.num_types > 1 else ()


def controls_of(spec: ActivationSpec) -> tuple[str, ...]:
    """The controls that differ from the mix of a set of this kind."""
    several = ("copies", "shuffled") if spec.num_types > 1 else ()
    return ("untrained", *several, WIDENED, "no-gain" if spec.normalized else "mixed-normalized")


def widened(network: Callable[[int], Network], width: int, params: int) -> Network:
    """The narrowest network, not narrower than asked for, with at least so many parameters.

    Args:
        network: width → network, with more parameters the wider it is.
        width: to begin with.
        params: weights and biases that it must have.
    """
    low, high = width - 1, width
    while network(high).num_params < params:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if network(middle).num_params < params else (low, middle)
    return network(high)
