"""Losses against torch.nn.functional, and their derivatives by hand against automatic ones."""

import pytest
import torch
import torch.nn.functional as F

from ldnn_core import losses
from ldnn_core.compiled import FUSED_AVAILABLE
from ldnn_core.losses import CrossEntropy, SquaredError
from ldnn_core.randomness import generator

NETWORKS, BATCH, OUTPUTS = 3, 7, 4


def outputs(purpose="z"):
    return torch.randn(NETWORKS, BATCH, OUTPUTS, generator=generator(0, purpose), dtype=torch.float64)


@pytest.fixture(params=[False, True], ids=["targets-shared", "targets-each"])
def classes(request):
    return torch.randint(OUTPUTS, (NETWORKS if request.param else 1, BATCH), generator=generator(0, "classes"))


@pytest.fixture(params=["classes", "numbers"])
def loss_and_targets(request, classes):
    if request.param == "classes":
        return CrossEntropy(), classes
    numbers = torch.randn(len(classes), BATCH, OUTPUTS, generator=generator(0, "numbers"), dtype=torch.float64)
    return SquaredError(), numbers


def test_cross_entropy_equals_that_of_torch_for_each_network(classes):
    z, loss = outputs(), CrossEntropy()
    expected = torch.stack([F.cross_entropy(z[n], classes[n % len(classes)]) for n in range(NETWORKS)])
    torch.testing.assert_close(loss.value(z, classes), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(loss.value_slope(z, classes)[0], expected, rtol=1e-12, atol=0)


def test_squared_error_equals_that_of_torch_for_each_network():
    z, y, loss = outputs(), outputs("y"), SquaredError()
    expected = torch.stack([F.mse_loss(z[n], y[n]) for n in range(NETWORKS)])
    torch.testing.assert_close(loss.value(z, y), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(loss.value_slope(z, y)[0], expected, rtol=1e-12, atol=0)


def test_slope_equals_automatic_differentiation(loss_and_targets):
    loss, y = loss_and_targets
    z = outputs().requires_grad_()
    (expected,) = torch.autograd.grad(loss.value(z, y).sum(), z)
    torch.testing.assert_close(loss.value_slope(z.detach(), y)[1], expected, rtol=1e-12, atol=1e-15)


def test_tangent_of_the_slope_equals_automatic_differentiation(loss_and_targets):
    loss, y = loss_and_targets
    dz = outputs("dz")
    _, expected = torch.func.jvp(torch.func.grad(lambda z: loss.value(z, y).sum()), (outputs(),), (dz,))
    slope, tangent = loss.slope_jvp(outputs(), y, dz)
    torch.testing.assert_close(tangent, expected, rtol=1e-11, atol=1e-15)
    torch.testing.assert_close(slope, loss.value_slope(outputs(), y)[1], rtol=1e-12, atol=1e-15)


def test_cross_entropy_of_huge_outputs_stays_finite():
    z = torch.tensor([[[1e4, -1e4, 0.0]]])
    loss, slope = CrossEntropy().value_slope(z, torch.tensor([[1]]))
    assert loss.item() == pytest.approx(2e4)
    torch.testing.assert_close(slope, torch.tensor([[[1.0, -1.0, 0.0]]]))


def test_arguments_are_not_changed(loss_and_targets):
    loss, y = loss_and_targets
    z, targets = outputs(), y.clone()
    loss.value_slope(z, y)
    loss.slope_jvp(z, y, outputs("dz"))
    assert torch.equal(z, outputs())
    assert torch.equal(y, targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fused_cross_entropy_equals_the_eager_one(classes, dtype, monkeypatch):
    z, dz = 9 * outputs().to(dtype), outputs("dz").to(dtype)
    strided = [t.mT.contiguous().mT for t in (z, dz)]
    loss = CrossEntropy()
    found = [(*loss.value_slope(a, classes), *loss.slope_jvp(a, classes, b)) for a, b in ((z, dz), strided)]
    monkeypatch.setattr(losses, "fits_kernels", lambda *tensors: False)
    expected = (*loss.value_slope(z, classes), *loss.slope_jvp(z, classes, dz))
    for one in found:
        for ours, theirs in zip(one, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_cross_entropy_of_what_is_not_finite_is_nan():
    for bad in (float("nan"), float("inf")):
        z = torch.tensor([[[0.0, bad, 1.0]], [[0.0, 2.0, 1.0]]])
        loss, slope = CrossEntropy().value_slope(z, torch.tensor([[0]]))
        assert loss.isnan().tolist() == [True, False]
        assert slope.isnan().any(dim=-1).flatten().tolist() == [True, False]


@pytest.mark.skipif(not FUSED_AVAILABLE, reason="the eager path leaves this to torch")
@pytest.mark.parametrize("target", [-1, 3])
def test_a_class_that_there_is_not_is_refused(target):
    with pytest.raises(IndexError, match=f"classes must be 0 to 2, but got {target} to {target}"):
        CrossEntropy().value_slope(torch.zeros(1, 1, 3), torch.tensor([[target]]))
