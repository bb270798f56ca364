"""One outer step: value and meta-gradient through all inner steps (P1, P1b), and how exact it is (P9)."""

from __future__ import annotations

import torch

from jobs.bench._base import GROWTH_NETWORKS, GROWTH_WIDTHS, Conditions, Result, Size, agree, seconds_of
from jobs.bench.references import plain_outer_step
from jobs.bench.work import Work, canonical

LOSS_TOLERANCE = 1e-5
"""Largest relative error of the outer loss against the reference, float32."""

GRADIENT_TOLERANCE = 1e-3
"""Largest relative error of the meta-gradient against the reference, float32."""

GROWTH_STEPS = (50, 100, 200, 500)


def measure_meta_step(conditions: Conditions) -> list[Result]:
    """P1, P1b and P9 at the canonical size, and the growth over T, N and width."""
    device, quick = conditions.device, conditions.quick
    steps, width, many = (8, 10, 3) if quick else (100, 100, 16)
    one, batch = (canonical(device, steps=steps, width=width, networks=n) for n in (1, many))
    check = check_outer_step(one)
    ours, ours_many, plain = seconds_of(device, one.outer_step, batch.outer_step, lambda: plain_outer_step(one))
    base = (one.size("ours", ours), batch.size("ours", ours_many), one.size("plain PyTorch, exact", plain))
    over_steps = [_timed(device, steps=t, width=width) for t in (GROWTH_STEPS if not quick else (2, 4))]
    over_width = [_timed(device, steps=steps, width=w) for w in (GROWTH_WIDTHS if not quick else (5, 20))]
    over_networks = [
        _timed(device, steps=steps, width=width, networks=n) for n in (GROWTH_NETWORKS if not quick else (1, 2))
    ]
    single = "outer step, one network: plain PyTorch exact reference ÷ ours"
    several = f"outer step per network, batch of {many}: plain PyTorch exact reference ÷ ours"
    error, sizes = _exactness(conditions, steps, width)
    grown = (*base, *over_steps, *over_width)
    return [
        Result("P1", single, plain / ours, 15, "ratio", grown, conditions, at_least=True, check=check),
        Result(
            "P1b",
            several,
            plain / (ours_many / many),
            30,
            "ratio",
            (*base, *over_networks),
            conditions,
            at_least=True,
            check=check,
        ),
        Result("P9", "meta-gradient, float32: error against exact float64", error, 1e-3, "relative", sizes, conditions),
    ]


def check_outer_step(
    work: Work, loss_tolerance: float = LOSS_TOLERANCE, gradient_tolerance: float = GRADIENT_TOLERANCE
) -> dict[str, float]:
    """Relative errors of outer loss and meta-gradient of one network against the plain program.

    Raises:
        DisagreementError: one is above its tolerance.
    """
    ours = work.outer_step()
    loss, gradient = plain_outer_step(work)
    return {
        "outer_loss": agree("outer loss", torch.tensor(ours.outer_loss, dtype=torch.float64), loss, loss_tolerance),
        "meta_gradient": agree("meta-gradient", ours.gradient[0], gradient, gradient_tolerance),
    }


def _exactness(conditions: Conditions, steps: int, width: int) -> tuple[float, tuple[Size, ...]]:
    """Errors of ours and of the plain program in float32, both against the plain program in float64."""
    sizes: list[Size] = []
    for t in (steps // 4, steps // 2, steps):
        work = canonical(conditions.device, steps=t, width=width)
        exact = plain_outer_step(canonical(conditions.device, steps=t, width=width, dtype=torch.float64))[1]
        error = agree("meta-gradient", work.outer_step().gradient[0], exact, float("inf"))
        plain_error = agree("meta-gradient", plain_outer_step(work)[1], exact, float("inf"))
        sizes.append(
            {"who": "ours", "T": t, "N": 1, "width": width, "error": error, "plain_float32_error": plain_error}
        )
    return sizes[-1]["error"], tuple(sizes)


def _timed(device: str, *, steps: int, width: int, networks: int = 1) -> Size:
    work = canonical(device, steps=steps, width=width, networks=networks)
    return work.size("ours", seconds_of(device, work.outer_step)[0])
