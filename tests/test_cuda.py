"""What the CPU finds, a CUDA device finds too, in precision of float32; and nothing falls back to the eager path."""

import numpy as np
import pytest
import torch

from ldnn_core import accelerator
from ldnn_core.activations import UsualActivation
from ldnn_core.architectures import ARCHITECTURES
from ldnn_core.estimators import ESTIMATORS
from ldnn_core.evaluation import Training, evaluate_arms
from ldnn_core.gradient_noise import gradient_noise
from ldnn_core.losses import CrossEntropy
from ldnn_core.optimizers import RMSprop
from ldnn_core.randomness import generator
from ldnn_core.tasks import Rows, TaskData
from ldnn_core.training import train
from tests.ldnn_core.cases import OPTIMIZERS
from tests.ldnn_core.test_devices import KINDS, case_on, curvature_of
from tests.small_runs import drive_here, new_run, rows_of

DEVICE = "cuda"

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::DeprecationWarning:triton"),
]


@pytest.fixture(autouse=True)
def compiled():
    accelerator.prepare(DEVICE)
    yield
    assert accelerator.CUDA.failure is None


def both(what):
    """What is found on the CPU and on the device, as tensors on the CPU."""
    return [what(torch.device(device)) for device in ("cpu", DEVICE)]


def assert_alike(pair, rtol=1e-3, atol=1e-5):
    torch.testing.assert_close(pair[1], pair[0], rtol=rtol, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training(optimizer, kind):
    def trained(device):
        case = case_on(device, optimizer=optimizer, hidden=(7, 5))
        return train(case.problem, case.parameters, case.batches, KINDS[kind](case)).losses.cpu()

    assert_alike(both(trained))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators(name, optimizer):
    def estimated(device):
        case = case_on(device, optimizer=optimizer)
        result = ESTIMATORS[name]().estimate(case.problem, case.parameters, case.batches, case.activation(), 2, seed=0)
        return result.gradient.cpu(), result.losses.cpu()

    assert_alike(both(estimated))


@pytest.mark.parametrize("kind", KINDS)
def test_curvature(kind):
    def eigenvalues(device):
        case = case_on(device, hidden=(7, 5))
        return curvature_of(case, KINDS[kind](case)).eigenvalues.cpu()

    assert_alike(both(eigenvalues))


def test_gradient_noise():
    def trace(device):
        case = case_on(device, hidden=(7, 5))
        where = case.problem.network, case.parameters, case.batches.x, case.batches.y, case.activation()
        return gradient_noise(*where, generator=generator(0, "probes"), probes=3).trace.cpu()

    assert_alike(both(trace))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_judgements_of_convolutional_networks_which_can_be_repeated(name):
    x = torch.randn(120, 1, 16, 16, generator=generator(0, "x"))
    y = torch.randint(3, (120,), generator=generator(0, "y"))
    rows = [Rows(x[:80], y[:80]), Rows(x[80:100], y[80:100]), Rows(x[100:], y[100:])]
    network = ARCHITECTURES[name]((1, 16, 16), 3, 4, 1, CrossEntropy())
    arms = {"relu": UsualActivation("relu"), "tanh": UsualActivation("tanh")}

    def losses(device):
        data = TaskData("toy", *rows, 3, CrossEntropy(), 1 / 3).to(device)
        judged = evaluate_arms(data, network, arms, [0, 1], Training(RMSprop(), 0.001, 3, 20), root_seed=0)
        return torch.tensor([judgement.train_loss for judgement in judged])

    assert_alike(both(losses), rtol=1e-2)
    device = torch.device(DEVICE)
    assert torch.equal(losses(device), losses(device))


def test_a_run(tmp_path):
    found = []
    for device in ("cpu", DEVICE):
        run = new_run(tmp_path / device, resources={"device": device})
        drive_here(run)
        found.append((rows_of(run, "steps"), rows_of(run, "evaluations")))
    (steps, evaluations), (steps_there, evaluations_there) = found
    assert len(steps) == len(steps_there) > 0
    np.testing.assert_allclose(steps_there["outer_loss"], steps["outer_loss"], rtol=1e-2)
    np.testing.assert_allclose(evaluations_there["loss"], evaluations["loss"], rtol=1e-1)
    assert set(evaluations_there["device"]) == {torch.cuda.get_device_name()}
