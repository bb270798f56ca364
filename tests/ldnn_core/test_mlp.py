"""Networks differentiated by hand against autograd, and batches of networks against each alone."""

import dataclasses

import pytest
import torch

from ldnn_core import mlp
from ldnn_core.activations import BankActivation, GroupedActivation, UsualActivation
from ldnn_core.base_functions import BASE_FUNCTIONS
from ldnn_core.mlp import MlpSpec
from ldnn_core.network import gradient_vjp_autograd, loss_gradient_autograd
from ldnn_core.randomness import generator
from ldnn_core.training import train
from tests.ldnn_core.cases import small_case

SHAPES = [((7,), 2), ((7, 5), 3), ((6, 5, 4), 1)]


@pytest.mark.parametrize(("hidden", "num_types"), SHAPES)
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "table"])
@pytest.mark.parametrize("regression", [False, True], ids=["classes", "regression"])
def test_gradient_by_hand_equals_autograd(hidden, num_types, exact, regression):
    case = small_case(hidden=hidden, num_types=num_types, regression=regression, noise=0.1)
    x, y = case.batches.at(0)
    noise = case.batches.noise_at(0, hidden)
    arguments = (case.problem.network, case.parameters, x, y, case.activation(exact=exact), noise)
    loss, gradient = MlpSpec.loss_gradient(*arguments)
    expected_loss, expected = loss_gradient_autograd(*arguments)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", BASE_FUNCTIONS)
def test_gradient_through_a_usual_activation_equals_autograd(name):
    case = small_case(hidden=(7, 5))
    x, y = case.batches.at(0)
    arguments = (case.problem.network, case.parameters, x, y, UsualActivation(name))
    torch.testing.assert_close(
        MlpSpec.loss_gradient(*arguments)[1], loss_gradient_autograd(*arguments)[1], rtol=1e-9, atol=1e-13
    )


