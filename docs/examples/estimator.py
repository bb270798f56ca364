"""A found set in an estimator with ``fit`` and ``predict``, as scikit-learn has them.

It works in pipelines, cross-validation and grid search: the card is a parameter like any
other, so that a search can choose between a set and a usual activation.

    python docs/examples/estimator.py set.safetensors
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from ldnn_core import load_activation


class MlpClassifier(ClassifierMixin, BaseEstimator):
    """A fully connected classifier with one hidden layer.

    Args:
        card: file of a found set; None for ReLU.
        hidden: units of the hidden layer.
        epochs: passes over the rows.
        lr: learning rate of Adam.
        batch_size: rows per step.
        seed: of weights and batches.
    """

    def __init__(
        self,
        card: str | None = None,
        hidden: int = 50,
        epochs: int = 30,
        lr: float = 0.01,
        batch_size: int = 100,
        seed: int = 0,
    ) -> None:
        self.card = card
        self.hidden = hidden
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike) -> MlpClassifier:
        """Train on rows X and their labels y."""
        rows, labels = validate_data(self, X, y, dtype=np.float32)
        self.classes_, index = np.unique(labels, return_inverse=True)
        inputs, targets = torch.from_numpy(rows), torch.from_numpy(index)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            activation = nn.ReLU() if self.card is None else load_activation(self.card, channels=self.hidden)
            self.network_ = nn.Sequential(
                nn.Linear(rows.shape[1], self.hidden), activation, nn.Linear(self.hidden, len(self.classes_))
            )
            optimizer = torch.optim.Adam(self.network_.parameters(), self.lr)
            for _ in range(self.epochs):
                for batch in torch.randperm(len(inputs)).split(self.batch_size):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(self.network_(inputs[batch]), targets[batch]).backward()
                    optimizer.step()
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Probabilities of the classes, in the order of ``classes_``."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float32, reset=False)
        with torch.no_grad():
            return self.network_(torch.from_numpy(rows)).softmax(1).numpy()

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most likely class of each row."""
        return self.classes_[self.predict_proba(X).argmax(1)]


def main() -> None:
    """Choose between ReLU and the set by cross-validation on scikit-learn's digits."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("card")
    parser.add_argument("--epochs", type=int, default=10)
    asked = parser.parse_args()
    x, y = load_digits(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), MlpClassifier(epochs=asked.epochs))
    search = GridSearchCV(pipeline, {"mlpclassifier__card": [None, asked.card]}, cv=3).fit(x, y)
    for settings, mean in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        print(f"{settings['mlpclassifier__card'] or 'relu'}: accuracy {mean:.4f}")  # noqa: T201


if __name__ == "__main__":
    main()
