"""Inputs with mean 0 and variance 1, by the training rows alone, and subsets with as many rows of each class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ldnn_core.losses import CrossEntropy
from ldnn_core.tasks._base import DataError, Rows, TaskData, split_rows


def standardised(rows: Tensor, training: Tensor) -> Tensor:
    """Rows (R, D) or (R, C, H, W) minus the mean of the training rows, divided by their standard deviation.

    Both are one number for each entry of the second axis: for each of D features, or for each channel over all its
    pixels.  What does not vary in the training rows is only shifted.
    """
    axes = [axis for axis in range(training.dim()) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(training.dim())]
    # In parts, because float64 of all rows would take more memory than anything else.
    count = training[:, 0].numel()
    total = sum(part.double().sum(dim=axes) for part in training.split(4096))
    mean = torch.as_tensor(total / count)
    squares = sum((part.double() - mean.view(shape)).square().sum(dim=axes) for part in training.split(4096))
    deviation = torch.as_tensor(squares / count).sqrt()
    deviation[deviation == 0] = 1
    out = rows.to(torch.float32, copy=True)
    return out.sub_(mean.view(shape).float()).div_(deviation.view(shape).float())


def balanced(y: np.ndarray, rows: int, classes: int) -> np.ndarray:
    """The places of the first rows of each class, ``rows`` in all, in their order; all places if ``rows`` is 0.

    Where ``classes`` does not divide ``rows``, the first classes have one row more.

    Raises:
        DataError: a class has too few.
    """
    if not rows:
        return np.arange(len(y))
    places = []
    for one in range(classes):
        wanted = rows // classes + (one < rows % classes)
        own = np.flatnonzero(y == one)
        if len(own) < wanted:
            raise DataError(f"{rows} rows need {wanted} of class {one}, but there are {len(own)}: ask for fewer")
        places.append(own[:wanted])
    return np.sort(np.concatenate(places))


def image_task(
    name: str,
    learning: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    validation_fraction: float,
    rows: int = 0,
    test_rows: int = 0,
    classes: int = 10,
) -> TaskData:
    """The task of images (R, C, H, W) with classes (R,), standardised channel by channel.

    Args:
        name: of the task.
        learning: rows to train on and to choose by; the last of them are the validation rows.
        test: rows that judge.
        validation_fraction: share of the learning rows that is kept back for choosing.
        rows: how many learning rows are taken, see `balanced`; 0 for all.
        test_rows: the same for the test rows.
        classes: how many there are.

    Raises:
        DataError: there are too few rows, or a class that there is not.
    """
    parts = []
    for (x, y), wanted in ((learning, rows), (test, test_rows)):
        if len(x) != len(y):
            raise DataError(f"the data of {name} has {len(x)} images, but {len(y)} labels: they do not belong together")
        if len(y) and not 0 <= y.min() <= y.max() < classes:
            raise DataError(f"classes of {name} are 0 to {classes - 1}, but there are {y.min()} to {y.max()}")
        taken = balanced(y, wanted, classes)
        parts.append(Rows(torch.from_numpy(x[taken]), torch.from_numpy(y[taken].astype(np.int64))))
    if not len(parts[1]):
        raise DataError(f"the data of {name} has no test rows")
    try:
        train, _ = split_rows(parts[0], validation_fraction)
    except ValueError as error:
        raise DataError(str(error)) from error
    whole = Rows(standardised(parts[0].x, train.x), parts[0].y)
    judging = Rows(standardised(parts[1].x, train.x), parts[1].y)
    train, val = split_rows(whole, validation_fraction)
    return TaskData(name, train, val, judging, outputs=classes, loss=CrossEntropy(), chance=1 / classes)
