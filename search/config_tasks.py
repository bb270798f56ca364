"""The table ``[task]`` of a recipe: one model for each task, told apart by its name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, get_args

from pydantic import Discriminator, Field, Tag, TypeAdapter

from search.config_errors import Relation
from search.config_keys import nearest
from search.config_types import Seed, Table, TaskName

Fraction: TypeAlias = Annotated[float, Field(ge=0.01, le=0.9)]
Place: TypeAlias = Annotated[str, Field(max_length=4000, json_schema_extra={"allowed": "a path, as text"})]
Checksum: TypeAlias = Annotated[
    str, Field(pattern=r"\A([0-9a-f]{64})?\z", json_schema_extra={"allowed": "64 hexadecimal digits, or nothing"})
]
Label: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"\A([A-Za-z0-9][A-Za-z0-9._-]{0,39})?\z",
        json_schema_extra={"allowed": "1 to 40 letters, digits, dots, underscores and dashes, or nothing"},
    ),
]

PLACES: Final = frozenset({"path"})
"""Fields that say where data lies.  No result depends on them, as a checksum says what the data is."""


class TaskTable(Table):
    """Abstract: what all tasks are told."""

    row_keys: ClassVar[tuple[str, ...]] = ("validation_fraction",)
    """Fields that `training_rows` depends on."""

    image_size: ClassVar[int | None] = 0
    """Height and width of an input; 0 if inputs are no images, None where only the data knows."""

    name: str
    """Data, loss and metric."""
    label: Label = ""
    """What the task is called in tables; nothing for its name.  Two variants of a task need it to be told apart."""
    validation_fraction: Fraction = 0.2
    """Share of the rows that are not test rows by which things are chosen: learning rates, sets, trials."""

    @property
    def title(self) -> str:
        """What the task is called in tables."""
        return self.label or self.name

    @property
    @abstractmethod
    def learning_rows(self) -> int | None:
        """Rows that are not test rows; None where only the data knows."""

    @property
    def training_rows(self) -> int | None:
        """Rows that networks are trained on, neither test nor validation rows; None where only the data knows."""
        learning = self.learning_rows
        return None if learning is None else learning - round(learning * self.validation_fraction)

    @property
    def settings(self) -> dict[str, Any]:
        """What the task of the core is made with."""
        return self.model_dump(exclude={"name", "label"})


class Mnist1dConfig(TaskTable):
    """MNIST-1D; one fifth of the samples are test rows, judged once, the others are for training and validation."""

    row_keys: ClassVar[tuple[str, ...]] = ("samples", "validation_fraction")

    name: Literal["mnist1d"] = "mnist1d"
    """Data, loss and metric."""
    samples: Annotated[int, Field(ge=1000, le=100_000)] = 5000
    """Rows generated in all."""
    data_seed: Seed = 42
    """Seed of the generator; 42 gives the published data."""

    @property
    def learning_rows(self) -> int | None:
        """Rounded as the generator of the data rounds."""
        return int(self.samples * 0.8)


class VanDerPolConfig(TaskTable):
    """Forecasting van der Pol's oscillator, x'' = mu (1 - x²) x' - x; one fifth of the orbits are test orbits."""

    row_keys: ClassVar[tuple[str, ...]] = ("trajectories", "steps", "validation_fraction")

    name: Literal["van_der_pol"] = "van_der_pol"
    """Data, loss and metric."""
    mu: Annotated[float, Field(ge=0, le=50)] = 2.7
    """Strength of the damping; 0 is the harmonic oscillator."""
    horizon: Annotated[float, Field(ge=1e-3, le=100)] = 0.2
    """Time between a state and the one that is forecast from it; for mu = 2.7 a period takes 8.1."""
    trajectories: Annotated[int, Field(ge=10, le=10_000)] = 100
    """Orbits in all, from starts evenly distributed between -3 and 3 in both variables."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Horizons of each orbit, and rows that it gives."""
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Standard deviation of noise on the states of training and validation rows, in units of their spread."""
    data_seed: Seed = 42
    """Seed of starts and noise."""

    @property
    def learning_rows(self) -> int | None:
        """Orbits that are not test orbits, and their rows."""
        return (self.trajectories - round(self.trajectories * 0.2)) * self.steps

    @property
    def training_rows(self) -> int | None:
        """Whole orbits."""
        learning = self.trajectories - round(self.trajectories * 0.2)
        return (learning - round(learning * self.validation_fraction)) * self.steps

    def _relations(self) -> Iterator[Relation]:
        yield Relation(
            "trajectories times steps <= 1000000", self.trajectories * self.steps <= 10**6, self.row_keys[:2]
        )
        learning = self.trajectories - round(self.trajectories * 0.2)
        rule = "validation_fraction leaves an orbit to train on and one to choose by"
        held = 0 < round(learning * self.validation_fraction) < learning
        yield Relation(rule, held, ("validation_fraction", "trajectories"))


class DigitsConfig(TaskTable):
    """The 1797 real digits of scikit-learn, 8 x 8; 359 of them are test rows."""

    image_size: ClassVar[int | None] = 8

    name: Literal["digits"] = "digits"
    """Data, loss and metric."""
    data_seed: Seed = 42
    """Seed of the order of the rows, which come writer by writer."""

    @property
    def learning_rows(self) -> int | None:
        """All but the test rows."""
        return 1438


class _Images(TaskTable):
    """Abstract: images in files that the user has."""

    row_keys: ClassVar[tuple[str, ...]] = ("rows", "validation_fraction")
    image_size: ClassVar[int | None] = 28

    rows: Annotated[int, Field(ge=0, le=60_000)] = 0
    """Rows that are not test rows: the first of each class, this many in all; 0 for all."""
    test_rows: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Test rows, chosen in the same way; 0 for all."""
    checksum: Checksum = ""
    """SHA-256 of the data; filled in when a run is made, which refuses data that has changed since."""

    @property
    def learning_rows(self) -> int | None:
        """Known if they are limited."""
        return self.rows or None

    def _relations(self) -> Iterator[Relation]:
        for name in ("rows", "test_rows"):
            value = getattr(self, name)
            yield Relation(f"{name} is 0 or at least 20, two of each class", not value or value >= 20, (name,))


