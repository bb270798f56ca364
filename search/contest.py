"""Networks of one size that are compared: which arms they have, and by which learning rates they are trained.

Final judgements are made on the test rows once, after the last inner step.  With a learning rate per arm and size it is
chosen before by the validation rows, with networks of other seeds and an own root seed, none of which is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ldnn_core.activations import UsualActivation
from ldnn_core.arms import WIDENED, controls_of, pure_names, widened
from ldnn_core.evaluation import Arm, Judgement, TrainedGroup, Training, evaluate_arms
from ldnn_core.initial_variance import InitialVariance, measure_initial_variance
from ldnn_core.layout import Mixing
from ldnn_core.network import Network
from ldnn_core.randomness import derive_seed
from ldnn_core.subnetwork import ActivationSpec
from ldnn_core.tasks import TaskData
from search.config import RunConfig
from search.config_judging import EvaluationConfig
from search.config_types import ArchitectureName
from search.found_set import FoundSet
from search.setting import make_network, training

VALIDATION, FINAL = "val", "test"
"""Splits: learning rates are chosen by the one, networks judged by the other."""

Observe = Callable[[TrainedGroup], None]


def arm_names(spec: ActivationSpec, controls: Sequence[str]) -> tuple[str, ...]:
    """The arms of a learned set: ``mixed``; of several types ``pure-0``, ``pure-1``, ...; controls that are its own."""
    return ("mixed", *pure_names(spec), *(name for name in controls if name in controls_of(spec)))


@dataclass(frozen=True)
class Ring:
    """The kind and size of network in which arms meet.

    Attributes:
        architecture: name of `ldnn_core.architectures.ARCHITECTURES`.
        mixing: where types are told apart.
        width: see `ldnn_core.architectures.WIDTHS`.
        depth: see `ldnn_core.architectures.DEPTHS`.
    """

    architecture: ArchitectureName
    mixing: Mixing
    width: int
    depth: int


@dataclass(frozen=True)
class Contest:
    """Networks of one size, trained and judged alike.

    Attributes:
        run: says how they are trained.
        data: the task.
        sides: kinds of network, each with its arms by name; all but `WIDENED` share one kind.
    """

    run: RunConfig
    data: TaskData
    sides: tuple[tuple[Network, Mapping[str, Arm]], ...]

    @staticmethod
    def of(run: RunConfig, data: TaskData, ring: Ring, names: Sequence[str], found: FoundSet | None) -> Contest:
        """The arms of that name: of a found set, or usual activations.

        Raises:
            ValueError: the task has no inputs for that kind of network.
        """

        def of_width(units: int) -> Network:
            return make_network(data, ring.architecture, units, ring.depth)

        network = of_width(ring.width)
        if found is None:
            return Contest(run, data, ((network, {name: UsualActivation(name) for name in names}),))
        own = found.arms(network, derive_seed(run.seed, "controls"), ring.mixing)
        sides: list[tuple[Network, Mapping[str, Arm]]] = []
        if same := [name for name in names if name != WIDENED]:
            sides.append((network, {name: own.arm(name) for name in same}))
        if WIDENED in names:
            equal = network.num_params + found.genomes.numel()
            sides.append((widened(of_width, ring.width, equal), {WIDENED: UsualActivation("relu")}))
        return Contest(run, data, tuple(sides))

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of all arms."""
        return tuple(name for _, arms in self.sides for name in arms)

    def network(self, arm: str) -> Network:
        """What an arm is used in."""
        return next(network for network, arms in self.sides if arm in arms)

    def judgements(
        self, seeds: Sequence[int], known_rates: Mapping[str, float], observe: Observe | None = None
    ) -> Iterator[tuple[str, list[Judgement]]]:
        """Judged networks, split by split: those by which learning rates were chosen come first.

        Args:
            seeds: of the networks that are judged.
            known_rates: learning rates of arms that have networks at this size already, and so have been chosen.
            observe: shown the networks that are judged.
        """
        evaluation = self.run.evaluation
        if evaluation.lr_protocol == "shared":
            rates = dict.fromkeys(self.arms, evaluation.lr)
        else:
            rates = {arm: lr for arm, lr in known_rates.items() if arm in self.arms}
            missing = [arm for arm in self.arms if arm not in rates]
            tried = self._tried(missing)
            yield VALIDATION, tried
            rates |= {arm: best_rate([one for one in tried if one.arm == arm]) for arm in missing}
        yield FINAL, self._trained(seeds, rates, FINAL, self._root_seed, observe)

    def initial_variances(self, seeds: Sequence[int]) -> list[InitialVariance]:
        """The signal in the networks that are judged, before their first step."""
        measured = []
        for network, arms in self.sides:
            measured += measure_initial_variance(
                self.data,
                network,
                arms,
                seeds,
                batch_size=self.run.evaluation.batch_size,
                root_seed=self._root_seed,
                split=FINAL,
            )
        return measured

    @property
    def _root_seed(self) -> int:
        """Of the networks that are judged."""
        return derive_seed(self.run.seed, "evaluation")

    def _tried(self, arms: Sequence[str]) -> list[Judgement]:
        evaluation = self.run.evaluation
        networks, root = range(evaluation.tuning_seeds), derive_seed(self.run.seed, "tuning")

        def tried(rates: Mapping[str, float]) -> list[Judgement]:
            return self._trained(networks, rates, VALIDATION, root)

        if not arms:
            return []
        if evaluation.lr_search == "grid":
            return [one for lr in evaluation.lrs for one in tried(dict.fromkeys(arms, lr))]
        return self._sampled(arms, evaluation, tried)

    def _sampled(
        self, arms: Sequence[str], evaluation: EvaluationConfig, tried: Callable[[Mapping[str, float]], list[Judgement]]
    ) -> list[Judgement]:
        """Every arm has a sampler of its own: its learning rates depend on how it does, and not on the other arms.

        All samplers have the same seed, so that arms begin with the same rates, and equal arms have equal ones.
        """
        from search.sampling import RateSampler

        low, high, seed = min(evaluation.lrs), max(evaluation.lrs), derive_seed(self.run.seed, "learning rates")
        samplers = {arm: RateSampler(low, high, seed=seed) for arm in arms}
        found = []
        for _ in range(evaluation.lr_trials):
            judged = tried({arm: sampler.ask() for arm, sampler in samplers.items()})
            for arm, sampler in samplers.items():
                sampler.tell(mean_goodness([one for one in judged if one.arm == arm]))
            found += judged
        return found

    def _trained(
        self,
        seeds: Sequence[int],
        rates: Mapping[str, float],
        split: str,
        root: int,
        observe: Observe | None = None,
    ) -> list[Judgement]:
        how = training(self.run.evaluation.training, len(self.data.split(split)[0]), self.run.regime)
        found = []
        for network, arms in self.sides:
            if some := {name: arm for name, arm in arms.items() if name in rates}:
                trained: Training = replace(how, lr=dict(rates))
                found += evaluate_arms(
                    self.data, network, some, seeds, trained, root_seed=root, split=split, observe=observe
                )
        return found


def best_rate(tried: Sequence[Judgement]) -> float:
    """The learning rate with the highest mean of `Judgement.goodness`; of equal ones the lowest."""
    rates = sorted({one.lr for one in tried})
    return max(rates, key=lambda lr: mean_goodness([one for one in tried if one.lr == lr]))


def mean_goodness(judged: Sequence[Judgement]) -> float:
    """The mean accuracy, or minus the mean loss; minus infinity if the loss of one is not finite."""
    return sum(one.goodness for one in judged) / len(judged)
