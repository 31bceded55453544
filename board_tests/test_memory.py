"""The image needs no more memory than it says and the board has."""

from __future__ import annotations

import pytest

from board_tests.artefacts import Model
from tools.link.client import Link
from tools.results import BoardResults, ImageMemory

pytestmark = pytest.mark.timeout(0)  # the first test that wants the answers collects them


@pytest.fixture(scope="module")
def image_use(answers: BoardResults) -> ImageMemory:
    if answers.image is None:
        pytest.skip("the host build is no image of the chip")
    return answers.image


def test_stack_stays_within_its_reserve(link: Link, image_use: ImageMemory, model: Model) -> None:
    assert image_use.stack_reserve == model.board.stack.reserve
    assert 0 < link.memory().stack_used < image_use.stack_reserve


def test_arena_is_as_described(link: Link, image_use: ImageMemory) -> None:
    described = link.hello().arena_bytes
    assert link.memory().arena == described
    assert described <= image_use.arena < described + 16


def test_image_knows_its_own_memory(link: Link, image_use: ImageMemory) -> None:
    told = link.memory()
    assert (told.data, told.stack_reserved) == (image_use.data, image_use.stack_reserve)
    assert told.bss == pytest.approx(image_use.bss, abs=16)
    assert told.flash_used == pytest.approx(image_use.flash.total, abs=16)


def test_ram_is_within_the_budget(image_use: ImageMemory, model: Model) -> None:
    use = image_use.ram()
    assert use.total <= (model.config.board.ram_bytes or model.board.ram_bytes)
    for region in use.by_region.values():
        assert region.used <= region.size


def test_flash_is_within_the_budget(image_use: ImageMemory, model: Model) -> None:
    assert image_use.flash.total <= (model.config.board.flash_bytes or model.board.flash.size)
