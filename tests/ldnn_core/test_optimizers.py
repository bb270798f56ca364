"""Inner optimisers against those of torch, a loop in numpy, and finite differences."""

import numpy as np
import pytest
import torch

from ldnn_core import optimizers
from ldnn_core.optimizers import SGD, Adam, RMSprop, make_optimizer
from ldnn_core.randomness import generator

NETWORKS, WEIGHTS, STEPS = 2, 5, 12


def by_autograd(optimizer, parameters, slots, gradient, lr, step, parameters_bar, slots_bar):
    """What `Optimizer.update_vjp` must give."""
    inputs = [t.detach().requires_grad_() for t in (parameters, *slots, gradient)]
    after, after_slots = optimizer.update(inputs[0], tuple(inputs[1:-1]), inputs[-1], lr, step)
    bars = [parameters_bar, *slots_bar]
    found = torch.autograd.grad([after, *after_slots], inputs, bars, allow_unused=True, materialize_grads=True)
    return found[0], found[1:-1], found[-1]


def noise(purpose, *index):
    return torch.randn(NETWORKS, WEIGHTS, generator=generator(0, purpose, *index), dtype=torch.float64)


def ours(optimizer, lr):
    parameters = noise("start")
    slots = optimizer.slots(parameters)
    path = []
    for step in range(STEPS):
        parameters, slots = optimizer.update(parameters, slots, noise("gradient", step), lr, step)
        path.append(parameters)
    return torch.stack(path)


def theirs(make):
    parameters = torch.nn.Parameter(noise("start"))
    optimizer = make([parameters])
    path = []
    for step in range(STEPS):
        parameters.grad = noise("gradient", step)
        optimizer.step()
        path.append(parameters.detach().clone())
    return torch.stack(path)


def test_sgd_with_momentum_equals_that_of_torch():
    expected = theirs(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9))
    torch.testing.assert_close(ours(SGD(0.9), 0.1), expected, rtol=1e-12, atol=1e-14)


def test_adam_equals_that_of_torch():
    expected = theirs(lambda p: torch.optim.Adam(p, lr=0.03))
    torch.testing.assert_close(ours(Adam(), 0.03), expected, rtol=1e-12, atol=1e-14)


def test_rmsprop_equals_the_published_rule_in_numpy():
    theta, square, path = noise("start").numpy(), np.ones((NETWORKS, WEIGHTS)), []
    for step in range(STEPS):
        g = noise("gradient", step).numpy()
        square = 0.8 * square + 0.2 * g**2
        theta = theta - 0.01 * g / (np.sqrt(square) + 1e-8)
        path.append(theta)
    np.testing.assert_allclose(ours(RMSprop(0.8), 0.01).numpy(), np.stack(path), rtol=1e-12)


@pytest.mark.parametrize("optimizer", [RMSprop(), SGD(0.9), Adam()], ids=lambda o: type(o).__name__)
def test_a_learning_rate_per_network_moves_each_network_by_its_own(optimizer):
    rates = torch.tensor([[0.01], [0.2]], dtype=torch.float64)
    both = ours(optimizer, rates)
    for n in range(NETWORKS):
        torch.testing.assert_close(both[:, n], ours(optimizer, float(rates[n]))[:, n], rtol=1e-13, atol=0)


@pytest.mark.parametrize("optimizer", [RMSprop(), SGD(0.9), Adam()], ids=lambda o: type(o).__name__)
def test_an_update_changes_no_argument(optimizer):
    parameters, gradient = noise("start"), noise("gradient", 0)
    slots = optimizer.slots(parameters)
    before = [slot.clone() for slot in slots]
    optimizer.update(parameters, slots, gradient, 0.1, 0)
    assert torch.equal(parameters, noise("start"))
    assert torch.equal(gradient, noise("gradient", 0))
    assert all(torch.equal(slot, old) for slot, old in zip(slots, before, strict=True))


