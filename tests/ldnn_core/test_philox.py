"""Noise by counter against the published answers of its generator, and as random numbers."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from ldnn_core import philox as module
from ldnn_core.compiled import FUSED_AVAILABLE
from ldnn_core.philox import philox, uniform_noise

ONES = 0xFFFFFFFF
PUBLISHED = [  # of the authors' library Random123, file kat_vectors, "philox4x32 10": counter, key, answer
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([ONES] * 4, [ONES] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


def words(values):
    return [torch.tensor([value]) for value in values]


def number(word):
    return (2 * (word >> 9) + 1 - 2**23) / 2**23


@pytest.mark.parametrize(("counter", "key", "answer"), PUBLISHED)
def test_the_generator_gives_the_published_answers(counter, key, answer):
    assert [int(word) for word in philox(words(counter), words(key))] == answer


@pytest.mark.parametrize("fused", [True, False])
def test_noise_is_made_of_the_words_of_key_block_step_and_layer(fused, monkeypatch):
    if not fused:
        monkeypatch.setattr(module, "fits_kernels", lambda *tensors: False)
    key = (0xA4093822, 0x299F31D0)
    found = uniform_noise((key[0] + (key[1] << 32),), 7, 3, (4, 2), 0.5, torch.zeros(1, dtype=torch.float64))
    for block in range(2):
        expected = philox(words([block, 7, 3, 0]), words(key))
        assert found.flatten()[block::2].tolist() == [0.5 * number(int(word)) for word in expected]


@pytest.mark.skipif(not FUSED_AVAILABLE, reason="without kernels there is one path only")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 16), (37, 11)])
def test_both_paths_give_the_same_bits(dtype, shape, monkeypatch):
    arguments = ((0, 5, 2**63 - 1), 9, 1, shape, 0.1, torch.zeros(1, dtype=dtype))
    fused = uniform_noise(*arguments)
    monkeypatch.setattr(module, "fits_kernels", lambda *tensors: False)
    assert torch.equal(fused, uniform_noise(*arguments))
    assert fused.shape == (3, *shape)


def test_types_of_number_differ_by_rounding_only():
    single, double = (
        uniform_noise((3,), 0, 0, (50, 8), 0.3, torch.zeros(1, dtype=t)) for t in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(single.double(), double, rtol=2e-7, atol=0)


def test_noise_is_uniform_and_symmetric():
    noise = uniform_noise((11,), 4, 0, (400, 250), 0.25, torch.zeros(1, dtype=torch.float64)).flatten()
    assert noise.abs().max() <= 0.25
    assert stats.kstest(noise.numpy(), stats.uniform(-0.25, 0.5).cdf).pvalue > 0.01
    assert abs(float(noise.mean())) < 4 * 0.25 / math.sqrt(3 * len(noise))


@pytest.mark.parametrize("change", ["stream", "step", "layer", "neighbour"])
def test_other_streams_steps_layers_and_places_are_independent(change):
    def drawn(seed=11, step=4, layer=0):
        return uniform_noise((seed,), step, layer, (200, 100), 1.0, torch.zeros(1)).flatten().numpy()

    first = drawn()
    others = {"stream": drawn(seed=12), "step": drawn(step=5), "layer": drawn(layer=1), "neighbour": np.roll(first, 1)}
    counts, _, _ = np.histogram2d(first, others[change], bins=8, range=[[-1, 1], [-1, 1]])
    assert stats.chisquare(counts.ravel()).pvalue > 0.01
    assert abs(np.corrcoef(first, others[change])[0, 1]) < 4 / math.sqrt(len(first))
