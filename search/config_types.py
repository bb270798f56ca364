"""What the tables of a recipe are made of: names, limits of numbers, and the rules that every table keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from search.config_errors import Relation, require

Method = Literal["gradient", "evolution"]
TaskName = Literal["mnist1d", "van_der_pol", "digits", "fashion_mnist", "mnist", "cifar10", "file"]
BaseName = Literal["zero", "identity", "sigmoid", "tanh", "sin", "elu", "relu", "silu", "gelu", "hat"]
UsualName = Literal["sigmoid", "tanh", "sin", "elu", "relu", "silu", "gelu", "hat"]
ControlName = Literal["untrained", "copies", "shuffled", "relu-equal", "no-gain", "mixed-normalized"]
ArchitectureName = Literal["mlp", "vgg_he", "resnet", "mobilenet_v2"]
MixingName = Literal["within_layer", "per_layer", "per_block"]
OptimizerName = Literal["rmsprop", "sgd", "adam"]
EstimatorName = Literal["unrolled", "truncated", "first_order", "es", "pes"]
AlgorithmName = Literal["genetic", "openai_es", "snes", "sep_cma_es", "cma_es"]
MutationName = Literal["weights", "function"]
SamplerName = Literal["tpe", "random", "cmaes", "nsga2", "gp", "qmc"]
SchedulerName = Literal["none", "asha", "halving"]
ObjectiveName = Literal["score", "cross_size_drop", "num_params", "flatness"]

# The same limits hold for a field and for the range or choices it is sampled from, hence the names.  A learning
# rate may be absurdly large: that is how a diverging trial is provoked.
LearningRate = Annotated[float, Field(gt=0, le=1e6)]
MutationScale = Annotated[float, Field(gt=0, le=100)]
Width = Annotated[int, Field(ge=1, le=4096)]
Epoch = Annotated[int, Field(ge=1, le=10_000)]
Strength = Annotated[float, Field(ge=0, le=1e6)]
Spread = Annotated[float, Field(gt=0, le=1e6)]
NumTypes = Annotated[int, Field(ge=1, le=3)]
Depth = Annotated[int, Field(ge=1, le=64)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(gt=0, lt=1)]
BatchSize = Annotated[int, Field(ge=1, le=100_000)]
Steps = Annotated[int, Field(ge=1, le=100_000)]
Networks = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


def _tuple_from_list(value: object) -> object:
    """TOML and JSON know arrays only; a strict tuple would refuse them."""
    return tuple(value) if isinstance(value, list) else value


Array = BeforeValidator(_tuple_from_list)


def _tuple_from_one_or_list(value: object) -> object:
    return (value,) if isinstance(value, str) else _tuple_from_list(value)


Texts = BeforeValidator(_tuple_from_one_or_list)
"""A list of texts, or a single one without brackets."""


class Table(BaseModel):
    """Abstract: what all tables of a recipe have in common."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="after")
    def _relations_hold(self) -> Self:
        require(self, self._relations())
        return self

    def _relations(self) -> Iterator[Relation]:
        """What must hold between fields, each of which is right by itself."""
        yield from ()
