"""What every task must hold."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from ldnn_core.activations import UsualActivation
from ldnn_core.evaluation import Training, evaluate_arms, fully_connected
from ldnn_core.modules import ActivationSlot, ModuleNetwork
from ldnn_core.optimizers import make_optimizer
from ldnn_core.tasks import TASKS


def parts_of(data):
    return data.train, data.val, data.test


def all_rows(data):
    return torch.cat([part.x for part in parts_of(data)])


def test_shapes_and_types_fit_together(data):
    for part in parts_of(data):
        assert len(part) == len(part.x) == len(part.y) > 0
        assert part.x.shape[1:] == data.shape
        assert part.x[0].numel() == data.inputs
        assert part.x.dtype == torch.float32
        assert torch.isfinite(part.x).all()
        if data.metric == "accuracy":
            assert part.y.dtype == torch.int64
            assert part.y.shape == (len(part),)
            assert 0 <= part.y.min() <= part.y.max() < data.outputs
        else:
            assert part.y.dtype == torch.float32
            assert part.y.shape == (len(part), data.outputs)
            assert torch.isfinite(part.y).all()
    assert data.name in TASKS
    assert data.chance == (pytest.approx(1 / data.outputs) if data.metric == "accuracy" else 0.0)


def test_parts_share_no_row(data):
    rows = all_rows(data).flatten(1)
    assert len(torch.unique(rows, dim=0)) == len(rows)


def test_every_class_is_in_every_part(data):
    if data.metric == "accuracy":
        for part in parts_of(data):
            assert set(part.y.tolist()) == set(range(data.outputs))


def test_inputs_are_standardised_by_the_training_rows_alone(data):
    if data.name == "mnist1d":
        # The published generator standardises training and test rows together.
        rows = all_rows(data).double()
        assert rows.mean().abs() < 1e-6
        assert rows.std(correction=0) == pytest.approx(1, abs=1e-6)
        return
    rows = data.train.x.double()
    axes = [0, *range(2, rows.dim())]
    deviation = rows.std(dim=axes, correction=0)
    noisy = 1e-2 if data.orbits is not None else 1e-5
    assert rows.mean(dim=axes).abs().max() < 10 * noisy
    assert all(one == 0 or one == pytest.approx(1, abs=noisy) for one in deviation.tolist())


def test_targets_of_a_regression_have_mean_0_and_variance_1(data):
    if data.metric == "loss":
        y = data.train.y.double()
        assert y.mean(dim=0).abs().max() < 0.1
        assert y.var(dim=0, correction=0).mean() == pytest.approx(1, abs=0.1)


def test_the_final_judgement_trains_on_all_rows_but_the_test_rows(data):
    train, judge = data.split("test")
    assert torch.equal(train.x, torch.cat([data.train.x, data.val.x]))
    assert torch.equal(train.y, torch.cat([data.train.y, data.val.y]))
    assert judge is data.test
    assert data.split("val") == (data.train, data.val)
    with pytest.raises(ValueError, match="split must be val or test, but got 'train'"):
        data.split("train")


def test_skill_is_between_that_of_a_guess_and_1(data):
    y = data.val.y
    if data.metric == "accuracy":
        right = torch.nn.functional.one_hot(y, data.outputs).float()
        wrong = right.roll(1, dims=-1)
        assert data.skill(torch.stack([right, wrong]), y).tolist() == [1.0, 0.0]
        assert torch.equal(data.skill(right[None], y), data.accuracy(right[None], y))
        return
    shifted, far = y + 0.02, y + 5
    found = data.skill(torch.stack([y, shifted, far, y * float("nan")]), y)
    assert found.tolist() == pytest.approx([1.0, 0.98, 0.0, 0.0], abs=1e-6)
    # What it says of outputs is what it says of their loss.
    assert data.skill_of_loss(float(data.loss.value(shifted[None], y[None]))) == pytest.approx(
        found[1].item(), abs=1e-6
    )
    assert data.skill_of_loss(None) == data.chance


def test_loading_again_gives_the_same_numbers(task, data, cache):
    again = task.load(cache)
    assert torch.equal(all_rows(data), all_rows(again))
    assert all(torch.equal(one.y, other.y) for one, other in zip(parts_of(data), parts_of(again), strict=True))


def test_making_it_again_gives_the_same_numbers_and_leaves_global_generators_alone(task, data, tmp_path):
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002 - the global generator is what must be left alone
    torch.manual_seed(3)
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    again = task.load(tmp_path / "new" / "cache")
    assert random.getstate() == python
    assert np.random.get_state()[2] == numpy[2]  # noqa: NPY002
    assert (np.random.get_state()[1] == numpy[1]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.equal(all_rows(data), all_rows(again))


def test_a_fully_connected_network_learns_something(data):
    how = Training(make_optimizer("adam"), 0.01, 60, min(20, len(data.train)))
    arms = {"relu": UsualActivation("relu")}
    judged = evaluate_arms(data, fully_connected(data, (16,)), arms, range(2), how, root_seed=0, split="val")
    skills = [data.skill_of_loss(one.loss) if one.accuracy is None else one.accuracy for one in judged]
    assert not any(one.diverged for one in judged)
    assert min(skills) > data.chance + 0.02
    assert {one.metric for one in judged} == {data.metric}
    assert all((one.rollout_error is None) == (data.orbits is None) for one in judged)


class Convolutional(nn.Module):
    """A convolution with an activation whose channels may have different types, and a linear layer."""

    def __init__(self, data):
        super().__init__()
        self.convolution = nn.Conv2d(data.shape[0], 4, 3, stride=2)
        self.activation = ActivationSlot(4)
        self.linear = nn.Linear(4, data.outputs)

    def forward(self, x):
        return self.linear(self.activation(self.convolution(x)).mean(dim=(2, 3)))


def test_a_convolutional_network_sees_images(data):
    if len(data.shape) < 3:
        return
    how = Training(make_optimizer("adam"), 0.02, 20, 20)
    network = ModuleNetwork(Convolutional(data), data.loss)
    judged = evaluate_arms(data, network, {"relu": UsualActivation("relu")}, [0], how, root_seed=0, split="val")
    assert judged[0].loss < 3
    assert judged[0].num_params == data.shape[0] * 36 + 4 + 4 * data.outputs + data.outputs


def test_it_goes_to_a_device_as_it_is(data):
    there = data.to("cpu")
    assert torch.equal(all_rows(there), all_rows(data))
    assert (there.orbits is None) == (data.orbits is None)
