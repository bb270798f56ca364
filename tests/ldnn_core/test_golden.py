"""Ours against four cases computed by an independent program in float64 (tests/golden/cases.json)."""

import json
from pathlib import Path

import pytest
import torch

from ldnn_core.activations import BankActivation, ExactBank, mixed_functions
from ldnn_core.estimators import Unrolled
from ldnn_core.layout import type_sizes
from ldnn_core.losses import CrossEntropy
from ldnn_core.mlp import MlpSpec
from ldnn_core.optimizers import SGD, RMSprop
from ldnn_core.participation import participation_ratio
from ldnn_core.subnetwork import ActivationSpec
from ldnn_core.training import Batches, InnerProblem

CASES = json.loads((Path(__file__).parent.parent / "golden" / "cases.json").read_text())


def flat(weights, biases):
    rows = [
        torch.tensor(t, dtype=torch.float64).reshape(-1) for pair in zip(weights, biases, strict=True) for t in pair
    ]
    return torch.cat(rows).unsqueeze(0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_inner_loop_and_meta_gradient_equal_the_independent_program(case):
    spec = ActivationSpec(case["base"], case["num_types"], (case["subnet_width"],), case["scale"])
    network = MlpSpec(case["inputs"], tuple(case["hidden"]), case["outputs"], CrossEntropy())
    assert [list(type_sizes(width, case["num_types"])) for width in case["hidden"]] == case["type_sizes"]
    optimizer = RMSprop(decay=case["mu"]) if case["optimizer"] == "rmsprop" else SGD(momentum=case["mu"])
    genomes = torch.tensor(case["genome"], dtype=torch.float64).unsqueeze(0)
    x, y = torch.tensor(case["X"], dtype=torch.float64), torch.tensor(case["Y"])
    rows = torch.arange(x.shape[0] * x.shape[1]).view(x.shape[0], 1, -1)
    batches = Batches(x.flatten(0, 1), y.flatten(), rows)
    activation = BankActivation(ExactBank(spec, genomes), mixed_functions(network.hidden, spec.num_types))
    parameters = flat(case["weights"], case["biases"])

    result = Unrolled().estimate(InnerProblem(network, optimizer, case["lr"]), parameters, batches, activation, 100)

    exact = {"rtol": 1e-10, "atol": 1e-13}
    losses = torch.tensor(case["inner_losses"], dtype=torch.float64)
    torch.testing.assert_close(result.losses[:, 0], losses, **exact)
    assert result.outer_loss == pytest.approx(case["outer_loss"], rel=1e-10)
    final = flat(case["final_weights"], case["final_biases"])
    torch.testing.assert_close(result.final_parameters, final, **exact)
    meta = torch.tensor(case["meta_gradient"], dtype=torch.float64).unsqueeze(0)
    assert float((result.gradient - meta).norm() / meta.norm()) <= 1e-8

    _, hidden = network.forward(result.final_parameters, x[-1:], activation)
    first = torch.tensor(case["hidden0_final_last_batch"], dtype=torch.float64)
    torch.testing.assert_close(hidden[0].units[0], first, rtol=1e-9, atol=1e-12)
    assert participation_ratio(hidden[0].units).item() == pytest.approx(case["participation_ratio_hidden0"], rel=1e-9)

    def loss(p):
        return network.loss.value(network.forward(p.unsqueeze(0), x[-1:], activation)[0], y[-1:])[0]

    hessian = torch.func.hessian(loss)(result.final_parameters[0])
    assert torch.trace(hessian).item() == pytest.approx(case["hessian_trace_final_last_batch"], rel=1e-8)
    eigenvalues = torch.tensor(case["hessian_eigenvalues_final_last_batch"], dtype=torch.float64).sort().values
    torch.testing.assert_close(torch.linalg.eigvalsh(hessian), eigenvalues, rtol=1e-8, atol=1e-9)
