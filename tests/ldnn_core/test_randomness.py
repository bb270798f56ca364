"""Named generators: what they depend on, and what they leave alone."""

import hashlib
import subprocess
import sys
from pathlib import Path

import torch

from ldnn_core.randomness import derive_seed, generator

ROOT = Path(__file__).resolve().parents[2]


def test_a_seed_is_63_bits_of_the_hash_of_its_names():
    digest = hashlib.sha256(b"5/classifier/3/1").digest()
    assert derive_seed(5, "classifier", 3, 1) == int.from_bytes(digest[:8], "big") // 2
    assert 0 <= derive_seed(5, "classifier", 3, 1) < 2**63


def test_every_argument_makes_another_seed():
    names = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1), (0, "a", 0, 1), (0, "a", 1, 0), (0, "a", 10)]
    assert len({derive_seed(*name) for name in names}) == len(names)


def test_another_process_draws_the_same_numbers():
    code = "from ldnn_core.randomness import generator; import torch;"
    code += "print(torch.rand(3, generator=generator(7, 'weights', 2)).tolist())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(torch.rand(3, generator=generator(7, "weights", 2)).tolist())


def test_two_purposes_are_not_correlated():
    a, b = (torch.randn(10_000, generator=generator(0, purpose)) for purpose in ("batches", "noise"))
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.05


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    torch.rand(5, generator=generator(0, "weights"))
    assert torch.equal(torch.get_rng_state(), before)