class FashionMnistConfig(_Images):
    """Fashion-MNIST, 28 x 28 pictures of clothes: 60000 and 10000 test rows in four IDX files."""

    name: Literal["fashion_mnist"] = "fashion_mnist"
    """Data, loss and metric."""
    path: Place = "/usr/share/datasets/fashion-mnist"
    """Folder with the files; by default where Debian's package dataset-fashion-mnist installs them."""


class MnistConfig(_Images):
    """MNIST, 28 x 28 handwritten digits: 60000 and 10000 test rows in four IDX files."""

    name: Literal["mnist"] = "mnist"
    """Data, loss and metric."""
    path: Place = "mnist"
    """Folder with the files."""


class Cifar10Config(_Images):
    """CIFAR-10, 32 x 32 colour pictures: 50000 and 10000 test rows in six batches, python or binary ones."""

    image_size: ClassVar[int | None] = 32

    name: Literal["cifar10"] = "cifar10"
    """Data, loss and metric."""
    path: Place = "cifar-10-batches-py"
    """Folder with the batches."""


class FileConfig(TaskTable):
    """The user's own data, x and y of a .npz or .parquet file: classes if y is whole numbers, else a regression."""

    row_keys: ClassVar[tuple[str, ...]] = ("test_fraction", "validation_fraction")
    image_size: ClassVar[int | None] = None

    name: Literal["file"] = "file"
    """Data, loss and metric."""
    path: Place = ""
    """The file."""
    test_fraction: Fraction = 0.2
    """Share of all rows that judge, once."""
    data_seed: Seed = 42
    """Seed of the order in which rows are dealt to the parts."""
    checksum: Checksum = ""
    """SHA-256 of the data; filled in when a run is made, which refuses data that has changed since."""

    @property
    def learning_rows(self) -> int | None:
        """The file knows."""
        return None


def _tag(value: object) -> str:
    """Which model checks a table: that of its name, or of the name that was probably meant, which then is refused."""
    given = value.get("name", "mnist1d") if isinstance(value, Mapping) else getattr(value, "name", "mnist1d")
    known = get_args(TaskName)
    meant = given if given in known else nearest(given, known) if isinstance(given, str) else None
    return f"<{meant or 'mnist1d'}>"


TaskConfig: TypeAlias = Annotated[
    Annotated[Mnist1dConfig, Tag("<mnist1d>")]
    | Annotated[VanDerPolConfig, Tag("<van_der_pol>")]
    | Annotated[DigitsConfig, Tag("<digits>")]
    | Annotated[FashionMnistConfig, Tag("<fashion_mnist>")]
    | Annotated[MnistConfig, Tag("<mnist>")]
    | Annotated[Cifar10Config, Tag("<cifar10>")]
    | Annotated[FileConfig, Tag("<file>")],
    Discriminator(_tag),
]
"""The data; test rows are judged once, the others are for training and validation."""


_TABLES: Final[TypeAdapter[TaskTable]] = TypeAdapter(TaskConfig)


def task_table(data: Mapping[str, Any]) -> TaskTable:
    """The table of a task from plain data that has been checked before.

    Raises:
        ValueError: it has not.
    """
    return _TABLES.validate_python(data)


def same_data(one: TaskTable, other: TaskTable) -> bool:
    """Whether two tables name the same data, wherever it lies and whatever it is called."""
    left_out = PLACES | {"label"}
    return one.name == other.name and one.model_dump(exclude=set(left_out)) == other.model_dump(exclude=set(left_out))