@pytest.mark.parametrize(("hidden", "num_types"), SHAPES)
@pytest.mark.parametrize("base", ["sin", "relu"])
@pytest.mark.parametrize("regression", [False, True], ids=["classes", "regression"])
def test_second_order_sweep_by_hand_equals_autograd(hidden, num_types, base, regression):
    case = small_case(hidden=hidden, num_types=num_types, base=base, regression=regression, noise=0.1)
    x, y = case.batches.at(1)
    v = torch.randn(case.parameters.shape, generator=generator(3, "v"), dtype=torch.float64)
    w = torch.randn(len(v), generator=generator(3, "w"), dtype=torch.float64)
    arguments = (case.problem.network, case.parameters, x, y, case.activation(), v, w, case.batches.noise_at(1, hidden))
    for ours, expected in zip(MlpSpec.gradient_vjp(*arguments), gradient_vjp_autograd(*arguments), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["rmsprop", "sgd", "adam"])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_networks_of_a_batch_train_as_each_does_alone(optimizer, noise):
    case = small_case(networks=4, steps=10, optimizer=optimizer, noise=noise)
    together = train(case.problem, case.parameters, case.batches, case.activation())
    for n in range(4):
        seeds = (case.batches.noise_seeds[n],)
        own = dataclasses.replace(case.batches, rows=case.batches.rows[:, n : n + 1], stream=None, noise_seeds=seeds)
        alone = train(case.problem, case.parameters[n : n + 1], own, case.activation())
        torch.testing.assert_close(together.parameters[n], alone.parameters[0], rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(together.losses[:, n], alone.losses[:, 0], rtol=1e-11, atol=1e-13)


def test_networks_with_their_own_learning_rates_train_as_each_does_alone():
    case = small_case(networks=3, steps=6)
    rates = torch.tensor([[0.01], [0.05], [0.2]], dtype=torch.float64)
    together = train(dataclasses.replace(case.problem, lr=rates), case.parameters, case.batches, case.activation())
    for n in range(3):
        own = dataclasses.replace(case.batches, rows=case.batches.rows[:, n : n + 1], stream=None)
        problem = dataclasses.replace(case.problem, lr=float(rates[n]))
        alone = train(problem, case.parameters[n : n + 1], own, case.activation())
        torch.testing.assert_close(together.parameters[n], alone.parameters[0], rtol=1e-11, atol=1e-13)


def test_grouped_networks_use_their_own_activation():
    case = small_case(networks=3)
    parts = (UsualActivation("relu"), case.activation(), UsualActivation("tanh"))
    grouped = GroupedActivation(tuple((part, 1) for part in parts))
    x, y = case.batches.at(0)
    loss, gradient = case.problem.network.loss_gradient(case.parameters, x, y, grouped)
    for n, part in enumerate(parts):
        own = slice(n, n + 1)
        alone = case.problem.network.loss_gradient(case.parameters[own], x[own], y[own], part)
        torch.testing.assert_close(loss[own], alone[0])
        torch.testing.assert_close(gradient[own], alone[1])


def test_a_diverged_network_leaves_the_others_alone():
    case = small_case(networks=2, steps=5, optimizer="sgd")
    rates = torch.tensor([[1e200], [0.05]], dtype=torch.float64)
    both = train(dataclasses.replace(case.problem, lr=rates), case.parameters, case.batches, case.activation())
    assert both.diverged.tolist() == [True, False]
    calm = train(case.problem, case.parameters, case.batches, case.activation())
    torch.testing.assert_close(both.parameters[1], calm.parameters[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "each"])
def test_blocks_of_networks_change_nothing(monkeypatch, noise, shared):
    case = small_case(networks=7, hidden=(7, 5), noise=noise)
    batches = dataclasses.replace(case.batches, stream=None, rows=case.batches.rows[:, :1]) if shared else case.batches
    if shared and noise:
        batches = dataclasses.replace(batches, noise_seeds=(0,))
    (x, y), added = batches.at(0), batches.noise_at(0, (7, 5))
    bank = case.activation().bank
    functions = tuple(torch.randint(2, (7, width), generator=generator(0, "f", width)) for width in (7, 5))
    groups = ((UsualActivation("relu"), 2), (BankActivation(bank, tuple(f[2:] for f in functions)), 5))
    v = torch.randn(case.parameters.shape, generator=generator(3, "v"), dtype=torch.float64)
    results = []
    for size in (7, 3, 1):
        monkeypatch.setattr(mlp, "BLOCK_BYTES", size * 8 * 7 * 8)
        sweep = (case.problem.network, case.parameters, x, y)
        results.append(
            (
                *MlpSpec.loss_gradient(*sweep, GroupedActivation(groups), added),
                *MlpSpec.loss_gradient(*sweep, BankActivation(bank, functions), added),
                *MlpSpec.gradient_vjp(*sweep, BankActivation(bank, functions), v, v[:, 0], added),
            )
        )
    *by_network, bank_cotangents = zip(*results, strict=True)
    for whole, *parts in by_network:
        assert all(torch.equal(whole, part) for part in parts)
    for part in bank_cotangents[1:]:  # a sum over networks, in another order
        torch.testing.assert_close(part, bank_cotangents[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "table"])
def test_images_are_flattened_in_every_sweep(exact):
    case = small_case(hidden=(7, 5))
    x, y = case.batches.at(0)
    activation, parameters = case.activation(exact=exact), case.parameters
    v, w = torch.ones_like(parameters), torch.ones(len(parameters), dtype=parameters.dtype)
    network = case.problem.network
    for one in (x, x[:1]):  # own inputs, or shared ones
        target = y if one is x else y[:1]
        seen = one.unflatten(2, (1, 5, 1))
        flat = network.forward(parameters, one, activation)[0]
        assert torch.equal(network.forward(parameters, seen, activation)[0], flat)
        for sweep, more in ((network.loss_gradient, ()), (network.gradient_vjp, (v, w))):
            for found, expected in zip(
                sweep(parameters, seen, target, activation, *more),
                sweep(parameters, one, target, activation, *more),
                strict=True,
            ):
                assert torch.equal(found, expected)
