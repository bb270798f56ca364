"""Nothing of the core mixes devices: it is run on the device ``meta``, whose tensors hold no numbers, and every
operation is asked where its tensors lie."""

import dataclasses

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ldnn_core.activations import GroupedActivation, UsualActivation
from ldnn_core.curvature import measure_curvature
from ldnn_core.estimators import ESTIMATORS
from ldnn_core.evaluation import Training, evaluate_arms, fully_connected
from ldnn_core.gradient_noise import gradient_noise
from ldnn_core.losses import CrossEntropy
from ldnn_core.optimizers import RMSprop
from ldnn_core.population import evaluate_population
from ldnn_core.randomness import generator
from ldnn_core.subnetwork import initial_genomes
from ldnn_core.tasks import Rows, TaskData
from ldnn_core.training import train
from tests.ldnn_core.cases import small_case


class Answers(TorchFunctionMode):
    """Zeros for what asks a tensor without numbers for its numbers."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in ("__float__", "item", "tolist") and args[0].is_meta:
            return self.zeros(args[0].shape)
        if name == "__bool__" and args[0].is_meta:
            return True
        return function(*args, **(kwargs or {}))

    def zeros(self, shape):
        return [self.zeros(shape[1:]) for _ in range(shape[0])] if shape else 0.0


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices, but for copies from one to the other; a number may lie anywhere."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        devices = {t.device.type for t in tensors if t.ndim}
        if len(devices) > 1 and "copy" not in function.__name__:
            raise RuntimeError(f"{function.__name__} mixes {' and '.join(sorted(devices))}")
        return function(*args, **kwargs)


@pytest.fixture
def accelerator():
    with Answers(), OneDevice():
        yield torch.device("meta")


def test_an_operation_on_two_devices_is_seen(accelerator):
    for operation in (torch.add, lambda a, b: a.index_select(0, b.long())):
        with pytest.raises(RuntimeError, match="mixes cpu and meta"):
            operation(torch.zeros(3, device=accelerator), torch.zeros(3))


def case_on(device, **kinds):
    """A small case as a caller moves it: data, rows and parameters lie on the device."""
    case = small_case(steps=2, noise=0.1, dtype=torch.float32, **kinds)
    tensors = {name: getattr(case.batches, name).to(device) for name in ("x", "y", "rows", "stream")}
    rates = torch.full((3, 1), 0.05, device=device)
    return dataclasses.replace(
        case,
        genomes=case.genomes.to(device),
        problem=dataclasses.replace(case.problem, lr=rates),
        parameters=case.parameters.to(device),
        batches=dataclasses.replace(case.batches, **tensors),
    )


def grouped(case):
    groups = (UsualActivation("gelu"), 1), (case.activation(), 2)
    return GroupedActivation(groups)


KINDS = {
    "table": lambda case: case.activation(),
    "exact": lambda case: case.activation(exact=True),
    "usual": lambda case: UsualActivation("hat"),
    "grouped": grouped,
}


@pytest.mark.parametrize(
    ("kind", "optimizer"), [("table", "rmsprop"), ("exact", "sgd"), ("usual", "adam"), ("grouped", "sgd")]
)
def test_training_stays_on_its_device(accelerator, optimizer, kind):
    case = case_on(accelerator, optimizer=optimizer, hidden=(7, 5), base="relu")
    trained = train(case.problem, case.parameters, case.batches, KINDS[kind](case))
    assert trained.parameters.device.type == trained.losses.device.type == "meta"


@pytest.mark.parametrize("exact", [False, True], ids=["table", "exact"])
@pytest.mark.parametrize("regression", [False, True], ids=["classes", "regression"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_stay_on_their_device(accelerator, name, regression, exact):
    case = case_on(accelerator, regression=regression)
    activation = case.activation(exact=exact)
    found = ESTIMATORS[name]().estimate(case.problem, case.parameters, case.batches, activation, 4, seed=0)
    assert {found.gradient.device.type, found.final_parameters.device.type} == {"meta"}


def test_populations_stay_on_their_device(accelerator):
    case = case_on(accelerator)
    genomes = initial_genomes(case.spec, 0, 2).to(accelerator)
    found = evaluate_population(case.problem, case.spec, genomes, case.parameters, case.batches, 4)
    assert {found.outer_loss.device.type, found.final_loss.device.type} == {"meta"}


def test_judgements_are_made_on_the_device_of_the_data(accelerator):
    case = case_on(accelerator, hidden=(8,))
    rows = [Rows(torch.zeros(40, 5, device=accelerator), torch.zeros(40, dtype=torch.int64, device=accelerator))] * 3
    data = TaskData("toy", *rows, 3, CrossEntropy(), 1 / 3)
    arms = {"mixed": case.activation(), "relu": UsualActivation("relu")}
    found = evaluate_arms(
        data, fully_connected(data, (8,)), arms, [0, 1], Training(RMSprop(), 0.01, 3, 20), root_seed=0
    )
    assert len(found) == 4


def curvature_of(case, activation):
    where = case.problem.network, case.parameters, case.batches.x, case.batches.y, activation
    counts = {"probes": 2, "lanczos_steps": 3, "eigenvalues": 2}
    return measure_curvature(*where, generator=generator(0, "probes"), **counts)


@pytest.mark.parametrize("regression", [False, True], ids=["classes", "regression"])
@pytest.mark.parametrize("kind", KINDS)
def test_curvature_and_gradient_noise_stay_on_their_device(accelerator, kind, regression):
    case = case_on(accelerator, hidden=(7, 5), regression=regression)
    activation = KINDS[kind](case)
    found = curvature_of(case, activation)
    assert {getattr(found, field.name).device.type for field in dataclasses.fields(found)} == {"meta"}
    where = case.problem.network, case.parameters, case.batches.x, case.batches.y, activation
    noise = gradient_noise(*where, generator=generator(0, "probes"), probes=3)
    assert {noise.trace.device.type, noise.alignment.device.type} == {"meta"}
