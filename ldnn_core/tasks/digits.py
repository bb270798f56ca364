"""The task ``digits``: 1797 real images of handwritten digits, 8 x 8, which come with scikit-learn.

They are the test part of "Optical recognition of handwritten digits" (Alpaydin and Kaynak 1998, UCI repository).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ldnn_core.tasks._base import DataError, TaskData
from ldnn_core.tasks._standard import image_task

ROWS = 1797
TEST_ROWS = 359


@dataclass(frozen=True)
class Digits:
    """The task ``digits``.

    Attributes:
        data_seed: of the order of the rows, which come writer by writer; the last fifth of that order are test rows.
        validation_fraction: share of the other rows that is kept back for choosing.
    """

    data_seed: int = 42
    validation_fraction: float = 0.2

    def load(self, cache: Path) -> TaskData:
        """The data.

        Raises:
            DataError: scikit-learn is not installed.
        """
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise DataError("the task digits comes with scikit-learn: pip install 'ldnn[sklearn]'") from error
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(self.data_seed).permutation(ROWS)
        x, y = images.reshape(ROWS, 1, 8, 8)[order].astype(np.float32), labels[order]
        learning, test = (x[:-TEST_ROWS], y[:-TEST_ROWS]), (x[-TEST_ROWS:], y[-TEST_ROWS:])
        return image_task("digits", learning, test, validation_fraction=self.validation_fraction)
