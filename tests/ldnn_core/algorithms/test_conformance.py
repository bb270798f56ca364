"""What every evolution algorithm must hold."""

import pytest
import torch
from safetensors.torch import load, save
from threadpoolctl import threadpool_limits

from ldnn_core.algorithms import ALGORITHMS
from ldnn_core.algorithms.coordinates import weight_units
from ldnn_core.subnetwork import ActivationSpec
from tests.ldnn_core.algorithms.cases import AROUND_A_MEAN, SPEC, Quadratic, make, points, run

VARIANTS = [*((name, {}) for name in ALGORITHMS), ("genetic", {"mutation": "function"})]
sphere = Quadratic()


@pytest.fixture(params=VARIANTS, ids=lambda variant: "-".join([variant[0], *variant[1].values()]))
def new(request):
    name, fixed = request.param
    return lambda seed=0, **options: make(name, seed, **fixed, **options)


def test_candidates_have_the_shape_of_sets(new):
    assert new().ask().shape == (12, 2, SPEC.genome_size)
    assert new().incumbent().shape == (2, SPEC.genome_size)
    assert new().ask().dtype == new().incumbent().dtype == torch.float32


@pytest.mark.parametrize("spec", [ActivationSpec("sin", 1, (4,)), ActivationSpec("zero", 3, (3, 2))])
def test_every_kind_of_set_is_searched(new, spec):
    algorithm = new(spec=spec)
    loss = Quadratic(spec)
    assert torch.isfinite(run(algorithm, loss, 5).ask()).all()
    assert algorithm.incumbent().shape == (spec.num_types, spec.genome_size)


def test_the_loss_falls(new):
    algorithm = run(new(mutation_scale=0.3), sphere, 1)
    before = float(sphere(algorithm.incumbent()))
    assert float(sphere(run(algorithm, sphere, 150).incumbent())) < 0.2 * before