@pytest.mark.parametrize("step", [0, 7])
@pytest.mark.parametrize("optimizer", [RMSprop(), SGD(0.9), Adam()], ids=lambda o: type(o).__name__)
def test_pulled_back_cotangents_equal_central_differences(optimizer, step):
    parameters, gradient = noise("start"), noise("gradient", 0)
    slots = tuple(noise("slot", i).abs() + 0.1 for i, _ in enumerate(optimizer.slots(parameters)))
    parameters_bar, slots_bar = noise("bar"), tuple(noise("slot bar", i) for i, _ in enumerate(slots))

    def scalar(p, s, g):
        after, after_slots = optimizer.update(p, s, g, 0.1, step)
        products = [(after * parameters_bar).sum()]
        products += [(a * b).sum() for a, b in zip(after_slots, slots_bar, strict=True)]
        return float(sum(products))

    pulled = by_autograd(optimizer, parameters, slots, gradient, 0.1, step, parameters_bar, slots_bar)
    found = [pulled[0], *pulled[1], pulled[2]]
    inputs, h = [parameters, *slots, gradient], 1e-6
    for i, cotangent in enumerate(found):
        for j in range(inputs[i].numel()):
            ends = []
            for sign in (1, -1):
                moved = [t.clone() for t in inputs]
                moved[i].view(-1)[j] += sign * h
                ends.append(scalar(moved[0], tuple(moved[1:-1]), moved[-1]))
            assert cotangent.reshape(-1)[j].item() == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("optimizer", [RMSprop(), SGD(0.9), Adam()], ids=lambda o: type(o).__name__)
def test_a_gradient_of_zero_pulls_back_to_finite_cotangents(optimizer):
    parameters = noise("start")
    slots = tuple(torch.zeros_like(parameters) for _ in optimizer.slots(parameters))
    zeros = torch.zeros_like(parameters)
    pulled = by_autograd(optimizer, parameters, slots, zeros, 0.1, 0, noise("bar"), tuple(noise("s") for _ in slots))
    assert all(torch.isfinite(t).all() for t in (pulled[0], *pulled[1], pulled[2]))


def test_optimizers_have_names():
    assert make_optimizer("rmsprop", decay=0.7) == RMSprop(decay=0.7)
    assert make_optimizer("sgd", momentum=0.5) == SGD(momentum=0.5)
    assert make_optimizer("adam") == Adam()
    with pytest.raises(ValueError, match="must be one of rmsprop, sgd, adam, but got 'adagrad'"):
        make_optimizer("adagrad")


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("rate", [0.1, torch.tensor([[0.05], [0.2]], dtype=torch.float64)], ids=["one", "each"])
@pytest.mark.parametrize("step", [0, 7])
@pytest.mark.parametrize("optimizer", [RMSprop(), SGD(0.9), Adam()], ids=lambda o: type(o).__name__)
def test_cotangents_by_hand_equal_those_of_autograd(optimizer, step, rate, fused, monkeypatch):
    if not fused:
        monkeypatch.setattr(optimizers, "fits_kernels", lambda *tensors: False)
    parameters, gradient = noise("start"), noise("gradient", 0)
    slots = tuple(noise("slot", i).abs() for i, _ in enumerate(optimizer.slots(parameters)))
    bars = noise("bar"), tuple(noise("slot bar", i) for i, _ in enumerate(slots))
    expected = by_autograd(optimizer, parameters, slots, gradient, rate, step, *bars)
    found = optimizer.update_vjp(slots, gradient, rate, step, *bars)
    for ours, theirs in zip((found[0], *found[1], found[2]), (expected[0], *expected[1], expected[2]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", [RMSprop(), SGD(0.9), Adam()], ids=lambda o: type(o).__name__)
def test_fused_updates_equal_the_eager_ones(optimizer, dtype, monkeypatch):
    rate = torch.tensor([[0.05], [0.2]], dtype=dtype)
    parameters, gradient = noise("start").to(dtype), noise("gradient", 0).to(dtype)
    slots = tuple(noise("slot", i).abs().to(dtype) for i, _ in enumerate(optimizer.slots(parameters)))
    strided = [t.T.contiguous().T for t in (parameters, *slots, gradient)]
    fused = optimizer.update(parameters, slots, gradient, rate, 3)
    also = optimizer.update(strided[0], tuple(strided[1:-1]), strided[-1], rate, 3)
    monkeypatch.setattr(optimizers, "fits_kernels", lambda *tensors: False)
    expected = optimizer.update(parameters, slots, gradient, rate, 3)
    for found in (fused, also):
        torch.testing.assert_close(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", [RMSprop(), SGD(0.9), Adam()], ids=lambda o: type(o).__name__)
def test_cotangents_by_hand_of_a_gradient_of_zero_are_finite(optimizer, dtype):
    zeros = torch.zeros(NETWORKS, WEIGHTS, dtype=dtype)
    slots = tuple(zeros for _ in optimizer.slots(zeros))
    pulled = optimizer.update_vjp(slots, zeros, 0.1, 0, noise("bar").to(dtype), slots)
    assert all(torch.isfinite(t).all() for t in (pulled[0], *pulled[1], pulled[2]))
