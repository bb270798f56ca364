"""Convolutional kinds of network: published parameter counts, and what a pass does against PyTorch's own layers."""

import pytest
import torch
from torch import nn

from ldnn_core.activations import BankActivation, GroupedActivation, TableBank, UsualActivation
from ldnn_core.architectures import ARCHITECTURES, DEPTHS, WIDTHS
from ldnn_core.layout import layer_types
from ldnn_core.losses import CrossEntropy
from ldnn_core.modules import ModuleNetwork
from ldnn_core.optimizers import SGD
from ldnn_core.randomness import generator
from ldnn_core.slots import ActivationSlot, BatchNorm, Drop
from ldnn_core.subnetwork import ActivationSpec, initial_genomes
from ldnn_core.training import Batches, InnerProblem, shuffled_rows, train

RELU = UsualActivation("relu")


def built(name, shape=(3, 32, 32), outputs=10, width=4, depth=1):
    return ARCHITECTURES[name](shape, outputs, width, depth, CrossEntropy())


def images(count, shape=(1, 8, 8)):
    return torch.randn(count, *shape, generator=generator(0, "x")), torch.randint(10, (count,))


def vgg_he_parameters(shape, outputs, width, depth):
    """The formula in the module's words, summed by hand."""
    before, total = shape[0], 0
    for block in range(depth):
        f = width * 2**block
        total += (9 * before + 1) * f + (9 * f + 1) * f + 4 * f
        before = f
    flat = before * (shape[1] // 2**depth) * (shape[2] // 2**depth)
    return total + (flat + 1) * before + 2 * before + (before + 1) * outputs


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
def test_vgg_he_has_the_parameters_of_its_formula(shape, depth):
    assert built("vgg_he", shape, width=32, depth=depth).num_params == vgg_he_parameters(shape, 10, 32, depth)


@pytest.mark.parametrize(("n", "parameters"), [(3, 269_722), (9, 853_018), (18, 1_727_962)])
def test_resnet_has_the_published_parameters(n, parameters):
    # 0.27 M, 0.85 M and 1.7 M for 20, 56 and 110 layers (He et al. 2016, table 6).
    assert built("resnet", width=16, depth=n).num_params == parameters
    slots = 1 + 6 * n
    assert len(built("resnet", width=16, depth=n).channels) == slots


def test_mobilenet_v2_has_the_parameters_of_torchvision():
    assert built("mobilenet_v2", (3, 224, 224), 1000, width=32, depth=4).num_params == 3_504_872


@pytest.mark.parametrize(("name", "depth"), [("vgg_he", 2), ("resnet", 1), ("mobilenet_v2", 2)])
def test_a_batch_of_networks_trains_as_each_does_alone_one_by_one_or_together(name, depth):
    network = built(name, (1, 8, 8), width=4, depth=depth)
    x, y = images(24)
    rows = shuffled_rows(24, 12, 3, [generator(n, "rows") for n in range(2)])
    start = network.initial_parameters([generator(n, "network") for n in range(2)], torch.float64)
    spec = ActivationSpec("sin", 2, (6,))
    bank = TableBank(spec, initial_genomes(spec, 0, dtype=torch.float64))
    types = layer_types(network.channels, network.blocks, 2, "within_layer")
    mixed = BankActivation(bank, tuple(t.unsqueeze(0) for t in types))
    problem = InnerProblem(network, SGD(0.9), 0.01)

    def trained(which, stream):
        some = Batches(x.double(), y, rows[:, stream], torch.arange(len(stream)), noise_seeds=tuple(stream))
        return train(problem, start[which], some, mixed)

    both = trained([0, 1], [0, 1])
    assert not both.diverged.any()
    network._together = True
    together = trained([0, 1], [0, 1])
    torch.testing.assert_close(together.parameters, both.parameters, rtol=1e-8, atol=1e-10)
    network._together = False
    for n in range(2):
        alone = trained([n], [n])
        torch.testing.assert_close(alone.parameters[0], both.parameters[n], rtol=1e-10, atol=1e-12)


def test_a_settled_network_equals_pytorch_in_evaluation_mode():
    """Against nn.BatchNorm2d whose running averages are the moments of all rows, and nn.Dropout that drops nothing."""

    class Ours(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.slot, self.norm = nn.Conv2d(1, 3, 3), ActivationSlot(3), BatchNorm(3)
            self.drop, self.out = Drop(0.5), nn.Linear(3 * 6 * 6, 10)

        def forward(self, x):
            return self.out(self.drop(self.norm(self.slot(self.conv(x)))).flatten(1))

    network = ModuleNetwork(Ours(), CrossEntropy(), inputs=(1, 8, 8))
    x, y = images(40)
    parameters = network.initial_parameters([generator(0, "network"), generator(1, "network")])
    settled = network.settled(parameters, RELU, x)
    ours, _ = settled.forward(parameters, x[:5].unsqueeze(0), RELU)
    for n in range(2):
        parts = network._unflatten(parameters[n])
        conv, norm, out = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, momentum=None), nn.Linear(108, 10)
        conv.load_state_dict({"weight": parts["conv.weight"], "bias": parts["conv.bias"]})
        out.load_state_dict({"weight": parts["out.weight"], "bias": parts["out.bias"]})
        reference = nn.Sequential(conv, nn.ReLU(), norm, nn.Dropout(0.5), nn.Flatten(), out)
        with torch.no_grad():
            norm(nn.functional.relu(conv(x)))  # the cumulative average of one batch: its moments
            norm.running_var *= (40 * 36 - 1) / (40 * 36)  # which PyTorch corrects for the degree of freedom
            expected = reference.eval()(x[:5])
        torch.testing.assert_close(ours[n], expected, rtol=1e-4, atol=1e-5)
    assert network.settled(parameters, RELU, x[:1].expand(3, 1, 8, 8)) is not network
    assert y.shape == (40,)


def test_moments_of_parts_are_those_of_all_rows():
    network = built("resnet", (1, 8, 8), width=2, depth=1)
    x, _ = images(1000)
    x[500:] += 3  # the parts differ, so that the variance between them counts
    parameters = network.initial_parameters([generator(0, "network")], torch.float64)
    settled = network.settled(parameters, RELU, x.double())
    first = nn.functional.conv2d(x.double(), network._unflatten(parameters[0])["0.0.weight"], padding=1)
    mean, variance = settled._moments[0]
    torch.testing.assert_close(mean[0], first.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(variance[0], first.var(dim=(0, 2, 3), correction=0))


def test_settled_networks_of_groups_are_those_of_each():
    network = built("vgg_he", (1, 8, 8), width=2, depth=1)
    x, _ = images(30)
    parameters = network.initial_parameters([generator(n, "network") for n in range(3)], torch.float64)
    tanh = UsualActivation("tanh")
    grouped = GroupedActivation(((RELU, 1), (tanh, 2)))
    both, _ = network.settled(parameters, grouped, x.double()).forward(parameters, x[None].double(), grouped)
    one, _ = network.settled(parameters[:1], RELU, x.double()).forward(parameters[:1], x[None].double(), RELU)
    two, _ = network.settled(parameters[1:], tanh, x.double()).forward(parameters[1:], x[None].double(), tanh)
    torch.testing.assert_close(both, torch.cat([one, two]))


def test_dropped_units_are_zero_and_the_rest_makes_up_for_them():
    module = nn.Sequential(ActivationSlot(1000), Drop(0.3), nn.Linear(1000, 1))
    network = ModuleNetwork(module, CrossEntropy(), inputs=(1000,))
    assert network.dropped == (1000,)
    x, y, rows = torch.ones(4, 1000), torch.zeros(4, dtype=torch.int64), torch.zeros(2, 1, 4, dtype=torch.int64)
    batches = Batches(x, y, rows, noise_seeds=(5,))
    (uniform,) = batches.noise_at(0, network.hidden, network.dropped)
    weights = torch.cat([torch.ones(1000), torch.zeros(1)]).unsqueeze(0)
    z, _ = network.forward(weights, x.unsqueeze(0), UsualActivation("identity"), (uniform,))
    kept = z[0, :, 0] * 0.7
    torch.testing.assert_close(kept, kept.round())
    assert (abs(kept - 700) < 4 * (1000 * 0.3 * 0.7) ** 0.5).all()
    assert len(set(kept.tolist())) > 1
    again, other = (batches.noise_at(step, (), (1000,))[0] for step in (0, 1))
    assert torch.equal(uniform, again)
    assert not torch.equal(uniform, other)
    assert network.forward(weights, x.unsqueeze(0), UsualActivation("identity"))[0].flatten().tolist() == [1000.0] * 4


def test_dropout_without_seeds_says_so():
    batches = Batches(torch.ones(4, 3), torch.zeros(4), torch.zeros(1, 1, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="need one seed per stream"):
        batches.noise_at(0, (), (3,))


def test_he_uniform_weights_keep_the_second_moment_of_relu_units_from_layer_to_layer():
    module = nn.Sequential(*(part for _ in range(4) for part in (nn.Linear(400, 400), ActivationSlot(400))))
    network = ModuleNetwork(module, CrossEntropy(), initial="he_uniform")
    parameters = network.initial_parameters([generator(0, "network")])
    x = torch.randn(1, 200, 400, generator=generator(1, "x"))
    _, layers = network.forward(parameters, x, RELU)
    for layer in layers:
        assert 0.75 < float((layer.units**2).mean()) < 1.3
    assert float(network._unflatten(parameters[0])["0.bias"].abs().max()) == 0


@pytest.mark.parametrize(
    ("mixing", "expected"),
    [
        ("within_layer", [[0, 0, 1], [0, 1], [0, 0, 1, 1]]),
        ("per_layer", [[0, 0, 0], [1, 1], [0, 0, 0, 0]]),
        ("per_block", [[0, 0, 0], [0, 0], [1, 1, 1, 1]]),
    ],
)
def test_types_are_told_apart_within_layers_by_layers_or_by_blocks(mixing, expected):
    assert [types.tolist() for types in layer_types((3, 2, 4), (0, 0, 1), 2, mixing)] == expected


@pytest.mark.parametrize("name", ["vgg_he", "resnet", "mobilenet_v2"])
def test_networks_for_images_refuse_other_inputs(name):
    with pytest.raises(ValueError, match="needs images"):
        built(name, (40,))


def test_images_that_cannot_be_halved_so_often_are_refused():
    with pytest.raises(ValueError, match="2\\^depth <= height and width"):
        built("vgg_he", (1, 8, 8), depth=4)
    with pytest.raises(ValueError, match="depth <= 7"):
        built("vgg_he", (1, 256, 256), width=1, depth=8)


def test_every_architecture_says_what_its_sizes_mean():
    assert set(WIDTHS) == set(DEPTHS) == set(ARCHITECTURES)
