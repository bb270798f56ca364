"""From the configuration to an algorithm: every option reaches the algorithm that reads it, and only that one."""

from typing import get_args

import pytest
import torch

from ldnn_core.algorithms import ALGORITHMS
from ldnn_core.algorithms.mutation import MUTATIONS
from search.config import RunConfig, TrialConfig
from search.config_errors import ConfigError, checked
from search.config_tables import EvolutionConfig
from search.config_types import AlgorithmName, MutationName
from search.evolution import OPTIONS, make_algorithm
from search.schema import Status
from search.setting import Setting
from search.trial import run_trial
from tests.small_runs import TINY, merged, tiny_run, tiny_trial

READ_BY_ALL = {"population", "mutation_scale", "layer_scales"}
OTHER_VALUES = {
    "population": 6,
    "mutation_scale": 0.5,
    "layer_scales": [2.0, 0.5],
    "elites": 1,
    "tournament": 2,
    "crossover_rate": 1.0,
    "mutation": "function",
    "mean_lr": 0.5,
    "weight_decay": 0.5,
}


def third_generation(algorithm: str, **options: object) -> torch.Tensor:
    config = tiny_trial("evolution", evolution={"algorithm": algorithm, "population": 12, **options})
    assert config.evolution is not None
    made = make_algorithm(Setting.of(config, "cpu"), config.evolution)
    for _ in range(2):
        made.tell(made.ask().square().sum(dim=(1, 2)))
    return made.ask()


def test_every_algorithm_and_every_option_has_its_place() -> None:
    assert set(OPTIONS) == set(get_args(AlgorithmName)) == set(ALGORITHMS)
    assert set(MUTATIONS) == set(get_args(MutationName))
    own = {field for fields in OPTIONS.values() for field in fields}
    assert own | READ_BY_ALL == set(OTHER_VALUES)
    assert set(OTHER_VALUES) < set(EvolutionConfig.model_fields)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_option_changes_the_algorithms_that_read_it_and_no_other(algorithm: str) -> None:
    usual = third_generation(algorithm)
    for option, value in OTHER_VALUES.items():
        changed = third_generation(algorithm, **{option: value})
        assert torch.equal(changed, usual) != (option in READ_BY_ALL | set(OPTIONS[algorithm])), option


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_a_trial(algorithm: str) -> None:
    records = run_trial(tiny_trial("evolution", evolution={"algorithm": algorithm, "layer_scales": [1.0, 0.5]}))
    assert records.status is Status.OK, records.trial["error"]
    assert records.trial["algorithm"] == algorithm
    assert all(row["step_size"] > 0 for row in records.steps[1:])


def test_a_stored_configuration_without_the_new_fields_has_their_defaults() -> None:
    stored = tiny_trial("evolution").model_dump(mode="json")
    for field in ("layer_scales", "mutation", "mean_lr", "weight_decay"):
        del stored["evolution"][field]
    assert TrialConfig.model_validate(stored) == tiny_trial("evolution")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evolution": {"layer_scales": [1.0]}}, "one number per layer of the sub-network (2)` must hold, but got"),
        ({"ldnn": {"subnet_hidden": [4, 3]}, "evolution": {"layer_scales": [1.0, 1.0]}}, "of the sub-network (3)`"),
        (
            {"ldnn": {"subnet_hidden": [64, 64]}, "evolution": {"algorithm": "cma_es"}},
            "with 8706 weights in a set (1 GiB of covariances; sep_cma_es needs none)` must hold, but got "
            "(evolution.population = 4, ldnn.subnet_hidden = [64, 64], ldnn.num_types = 2)",
        ),
        (
            {
                "ldnn": {"subnet_hidden": [1000 // 3]},
                "evolution": {"algorithm": "cma_es", "population": 64},
                "search": {"space": {"num_types": {"low": 1, "high": 2}}},
            },
            "search.space.num_types.high = 2)",
        ),
    ],
    ids=["too few scales", "scales of another depth", "too many weights", "too many weights in some trials"],
)
def test_what_the_sub_network_does_not_allow_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(RunConfig, merged(TINY, changes))
    assert words in str(caught.value)


def test_what_a_run_without_evolution_does_not_read_is_not_refused() -> None:
    run = tiny_run(method="gradient", ldnn={"subnet_hidden": [64, 64]}, evolution={"algorithm": "cma_es"})
    assert run.ldnn.subnet_weights == 64 * 2 + 65 * 64 + 65
