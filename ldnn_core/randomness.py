"""Named random generators: every random number follows from (seed, purpose, index) and nothing else."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, purpose: str, *index: int) -> int:
    """A 63-bit seed that depends on all arguments and on nothing else, equal on every machine.

    Args:
        seed: the seed that a person chose.
        purpose: what the numbers are for, e.g. ``"classifier-weights"``; different purposes are independent.
        index: position within the purpose, e.g. outer step and replicate.
    """
    text = "/".join([str(seed), purpose, *map(str, index)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *index: int) -> torch.Generator:
    """A CPU generator seeded by `derive_seed`.

    Draw on the CPU and move the tensor: so an accelerator sees the same numbers as the CPU.

    Args:
        seed: of everything.
        purpose: what is drawn, e.g. "rows": another purpose is another sequence.
        index: which of several, e.g. the outer step.
    """
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *index))
