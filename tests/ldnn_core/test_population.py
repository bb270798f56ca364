"""Populations: every candidate as alone, and equal candidates alike."""

import dataclasses

import pytest
import torch

from ldnn_core.activations import BankActivation, TableBank, mixed_functions
from ldnn_core.population import evaluate_population
from ldnn_core.subnetwork import initial_genomes
from ldnn_core.training import train
from tests.ldnn_core.cases import small_case

WINDOW = 4


def candidates(case, count=4):
    return initial_genomes(case.spec, 3, sets=count, dtype=torch.float64)


def losses(case, genomes, **changes):
    problem = dataclasses.replace(case.problem, **changes)
    return evaluate_population(problem, case.spec, genomes, case.parameters, case.batches, WINDOW)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_each_candidate_does_as_it_does_alone(noise):
    case = small_case(networks=3, steps=6, noise=noise, hidden=(7, 5))
    genomes = candidates(case)
    found = losses(case, genomes)
    for q in range(4):
        functions = mixed_functions((7, 5), case.spec.num_types)
        alone = train(
            case.problem,
            case.parameters,
            case.batches,
            BankActivation(TableBank(case.spec, genomes[q : q + 1]), functions),
        )
        assert found.outer_loss[q].item() == pytest.approx(alone.losses[-WINDOW:].mean().item(), rel=1e-10)
        assert found.final_loss[q].item() == pytest.approx(alone.losses[-1].mean().item(), rel=1e-10)
    assert found.inner_steps == 4 * 3 * 6


def test_equal_candidates_get_equal_losses_and_others_do_not():
    case = small_case(networks=2, steps=5, noise=0.1, dtype=torch.float32)
    genomes = candidates(case).float()
    genomes[2] = genomes[0]
    found = losses(case, genomes).outer_loss
    assert found[2] == found[0]
    assert len(set(found.tolist())) == 3


def test_order_of_candidates_does_not_matter():
    case = small_case(networks=2, steps=5)
    genomes, order = candidates(case), torch.tensor([2, 0, 3, 1])
    shuffled = losses(case, genomes[order]).outer_loss
    torch.testing.assert_close(shuffled, losses(case, genomes).outer_loss[order], rtol=1e-12, atol=0)


def test_a_candidate_with_one_diverged_classifier_is_infinitely_bad():
    case = small_case(networks=2, steps=5, optimizer="sgd")
    rates = torch.tensor([[0.05], [0.05], [0.05], [1e200]], dtype=torch.float64)
    found = losses(case, candidates(case, 2), lr=rates).outer_loss
    assert torch.isfinite(found).tolist() == [True, False]
    assert found[1] == float("inf")


def test_streams_that_do_not_fit_the_classifiers_are_refused():
    case = small_case(networks=3)
    with pytest.raises(ValueError, match="one stream of batches per classifier is needed, but got 3 for 2"):
        evaluate_population(case.problem, case.spec, candidates(case), case.parameters[:2], case.batches, WINDOW)


def test_genomes_that_are_not_finite_are_refused():
    case = small_case()
    genomes = candidates(case)
    genomes[1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="genomes must be finite, but 1 of"):
        losses(case, genomes)


def test_every_classifier_keeps_its_learning_rate_with_every_candidate():
    case = small_case(networks=2, steps=3)
    rates = torch.tensor([[0.01], [0.2]], dtype=torch.float64)
    genomes = initial_genomes(case.spec, 4, sets=3, dtype=torch.float64)
    problem = dataclasses.replace(case.problem, lr=rates)
    together = evaluate_population(problem, case.spec, genomes, case.parameters, case.batches, 3)
    alone = []
    for n in range(2):
        own = dataclasses.replace(case.batches, rows=case.batches.rows[:, n : n + 1], stream=None)
        one = dataclasses.replace(case.problem, lr=float(rates[n]))
        alone.append(evaluate_population(one, case.spec, genomes, case.parameters[n : n + 1], own, 3).outer_loss)
    torch.testing.assert_close(together.outer_loss, (alone[0] + alone[1]) / 2, rtol=1e-12, atol=0)
