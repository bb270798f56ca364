"""What an extension of a run is: more trials, and perhaps a wider space to sample them from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from search.config import RunConfig
from search.config_errors import ConfigError, Problem
from search.config_keys import shown
from search.config_space import SAMPLED_INTO, Choices, Range, sampled_keys

_MAY_CHANGE: Final = ("search.trials", "search.space")
REPLAYED: Final = ("cmaes", "nsga2", "qmc")
"""Samplers whose state has the shape of the space; the others know trials by their parameters and values alone."""


def require_extension(before: RunConfig, after: RunConfig, changed: Collection[str], run: object) -> int | None:
    """Refuse what is no extension of a run.

    Args:
        before: its configuration.
        after: that which is wanted.
        changed: dotted keys in which they differ.
        run: its folder, for the words.

    Returns:
        The number of the first trial that is sampled from the new space: the first of the wave after the trials of
        before, as the trials of one wave are sampled from one space.  None if the space stays.

    Raises:
        ConfigError: something else differs, there are no more trials than before, or the space is not a wider one.
    """
    problems = [
        Problem(
            key, "", "only more trials and a wider space extend a run", f"`ldnn fork {run} --set ...` makes another."
        )
        for key in changed
        if not any(key == one or key.startswith(f"{one}.") for one in _MAY_CHANGE)
    ]
    if after.search.trials <= before.search.trials:
        rule = f"must be more than the {before.search.trials} that the run has"
        problems.append(Problem("search.trials", str(after.search.trials), rule))
    is_wider = before.search.space != after.search.space
    if is_wider and before.search.sampler in REPLAYED:
        rule = f"the space cannot grow with the sampler {before.search.sampler}, whose memory has its shape"
        problems.append(Problem("search.space", "", rule, "tpe, gp and random can do it."))
    for key, entry in before.search.space.items() if is_wider else ():
        new = after.search.space.get(key)
        if new is None or not _contains(new, entry):
            was, now = (shown(one.model_dump(exclude_none=True)) if one else "" for one in (entry, new))
            rule = f"must hold all that it held before, {was}, on the same scale"
            problems.append(Problem(f"search.space.{key}", now, rule))
    for key in after.search.space.keys() - before.search.space.keys():
        if not after.search.space[key].contains(fixed_value(before, key)):
            problems.append(
                Problem(f"search.space.{key}", "", "must hold the value that the trials so far have had for it")
            )
    if problems:
        raise ConfigError(problems, f"the extension of {run}")
    wave = before.search.wave
    return -(-before.search.trials // wave) * wave if is_wider else None


def _contains(wide: Range[Any] | Choices[Any], narrow: Range[Any] | Choices[Any]) -> bool:
    if isinstance(wide, Choices) and isinstance(narrow, Choices):
        return set(narrow.choices) <= set(wide.choices)
    if isinstance(wide, Range) and isinstance(narrow, Range):
        on_the_same_scale = (wide.log, wide.step) == (narrow.log, narrow.step)
        return bool(wide.contains(narrow.low) and narrow.high <= wide.high and on_the_same_scale)
    return False


def fixed_value(config: RunConfig, key: str) -> Any:
    """What trials have for a key of the search space that is not sampled."""
    section, field = SAMPLED_INTO[key]
    return getattr(getattr(config, section), field)


def completed(config: RunConfig, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters as a point of the configuration's space, which may have keys that it was not sampled for."""
    keys = [key for key in sampled_keys(method) if key in config.search.space]
    return {key: params[key] if key in params else fixed_value(config, key) for key in keys}
