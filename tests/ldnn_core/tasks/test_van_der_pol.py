"""The orbits are those of an accurate integrator, rows are made of them, and a rolled-out orbit is judged."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from ldnn_core.tasks import DataError, VanDerPol
from ldnn_core.tasks._base import RUNAWAY
from ldnn_core.tasks.van_der_pol import orbits


def dop853(mu, start, times):
    """The same orbit by scipy's explicit Runge-Kutta method of order 8."""

    def slope(_, state):
        return [state[1], mu * (1 - state[0] ** 2) * state[1] - state[0]]

    return solve_ivp(slope, (0, times[-1]), start, "DOP853", times, rtol=1e-13, atol=1e-13).y.T


@pytest.mark.parametrize(("mu", "horizon"), [(0.1, 1.0), (2.7, 0.2), (2.7, 1.7), (8.0, 0.05), (30.0, 0.5)])
def test_orbits_are_those_of_dop853(mu, horizon):
    start = np.random.default_rng(0).uniform(-3, 3, (4, 2))
    found = orbits(mu, start, horizon, 12)
    expected = np.stack([dop853(mu, one, horizon * np.arange(13)) for one in start])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_without_damping_it_is_the_harmonic_oscillator():
    start = np.array([[1.0, 0.0], [0.5, -2.0]])
    t = 0.3 * np.arange(41)
    found = orbits(0.0, start, 0.3, 40)
    for one, (x, v) in zip(found, start, strict=True):
        expected = np.stack([x * np.cos(t) + v * np.sin(t), v * np.cos(t) - x * np.sin(t)], axis=1)
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-12)


def test_a_state_of_rest_stays():
    assert (orbits(2.7, np.zeros((1, 2)), 1.0, 3) == 0).all()


def test_orbits_that_cannot_be_followed_are_said():
    with pytest.raises(DataError, match=r"the orbits of mu = 50.0 cannot be followed \(step .*\): take a smaller mu"):
        orbits(50.0, np.array([[1e4, 1e8]]), 1.0, 1)


def test_targets_are_states_a_step_later_and_parts_are_whole_orbits(tmp_path):
    data = VanDerPol(trajectories=10, steps=6).load(tmp_path)
    assert [len(part) for part in (data.train, data.val, data.test)] == [36, 12, 12]
    for part in (data.train, data.val, data.test):
        x, y = part.x.unflatten(0, (-1, 6)), part.y.unflatten(0, (-1, 6))
        assert torch.equal(x[:, 1:], y[:, :-1])
    assert torch.equal(data.orbits[:, :-1].flatten(0, 1), data.test.x)
    assert torch.equal(data.orbits[:, 1:].flatten(0, 1), data.test.y)


def test_rows_are_the_orbits_in_units_of_their_spread(tmp_path):
    data = VanDerPol(trajectories=10, steps=6, mu=1.5).load(tmp_path)
    start = np.random.default_rng((42, 0)).uniform(-3, 3, (10, 2))
    states = np.stack([dop853(1.5, one, 0.2 * np.arange(7)) for one in start])
    seen = states[:6, :-1].reshape(-1, 2)  # inputs of the training rows
    states = (states - seen.mean(axis=0)) / seen.std(axis=0)
    np.testing.assert_allclose(data.train.x, states[:6, :-1].reshape(-1, 2), atol=1e-6)
    np.testing.assert_allclose(data.test.y, states[8:, 1:].reshape(-1, 2), atol=1e-6)


def test_noise_is_on_rows_to_learn_from_and_not_on_those_that_judge(tmp_path):
    clean, noisy = (VanDerPol(trajectories=50, steps=20, noise=noise).load(tmp_path) for noise in (0.0, 0.1))
    for name in ("train", "val"):
        difference = getattr(noisy, name).x - getattr(clean, name).x
        assert difference.std() == pytest.approx(0.1, rel=0.1)
        # A state is seen once, with one error, as an input and as a target.
        x, y = (getattr(getattr(noisy, name), one).unflatten(0, (-1, 20)) for one in "xy")
        assert torch.equal(x[:, 1:], y[:, :-1])
    assert torch.equal(noisy.test.x, clean.test.x)
    assert torch.equal(noisy.orbits, clean.orbits)
    assert len(list(tmp_path.glob("*.npz"))) == 1  # the orbits are the same


def test_every_setting_makes_other_data(tmp_path):
    settings = {"mu": 2.0, "horizon": 0.1, "steps": 5, "data_seed": 1, "noise": 0.5}
    plain = VanDerPol(trajectories=10, steps=6).load(tmp_path)
    for name, value in settings.items():
        changed = VanDerPol(**{"trajectories": 10, "steps": 6, name: value}).load(tmp_path)
        assert changed.train.x.shape != plain.train.x.shape or not torch.equal(changed.train.x, plain.train.x), name


def test_rollout_error_of_the_truth_is_0_and_of_standing_still_that_of_the_starts(tmp_path):
    data = VanDerPol(trajectories=10, steps=6).load(tmp_path)
    truth = data.orbits
    step = iter(range(1, 7))

    def knowing_and_still(state):
        at = next(step)
        still = truth[:, 0] if at == 1 else state[1]
        return torch.stack([truth[:, at], still, torch.full_like(still, 1e9)])

    found = data.rollout_error(knowing_and_still)
    expected = (truth[:, 1:] - truth[:, :1]).square().mean()
    away = (truth[:, 1:] - RUNAWAY).square().mean()
    torch.testing.assert_close(found, torch.stack([torch.tensor(0.0), expected, away]))


def test_each_network_gets_its_own_outputs(tmp_path):
    data = VanDerPol(trajectories=10, steps=4).load(tmp_path)
    factors = torch.tensor([0.5, 0.9]).view(2, 1, 1)
    found = data.rollout_error(lambda state: factors * state)
    for factor, error in zip((0.5, 0.9), found, strict=True):
        rolled = torch.stack([data.orbits[:, 0] * factor**t for t in range(1, 5)], dim=1)
        torch.testing.assert_close(error, (rolled - data.orbits[:, 1:]).square().mean())


def test_a_part_without_an_orbit_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"every part must have an orbit, but validation_fraction = 0.01 of 10"):
        VanDerPol(trajectories=10, validation_fraction=0.01).load(tmp_path)


def test_a_damaged_cache_is_named_with_the_way_out(tmp_path):
    task = VanDerPol(trajectories=10, steps=4)
    task.load(tmp_path)
    [path] = tmp_path.glob("van_der_pol-2.7-0.2-10-4-42.npz")
    with np.load(path) as file:
        arrays = dict(file)
    arrays["states"][0, 0, 0] += 1e-12
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=rf"does not match its checksum; delete {path} and run again"):
        task.load(tmp_path)
