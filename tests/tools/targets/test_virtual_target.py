"""A model that misbehaves on purpose, on the virtual board: what the user gets to read."""

from collections.abc import Iterator

import numpy as np
import pytest

from converter.board import FIRMWARE_DIR, load_board
from tools.build import build_firmware
from tools.link.client import DeviceError
from tools.link.messages import ErrorCode
from tools.targets import Target, open_target

BOARD = load_board("stm32f746g_disco")
# The first input byte that makes the fake model overflow the stack.
OVERFLOW_STACK = 0x72


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("fake_model")
    image = build_firmware(FIRMWARE_DIR / "tests" / "fake_model", folder, BOARD.name, BOARD)
    with open_target("virtual", BOARD, image) as opened:
        yield opened


def test_fault_names_function_cause_and_what_the_board_saw(target: Target) -> None:
    with target.link() as link:
        inputs = [np.zeros(spec.shape, spec.dtype) for spec in link.hello().inputs]
        result = link.run(inputs)
        inputs[0].flat[0] = OVERFLOW_STACK
        with pytest.raises(DeviceError) as caught:
            link.run(inputs)
        assert caught.value.code == ErrorCode.FAULT
        message = str(caught.value)
        assert "\n" not in message
        assert "overflow_stack" in message
        assert "the virtual board saw stack overflow" in message
        inputs[0].flat[0] = 0
        again = link.run(inputs)
        np.testing.assert_array_equal(again.outputs[0], result.outputs[0])
        fault = link.fault()
        assert fault is not None
        assert fault == caught.value.reply.fault


def test_cycles_are_estimated_around_one_inference(target: Target) -> None:
    with target.link() as link:
        count = link.run([np.zeros(spec.shape, spec.dtype) for spec in link.hello().inputs]).cycles
        estimate = target.estimate_cycles(link, count)
    assert estimate is not None
    # The core issues at most two instructions a cycle.
    assert count / 2 <= estimate < 20 * count
