"""The method ``gradient``: meta-learning by the gradient through the inner loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ldnn_core.algorithms import State
from ldnn_core.estimators import ESTIMATORS, Carry, Es, Estimator, Pes, Truncated
from ldnn_core.outer import OuterSGD
from ldnn_core.randomness import derive_seed
from ldnn_core.subnetwork import initial_genomes
from ldnn_core.training import Batches, InnerProblem, TrainState
from search.config_tables import GradientConfig
from search.divergence import Diverged
from search.recorder import Recorder
from search.setting import Setting
from search.shards import Arrays, Shards


def make_estimator(config: GradientConfig) -> Estimator:
    """The estimator that the configuration names."""
    if config.estimator == "truncated":
        return Truncated(config.truncation, config.carried)
    if config.estimator == "es":
        return Es(config.perturbation, config.pairs)
    if config.estimator == "pes":
        return Pes(config.truncation, config.perturbation, config.pairs)
    return ESTIMATORS[config.estimator]()


@dataclass(frozen=True)
class InnerLoop:
    """The training of classifiers of one size that an outer step goes on with, or begins.

    Attributes:
        problem: its size.
        parameters: the classifiers it began with.
        batches: of the whole of it.
        carry: where it stands; None at its beginning.
    """

    problem: InnerProblem
    parameters: Tensor
    batches: Batches
    carry: Carry | None = None


@dataclass(frozen=True)
class OuterStep:
    """What one outer step found out at all sizes together.

    Attributes:
        gradient: of the objective, (1, K, P).
        outer_loss: the objective.
        final_loss: training loss at the last inner step, mean over networks and sizes.
        inner_steps: inner steps spent.
        unfinished: the inner loops that the next outer step goes on with; none when they are over.
    """

    gradient: Tensor
    outer_loss: float
    final_loss: float
    inner_steps: int
    unfinished: tuple[InnerLoop, ...] = ()


def fresh_loops(setting: Setting, outer_step: int, classifiers: range) -> tuple[InnerLoop, ...]:
    """The inner loops of some of an outer step's classifiers, one for each size."""
    begun = (setting.classifiers(one, outer_step, len(classifiers), classifiers.start) for one in setting.problems)
    return tuple(InnerLoop(one, *parts) for one, parts in zip(setting.problems, begun, strict=True))


def estimate(
    setting: Setting, outer_step: int, genomes: Tensor, loops: Sequence[InnerLoop]
) -> tuple[Arrays, tuple[InnerLoop, ...]]:
    """Sums over the classifiers of inner loops of each of S sizes, and the loops that are not over.

    The sums are of the ``gradient`` (S, 1, K, P) at the set (K, P), the ``outer_loss`` (S,) and the ``final_loss``
    (S,); there are ``inner_steps``.  All are float64, in which a sum of one shard divided by its count is the mean
    itself, to the bit.  All sizes are perturbed alike where an estimator draws.
    """
    config = setting.config.gradient
    assert config is not None  # a trial of this method has it
    estimator, window = make_estimator(config), setting.config.inner.loss_window
    seed = derive_seed(setting.config.seed, "outer-gradient", outer_step)
    gradients, losses, finals, unfinished, inner_steps = [], [], [], [], 0
    for loop in loops:
        problem, parameters, count = loop.problem, loop.parameters, len(loop.parameters)
        mixed = setting.mixed(genomes, problem.network)
        result = estimator.estimate(problem, parameters, loop.batches, mixed, window, seed=seed, carry=loop.carry)
        if result.carry is not None:
            unfinished.append(replace(loop, carry=result.carry))
        baseline, extra = setting.baseline(problem, parameters, loop.batches)
        gradients.append(count * result.gradient.cpu().double().numpy())
        losses.append(count * (result.outer_loss - baseline))
        finals.append(count * float(result.losses[-1].mean()))
        inner_steps += result.inner_steps + extra
    sums = {"gradient": np.stack(gradients), "outer_loss": np.array(losses), "final_loss": np.array(finals)}
    return sums | {"inner_steps": np.array(inner_steps)}, tuple(unfinished)


def estimate_shard(setting: Setting, outer_step: int, shard: Arrays) -> Arrays:
    """The body of a shard: ``genomes`` (K, P) and ``classifiers`` (first, count) → the sums of `estimate`."""
    first, count = shard["classifiers"].tolist()
    loops = fresh_loops(setting, outer_step, range(first, first + count))
    return estimate(setting, outer_step, torch.tensor(shard["genomes"]), loops)[0]


def combined(
    setting: Setting, genomes: Tensor, found: Sequence[Arrays], classifiers: int, unfinished: tuple[InnerLoop, ...] = ()
) -> OuterStep:
    """The objective and its gradient at the set (K, P), from the sums of all shards in the order of the classifiers.

    By the chain rule the gradients of the sizes are added up, each with the derivative of the objective by its loss.
    """
    losses = torch.from_numpy(sum(part["outer_loss"] for part in found) / classifiers)
    gradients = torch.from_numpy(sum(part["gradient"] for part in found) / classifiers)
    finals = sum(part["final_loss"] for part in found) / classifiers
    with torch.enable_grad():
        leaf = genomes.detach().cpu().double().unsqueeze(0).requires_grad_()
        penalty = setting.objective.penalty(setting.spec, leaf).sum()
        gradient = torch.autograd.grad(penalty, leaf)[0] if penalty.requires_grad else torch.zeros_like(leaf)
    weights = setting.objective.weights(losses)
    gradient = gradient + (weights.view(-1, 1, 1, 1) * gradients).sum(dim=0)
    return OuterStep(
        gradient=gradient.to(genomes),
        outer_loss=float(setting.objective.combine(losses) + penalty.detach()),
        final_loss=float(np.mean(finals)),
        inner_steps=sum(int(part["inner_steps"]) for part in found),
        unfinished=unfinished,
    )


