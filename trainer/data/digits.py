"""The handwritten digits inside scikit-learn: 1,797 grey images of 8x8 (UCI ML repository)."""

from __future__ import annotations

import numpy as np

from trainer.config import DataConfig
from trainer.data.dataset import Samples

_TEST_IMAGES = 360


def load(_config: DataConfig) -> Samples:
    """Load all; the last 360 are for testing."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = bunch.target.astype(np.int64)
    train, test = slice(-_TEST_IMAGES), slice(-_TEST_IMAGES, None)
    names = tuple(str(digit) for digit in range(10))
    return Samples(images[train], labels[train], images[test], labels[test], names)