def test_equal_seeds_repeat_and_others_differ(new):
    first, again, other = (run(new(seed), sphere, 3).ask() for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("asked", [False, True], ids=["between generations", "before tell"])
def test_twenty_generations_are_ten_saved_loaded_and_ten_more(new, asked):
    whole, stopped, resumed = run(new(), sphere, 10), run(new(), sphere, 10), new(seed=9)
    losses = sphere(whole.ask()) if asked else None
    if asked:
        assert torch.equal(sphere(stopped.ask()), losses)
    resumed.restore(load(save(stopped.state())))
    run(stopped, sphere, 2)  # what goes on after a state was taken does not change the state
    if asked:
        whole.tell(losses)
        resumed.tell(losses)
    run(whole, sphere, 10)
    run(resumed, sphere, 10)
    assert torch.equal(whole.incumbent(), resumed.incumbent())
    assert torch.equal(whole.ask(), resumed.ask())
    assert whole.step_size() == resumed.step_size()
    first, second = whole.state(), resumed.state()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_losses_that_are_not_finite_count_as_worst_and_as_equally_bad(new):
    finite, broken = new(), new()
    losses = sphere(finite.ask())
    broken.ask()
    losses[3:5] = float("inf")
    finite.tell(losses)
    losses[3], losses[4] = float("nan"), -float("inf")
    broken.tell(losses)
    assert torch.equal(finite.ask(), broken.ask())
    assert torch.isfinite(broken.incumbent()).all()


def test_a_generation_without_a_finite_loss_does_no_harm(new):
    algorithm = run(new(), sphere, 3)
    for value in (float("inf"), float("nan")):
        algorithm.ask()
        algorithm.tell(torch.full((12,), value))
    assert torch.isfinite(algorithm.ask()).all()
    before = float(sphere(algorithm.incumbent()))
    assert float(sphere(run(algorithm, sphere, 100).incumbent())) < before


@pytest.mark.parametrize("name", ["snes", "sep_cma_es", "cma_es"])
def test_a_generation_without_a_finite_loss_moves_no_mean_and_no_step_size(name):
    algorithm = run(make(name), sphere, 3)
    mean, step = algorithm.incumbent(), algorithm.step_size()
    algorithm.ask()
    algorithm.tell(torch.full((12,), float("inf")))
    assert torch.equal(algorithm.incumbent(), mean)
    assert algorithm.step_size() == step


def test_one_loss_per_candidate_is_needed(new):
    algorithm = new()
    algorithm.ask()
    with pytest.raises(ValueError, match="one loss for each of 12 candidates is needed"):
        algorithm.tell(torch.zeros(3))


def test_what_is_handed_out_is_a_copy(new):
    algorithm, untouched = run(new(), sphere, 2), run(new(), sphere, 2)
    asked = algorithm.ask()
    losses = sphere(asked)
    asked.zero_()
    algorithm.incumbent().zero_()
    for tensor in algorithm.state().values():
        tensor.zero_()
    untouched.ask()
    algorithm.tell(losses)
    untouched.tell(losses)
    assert torch.equal(algorithm.ask(), untouched.ask())


def test_numbers_do_not_depend_on_the_number_of_threads(new):
    spec = ActivationSpec("sin", 2, (50,))  # of 302 weights: large enough for libraries to share the work
    loss = Quadratic(spec, condition=100.0, rotated=True)
    before = torch.get_num_threads()
    states = []
    for threads in (1, 2):
        try:
            torch.set_num_threads(threads)
            with threadpool_limits(threads):
                states.append(run(new(spec=spec), loss, 3).state())
        finally:
            torch.set_num_threads(before)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", AROUND_A_MEAN)
def test_a_scale_per_layer_scales_the_steps_of_that_layer(name):
    plain, scaled = make(name), make(name, layer_scales=(2.0, 0.5))
    factors = torch.tensor([2.0] * 8 + [0.5] * 5)  # four weights and biases, then four weights and one bias
    steps = plain.ask() - plain.incumbent()
    torch.testing.assert_close(scaled.ask() - scaled.incumbent(), steps * factors, rtol=0, atol=1e-6)


def test_scales_of_one_are_none(new):
    plain, scaled = new(), new(layer_scales=(1.0, 1.0))
    assert torch.equal(run(plain, sphere, 3).ask(), run(scaled, sphere, 3).ask())


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 1.0, 1.0), (1.0, 0.0), (1.0, float("inf")), (float("nan"), 1.0)])
def test_scales_that_do_not_fit_the_layers_are_refused(new, scales):
    with pytest.raises(ValueError, match="layer_scales must be 2 numbers above 0, one per layer"):
        new(layer_scales=scales)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("genetic", {"population": 4, "elites": 4}, r"elites < population must hold, but got \(elites=4, population=4"),
        ("genetic", {"population": 4, "tournament": 5}, r"tournament <= population must hold"),
        ("genetic", {"mutation": "crossing"}, "mutation must be one of weights, function, but got 'crossing'"),
        (
            "openai_es",
            {"population": 7},
            "population must be even for openai_es, whose candidates are pairs, but got 7",
        ),
        ("openai_es", {"population": 0}, "population must be even"),
        ("snes", {"population": 1}, "population >= 2 must hold for snes, but got population=1"),
        ("cma_es", {"population": 3}, "population >= 4 must hold for cma_es, but got population=3"),
        ("sep_cma_es", {"population": 3}, "population >= 4 must hold for sep_cma_es, but got population=3"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, words):
    with pytest.raises(ValueError, match=words):
        make(name, **options)


def test_units_are_those_of_the_layers():
    deep = ActivationSpec("sin", 1, (3, 4))
    expected = [1.0] * 6 + [2 * 3**-0.5] * 16 + [3 * 4**-0.5] * 5
    torch.testing.assert_close(weight_units(deep, (1.0, 2.0, 3.0)), torch.tensor(expected))
    assert points(torch.ones(1, deep.genome_size), deep).shape == (deep.genome_size,)
