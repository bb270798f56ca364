"""Uniform noise by counter: each number follows from a key and its place, so it can be drawn at any time and anywhere.

The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): ten rounds that
turn a counter of four 32-bit words and a key of two into four random words.  Here the key is the seed of a stream,
and the counter says block, inner step and hidden layer.  A compiled CPU kernel and integer arithmetic of torch give
the same bits.

Shapes: S streams, B batch, H units; Q = ⌈B H / 4⌉ blocks of four numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ldnn_core.accelerator import CUDA
from ldnn_core.compiled import FUSED_AVAILABLE, call, fits_kernels

if FUSED_AVAILABLE:
    from ldnn_core import philox_kernels as kernels

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_NOT_SPECIAL = 2
"""Compiled code is made anew for the numbers 0 and 1."""


def uniform_noise(
    seeds: tuple[int, ...], step: int, layer: int, shape: tuple[int, int], half_width: float, like: Tensor
) -> Tensor:
    """Noise of a hidden layer at an inner step, uniform within ± half_width, of the type and on the device of ``like``.

    With w one of the random words, a number is half_width · (2 ⌊w / 2⁹⌋ + 1 - 2²³) / 2²³: symmetric, never 0, and
    exact in float32 but for the rounding of the product, so that types of number differ by rounding only.

    Args:
        seeds: one per stream, of 64 bits at most.
        step: of the inner loop.
        layer: which hidden layer.
        shape: (B, H).
        half_width: the largest absolute value.
        like: where and of what type.

    Returns:
        (S, B, H); number i of a stream is word i // Q of block i mod Q.
    """
    keys, size = _keys(seeds, like.device), shape[0] * shape[1]
    blocks = -(-size // 4)
    scale = half_width / 2**23
    if fits_kernels(like):
        noise = torch.empty(len(seeds), 4 * blocks, dtype=like.dtype)
        call(kernels.uniform_noise, noise, keys, len(seeds), blocks, step, layer, scale)
    else:
        noise = _uniform(keys, blocks, step + _NOT_SPECIAL, layer + _NOT_SPECIAL, scale, like.dtype)
    return noise[:, :size].reshape(len(seeds), *shape)


@CUDA.compiles
def _uniform(keys: Tensor, blocks: int, step: int, layer: int, scale: float, dtype: torch.dtype) -> Tensor:
    """`uniform_noise` (S, 4 Q) for keys (S,); step and layer are numbered from `_NOT_SPECIAL`."""
    key = keys.unsqueeze(1)
    block = torch.arange(blocks, device=keys.device).expand(len(keys), -1)
    place = (torch.full_like(block, number - _NOT_SPECIAL) for number in (step, layer))
    words = torch.cat(philox((block, *place, torch.zeros_like(block)), (key & _MASK, key >> 32 & _MASK)), dim=1)
    return ((words >> 9) * 2 + (1 - 2**23)).to(dtype) * scale


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> list[Tensor]:
    """The four random words of a counter of four words and a key of two; all int64 tensors of 32-bit numbers."""
    words, keys = list(counter), list(key)
    for _ in range(ROUNDS):
        (high_0, low_0), (high_1, low_1) = (
            _product(factor, words[i]) for factor, i in zip(MULTIPLIERS, (0, 2), strict=True)
        )
        words = [high_1 ^ words[1] ^ keys[0], low_1, high_0 ^ words[3] ^ keys[1], low_0]
        keys = [(k + step) & _MASK for k, step in zip(keys, KEY_STEPS, strict=True)]
    return words


def _product(factor: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of the product of two 32-bit numbers, by halves of the factor: signed 64 bits hold those."""
    upper, lower = (factor >> 16) * word, (factor & 0xFFFF) * word
    return (upper + (lower >> 16)) >> 16, (((upper & 0xFFFF) << 16) + lower) & _MASK


@lru_cache(maxsize=16)
def _keys(seeds: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(seeds, dtype=torch.int64, device=device)
