"""The image answers as the int8 model does on the host, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from board_tests.artefacts import Model
from tools.results import BoardResults

pytestmark = pytest.mark.timeout(0)  # a thousand images may take over an hour on a serial port


def test_every_output_equals_the_reference_interpreters(answers: BoardResults, model: Model) -> None:
    assert len(answers.outputs) == len(model.expected)
    for index, (output, expected) in enumerate(zip(answers.outputs, model.expected, strict=True)):
        assert output == expected.ravel().tolist(), f"sample {index}"
    assert answers.output_mismatches == 0


def test_accuracy_is_close_to_the_float_models(answers: BoardResults, model: Model) -> None:
    known = model.labels >= 0
    if model.float_logits is None or not known.any():
        pytest.skip("no float model or no labels to compare with")
    board = np.mean(np.array(answers.predictions)[known] == model.labels[known])
    float_model = np.mean(model.float_logits.argmax(axis=1)[known] == model.labels[known])
    assert board >= float_model - model.config.test.max_accuracy_drop