def outer_gradient(setting: Setting, outer_step: int, genomes: Tensor, loops: Sequence[InnerLoop] = ()) -> OuterStep:
    """One outer step at the set (K, P), in this process: from fresh classifiers, or with loops to go on with."""
    config = setting.config.gradient
    assert config is not None  # a trial of this method has it
    loops = loops or fresh_loops(setting, outer_step, range(config.classifiers))
    sums, unfinished = estimate(setting, outer_step, genomes, loops)
    return combined(setting, genomes, [sums], config.classifiers, unfinished)


def search_by_gradient(setting: Setting, config: GradientConfig, recorder: Recorder, shards: Shards) -> Tensor:
    """Run the outer loop and return the set it ends with, (K, P).

    Raises:
        Diverged: an outer loss or gradient is not finite.
    """
    outer = OuterSGD(config.outer_lr, config.momentum, config.clamp)
    genomes = initial_genomes(setting.spec, setting.config.seed).to(setting.device)
    momentum = outer.start(genomes)
    loops: tuple[InnerLoop, ...] = ()
    begun = 0
    if start := recorder.begin():
        genomes, momentum = (start[name].to(setting.device) for name in ("genomes", "momentum"))
        if "loops.begun" in start:
            begun = int(start["loops.begun"])
            loops = _loops_from(start, fresh_loops(setting, begun, range(config.classifiers)))
    for step in range(recorder.next_step, config.outer_steps):
        known = recorder.inner_steps_total
        begun = begun if loops else step
        if config.in_pieces:  # training that is carried on stays where it is
            result = outer_gradient(setting, step, genomes[0], loops)
        else:
            own, count = genomes[0].cpu().numpy(), config.classifiers
            pieces = [(first, min(config.shard, count - first)) for first in range(0, count, config.shard)]
            asked = [{"genomes": own, "classifiers": np.array(piece)} for piece in pieces]
            result = combined(setting, genomes[0], shards.map(estimate_shard, setting, step, asked), count)
        loops = result.unfinished
        recorder.spend(result.inner_steps)
        gradient_norm = float(result.gradient.norm())
        if not torch.isfinite(torch.tensor([result.outer_loss, gradient_norm])).all():
            raise Diverged(
                f"outer step {step}: outer loss {result.outer_loss}, gradient norm {gradient_norm}; "
                "a smaller inner.lr or gradient.outer_lr may help"
            )
        updated, momentum = outer.update(genomes, momentum, result.gradient)
        recorder.step(
            step,
            genomes[0],
            inner_steps_total=known,
            outer_loss=result.outer_loss,
            inner_final_loss=result.final_loss,
            gradient_norm=gradient_norm,
            step_size=float((updated - genomes).norm()),
        )
        genomes = updated
        recorder.rung(step, {"genomes": genomes, "momentum": momentum, **_state_of(loops, begun)})
    recorder.step(config.outer_steps, genomes[0], inner_steps_total=recorder.inner_steps_total)
    return genomes[0]


def _state_of(loops: Sequence[InnerLoop], begun: int) -> State:
    """What inner loops that are not over have to be taken up with: the outer step they began at, and their carries.

    Their classifiers and batches follow from that step.
    """
    state: State = {"loops.begun": torch.tensor(begun)} if loops else {}
    for size, loop in enumerate(loops):
        assert loop.carry is not None  # only loops that are not over are handed on
        train = loop.carry.state
        state |= {f"loops.{size}.parameters": train.parameters, f"loops.{size}.step": torch.tensor(train.step)}
        state |= {f"loops.{size}.slots.{place}": slot for place, slot in enumerate(train.slots)}
        if loop.carry.perturbation is not None:
            state[f"loops.{size}.perturbation"] = loop.carry.perturbation
    return state


def _loops_from(state: State, fresh: Sequence[InnerLoop]) -> tuple[InnerLoop, ...]:
    """Inner loops at their beginning, taken to where `_state_of` has seen them."""
    loops = []
    for size, loop in enumerate(fresh):
        device, places = loop.parameters.device, sum(name.startswith(f"loops.{size}.slots.") for name in state)
        slots = tuple(state[f"loops.{size}.slots.{place}"].to(device) for place in range(places))
        parameters = state[f"loops.{size}.parameters"].to(device)
        train = TrainState(parameters, slots, int(state[f"loops.{size}.step"]))
        perturbation = state.get(f"loops.{size}.perturbation")
        moved = None if perturbation is None else perturbation.to(device)
        loops.append(replace(loop, carry=Carry(train, moved)))
    return tuple(loops)
