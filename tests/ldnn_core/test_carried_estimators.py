"""Outer steps that are pieces of an inner loop: the training goes on, whole loops are a special case."""

import dataclasses

import pytest
import torch

from ldnn_core.estimators import Carry, Es, FirstOrder, Pes, Truncated, Unrolled
from ldnn_core.estimators.reverse import differentiate
from ldnn_core.optimizers import SGD
from ldnn_core.training import TrainState, Validation, train
from tests.ldnn_core.cases import small_case
from tests.ldnn_core.test_estimators import piece_gradient

PIECEWISE = [Truncated(4, carried=True), Pes(4, pairs=3)]


def pieces(estimator, case, window=100, genomes=None):
    """The outer steps of one inner loop, the set fixed."""
    results, carry = [], None
    while not results or carry is not None:
        arguments = (case.problem, case.parameters, case.batches, case.activation(genomes), window)
        results.append(estimator.estimate(*arguments, seed=len(results), carry=carry))
        carry = results[-1].carry
    return results


@pytest.mark.parametrize("estimator", PIECEWISE, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_pieces_make_the_inner_loop(estimator, optimizer):
    case = small_case(steps=10, noise=0.1, optimizer=optimizer)
    results = pieces(estimator, case)
    trained = train(case.problem, case.parameters, case.batches, case.activation())
    assert [len(result.losses) for result in results] == [4, 4, 2]
    # particle 0 has the set itself in every piece
    torch.testing.assert_close(torch.cat([one.losses for one in results]), trained.losses, rtol=1e-12, atol=0)
    torch.testing.assert_close(results[-1].final_parameters, trained.parameters, rtol=1e-11, atol=1e-13)
    assert results[1].outer_loss == pytest.approx(float(trained.losses[4:8].mean()), rel=1e-12)


@pytest.mark.parametrize("estimator", PIECEWISE, ids=lambda one: type(one).__name__)
def test_the_loss_window_is_that_of_each_piece(estimator):
    case = small_case(steps=10)
    for result in pieces(estimator, case, window=1):
        assert result.outer_loss == pytest.approx(float(result.losses[-1].mean()), rel=1e-12)


@pytest.mark.parametrize("length", [12, 50])
@pytest.mark.parametrize(
    ("piecewise", "whole"),
    [(Truncated(carried=True), Unrolled()), (Pes(pairs=3), Es(pairs=3))],
    ids=["truncated", "pes"],
)
def test_one_piece_equals_the_whole_loop_bit_for_bit(piecewise, whole, length):
    case = small_case(steps=12, noise=0.1, dtype=torch.float32)
    arguments = (case.problem, case.parameters, case.batches, case.activation(), 7)
    piece = dataclasses.replace(piecewise, length=length).estimate(*arguments, seed=3)
    reference = whole.estimate(*arguments, seed=3)
    assert torch.equal(piece.gradient, reference.gradient)
    assert torch.equal(piece.losses, reference.losses)
    assert (piece.outer_loss, piece.carry) == (reference.outer_loss, None)


def test_carried_pieces_of_a_fixed_set_average_to_the_truncated_gradient():
    case = small_case(steps=12)
    carried = [result.gradient for result in pieces(Truncated(4, carried=True), case)]
    whole = Truncated(4).estimate(case.problem, case.parameters, case.batches, case.activation(), 12)
    torch.testing.assert_close(sum(carried) / 3, whole.gradient, rtol=1e-10, atol=1e-15)


def test_a_piece_with_another_set_is_differentiated_from_the_carried_state():
    case = small_case(steps=6, optimizer="sgd")
    estimator, changed = Truncated(3, carried=True), case.genomes * 1.3
    arguments = (case.problem, case.parameters, case.batches)
    first = estimator.estimate(*arguments, case.activation(), 6)
    second = estimator.estimate(*arguments, case.activation(changed), 6, carry=first.carry)
    state = first.carry.state
    rest = dataclasses.replace(case.batches, rows=case.batches.rows[3:])
    leaf = changed.clone().requires_grad_()
    by_autograd = piece_gradient(case, leaf, state.parameters, state.slots, rest) / 3
    torch.testing.assert_close(second.gradient, by_autograd, rtol=1e-5, atol=1e-10)


def test_validation_judges_a_piece_where_it_ends():
    case = small_case(steps=6)
    judged = Validation(case.batches.x[:9], case.batches.y[:9])
    case = dataclasses.replace(case, problem=dataclasses.replace(case.problem, validation=judged))
    first, second = pieces(Truncated(4, carried=True), case)
    reached = [first.carry.state.parameters, second.final_parameters]
    for result, parameters in zip((first, second), reached, strict=True):
        assert result.outer_loss == float(case.problem.validation_loss(parameters, case.activation()).mean())
    # the second piece's exact gradient is that of a loop that begins where the first has ended
    rest = dataclasses.replace(case.batches, rows=case.batches.rows[4:])
    sgd = dataclasses.replace(case.problem, optimizer=SGD())
    carried = Truncated(4, carried=True).estimate(
        sgd,
        case.parameters,
        case.batches,
        case.activation(),
        9,
        carry=Carry(TrainState(reached[0], (0 * reached[0],), 4)),
    )
    alone = Unrolled().estimate(sgd, reached[0], rest, case.activation(), 9)
    torch.testing.assert_close(carried.gradient, alone.gradient, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("every", [2, 3, 7])
def test_keeping_fewer_states_of_a_piece_changes_nothing(every):
    case = small_case(steps=12, noise=0.1)
    arguments = (case.problem, case.parameters, case.batches, case.activation(), 12)
    carry = differentiate(*arguments, length=5).carry
    sparse, dense = (differentiate(*arguments, carry=carry, length=6, every=s) for s in (every, 1))
    assert torch.equal(sparse.gradient, dense.gradient)
    assert (len(sparse.losses), sparse.carry.state.step) == (6, 11)


@pytest.mark.parametrize("whole", [Unrolled(), FirstOrder(), Truncated(4)], ids=lambda one: type(one).__name__)
def test_an_estimator_of_whole_loops_does_what_is_left(whole):
    case = small_case(steps=10)
    arguments = (case.problem, case.parameters, case.batches, case.activation(), 10)
    carry = Truncated(4, carried=True).estimate(*arguments).carry
    result = whole.estimate(*arguments, carry=carry)
    assert (len(result.losses), result.carry) == (6, None)


def test_a_carry_is_not_changed():
    case = small_case(steps=6)
    arguments = (case.problem, case.parameters, case.batches, case.activation(), 6)
    for estimator in (Truncated(2, carried=True), Pes(2, pairs=2)):
        carry = estimator.estimate(*arguments, seed=0).carry
        before = [carry.state.parameters.clone(), carry.state.slots[0].clone()]
        again = [estimator.estimate(*arguments, seed=1, carry=carry).gradient for _ in range(2)]
        assert torch.equal(*again)
        assert torch.equal(carry.state.parameters, before[0])
        assert torch.equal(carry.state.slots[0], before[1])


def test_a_carry_of_others_is_refused():
    case, other = small_case(steps=6), small_case(networks=2, steps=6)
    words = r"a carry must come from the same estimator with the same classifiers, but got one with \(networks="
    truncated, pes = Truncated(2, carried=True), Pes(2, pairs=2)

    def carry_of(estimator, case):
        return estimator.estimate(case.problem, case.parameters, case.batches, case.activation(), 6, seed=0).carry

    for estimator, carry in [
        (truncated, carry_of(truncated, other)),
        (truncated, carry_of(pes, case)),
        (pes, carry_of(truncated, case)),
        (pes, carry_of(Pes(2, pairs=3), case)),
    ]:
        arguments = (case.problem, case.parameters, case.batches, case.activation(), 6)
        with pytest.raises(ValueError, match=words):
            estimator.estimate(*arguments, seed=0, carry=carry)
