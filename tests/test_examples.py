"""The examples in docs/examples run, and a card works in the networks that they have."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ldnn_core import load_activation, write_card
from tests.ldnn_core.cards import small_card

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    path = tmp_path_factory.mktemp("cards") / "set.safetensors"
    write_card(small_card(), path)
    return path


def module_of(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("convolutional_network", ["--steps", "3", "--width", "6"], "found set: loss"),
        ("estimator", ["--epochs", "1"], "set.safetensors: accuracy 0."),
    ],
)
def test_an_example_runs(name, options, words, card, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, str(card), *options])
    module_of(name).main()
    shown = capsys.readouterr().out
    assert words in shown
    assert "relu" in shown
    assert "False" not in shown


def test_a_card_trained_in_a_convolutional_network_has_gradients_to_second_order(card):
    example = module_of("convolutional_network")
    torch.manual_seed(0)
    model = example.SmallResNet(classes=3, width=4, activation_layer=lambda: load_activation(card))
    x, y = example.stripes(rows=12, size=8, classes=3)
    losses = example.train(model, x, y, steps=12)
    assert losses[-1] < 0.8 * losses[0]
    model.double().eval()  # the running statistics stand still, so that the loss is a function of the weights
    x = x.double()
    parameters = list(model.parameters())
    direction = [torch.randn_like(parameter) for parameter in parameters]
    product = example.hessian_times(model, x, y, direction)
    assert all(part.isfinite().all() for part in product)
    assert sum(float(part.abs().sum()) for part in product) > 0

    def gradient():
        loss = torch.nn.functional.cross_entropy(model(x), y)
        return torch.cat([one.flatten() for one in torch.autograd.grad(loss, parameters)])

    def moved(step):
        with torch.no_grad():
            for parameter, along in zip(parameters, direction, strict=True):
                parameter.add_(along, alpha=step)
        return gradient()

    there, back = moved(1e-6), moved(-2e-6)
    differences = (there - back) / 2e-6
    expected = torch.cat([part.flatten() for part in product])
    assert (differences - expected).norm() < 1e-3 * expected.norm()


def test_the_estimator_is_one_of_scikit_learns_kind(card):
    from sklearn.base import clone

    example = module_of("estimator")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    y = np.where(x[:, 0] * x[:, 1] > 0, "same", "other")
    own = example.MlpClassifier(card=str(card), hidden=8, epochs=25, batch_size=20)
    assert own.fit(x, y) is own
    assert own.score(x, y) > 0.8
    assert own.predict_proba(x).sum(axis=1) == pytest.approx(1)
    assert set(own.predict(x)) <= {"same", "other"}
    twin = clone(own).fit(x, y)
    np.testing.assert_array_equal(twin.predict_proba(x), own.predict_proba(x))
    state = torch.get_rng_state()
    clone(own).set_params(epochs=1).fit(x, y)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="3 features"):
        own.predict(x[:, :2])
