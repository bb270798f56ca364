"""The inner loop: batches, noise, and training against a plain loop of torch."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from ldnn_core.activations import UsualActivation
from ldnn_core.randomness import generator
from ldnn_core.training import Batches, shuffled_rows, train
from tests.ldnn_core.cases import small_case


def sources(count):
    return [generator(n, "rows") for n in range(count)]


def test_every_epoch_shows_each_row_once():
    rows = shuffled_rows(12, 4, 9, sources(2))
    assert rows.shape == (9, 2, 4)
    for stream in range(2):
        epochs = rows[:, stream].reshape(3, 12)
        assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(12))] * 3
        assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(rows[:, 0], rows[:, 1])


def test_an_incomplete_last_batch_is_dropped():
    rows = shuffled_rows(11, 4, 4, sources(1))[:, 0]
    for epoch in (rows[:2], rows[2:]):
        assert len(set(epoch.flatten().tolist())) == 8


def test_more_steps_begin_with_the_same_batches():
    assert torch.equal(shuffled_rows(12, 5, 7, sources(2))[:3], shuffled_rows(12, 5, 3, sources(2)))


@pytest.mark.parametrize("batch_size", [0, 13])
def test_a_batch_size_that_does_not_fit_the_rows_is_refused(batch_size):
    with pytest.raises(ValueError, match=rf"must hold, but got \(batch_size={batch_size}, rows=12\)"):
        shuffled_rows(12, batch_size, 1, sources(1))


def test_batches_without_steps_are_refused():
    with pytest.raises(ValueError, match=r"need steps, streams and rows, but got shape \(0, 1, 4\)"):
        Batches(torch.zeros(4, 2), torch.zeros(4), torch.zeros(0, 1, 4, dtype=torch.int64))


def test_each_network_sees_the_rows_of_its_stream():
    case = small_case(networks=2)
    batches = case.batches.repeated(2)
    x, y = batches.at(1)
    for n in range(4):
        rows = batches.rows[1, n % 2]
        assert torch.equal(x[n], batches.x[rows])
        assert torch.equal(y[n], batches.y[rows])


def test_noise_is_uniform_and_the_same_each_time_it_is_asked_for():
    case = small_case(networks=2, noise=0.25)
    batches = dataclasses.replace(case.batches, rows=case.batches.rows.repeat(1, 1, 50))
    first, again = batches.noise_at(2, (30, 20)), batches.noise_at(2, (30, 20))
    assert [layer.shape for layer in first] == [(2, 400, 30), (2, 400, 20)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for layer in first:
        assert layer.abs().max() <= 0.25
        assert layer.var().item() == pytest.approx(0.25**2 / 3, rel=0.05)
        assert abs(layer.mean().item()) < 0.005
    assert not torch.equal(first[0][0], first[0][1])
    assert not torch.equal(first[0], batches.noise_at(3, (30,))[0])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_equals_a_plain_loop_of_torch(optimizer):
    case = small_case(networks=1, steps=12, hidden=(7, 5), optimizer=optimizer)
    trained = train(case.problem, case.parameters, case.batches, UsualActivation("relu"))

    weights = [torch.nn.Parameter(t[0].clone()) for pair in case.problem.network.layers(case.parameters) for t in pair]
    lr = case.problem.lr
    steps = torch.optim.Adam(weights, lr=lr) if optimizer == "adam" else torch.optim.SGD(weights, lr=lr, momentum=0.9)
    losses = []
    for t in range(12):
        rows = case.batches.rows[t, 0]
        h = case.batches.x[rows]
        for layer in range(3):
            h = h @ weights[2 * layer] + weights[2 * layer + 1]
            h = F.relu(h) if layer < 2 else h
        loss = F.cross_entropy(h, case.batches.y[rows])
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.detach())
    torch.testing.assert_close(trained.losses[:, 0], torch.stack(losses), rtol=1e-10, atol=0)
    expected = torch.cat([w.detach().flatten() for w in weights])
    torch.testing.assert_close(trained.parameters[0], expected, rtol=1e-9, atol=1e-12)


def test_training_goes_on_from_a_state_as_if_never_interrupted():
    case = small_case(steps=10, noise=0.1, optimizer="adam", dtype=torch.float32)
    whole = train(case.problem, case.parameters, case.batches, case.activation())
    half = dataclasses.replace(case.batches, rows=case.batches.rows[:4])
    *_, (state, _) = case.problem.steps(case.problem.start(case.parameters), half, case.activation())
    *_, (state, loss) = case.problem.steps(state, case.batches, case.activation())
    assert torch.equal(state.parameters, whole.parameters)
    assert torch.equal(loss, whole.losses[-1])


def test_training_changes_no_argument_and_reports_every_step():
    case, seen = small_case(steps=5), []
    before = case.parameters.clone()
    train(case.problem, case.parameters, case.batches, case.activation(), after_step=lambda s: seen.append(s.step))
    assert torch.equal(case.parameters, before)
    assert seen == [1, 2, 3, 4, 5]
