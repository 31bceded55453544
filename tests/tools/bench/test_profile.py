"""Where instructions go, checked against the image's own counter and against binutils."""

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.known_models import own_models
from converter.board import load_board
from tools.bench import BenchResult, bench
from tools.config import RunConfig
from tools.profile.debug_info import places
from tools.profile.mix import disassemble, kind_of
from tools.runs import RunFolder
from tools.targets import open_target
from tools.virtual_board.snapshot import LayerCounts

BOARD = load_board("stm32f746g_disco")
# What the harness executes to note a layer's count, at most.
HOOK = 40


@dataclass(frozen=True)
class Profiled:
    result: BenchResult
    page: str
    image: Path
    counts: dict[int, LayerCounts]


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    run = RunFolder(tmp_path_factory.mktemp("profile") / "run")
    page = run.path.parent / "profile.html"
    (model,) = own_models()
    result = bench(run, model, RunConfig(), "virtual", count=2, profile=page)
    image = run.build(BOARD.name) / "firmware.elf"
    with open_target("virtual", BOARD, image) as target, target.link() as link:
        link.run_again()
        counts = target.count_layers(link.run_again)
        assert target.count_layers(link.run_again) == counts
    return Profiled(result, page.read_text(), image, counts)


def test_layers_counted_from_outside_agree_with_the_images_own_counter(profiled: Profiled) -> None:
    assert sorted(profiled.counts) == list(range(len(profiled.result.layers)))
    for index, layer in enumerate(profiled.result.layers):
        counted = profiled.counts[index].instructions
        assert layer.instructions is not None
        # The data differ, and so do the few instructions of a softmax that depend on them.
        assert layer.instructions == pytest.approx(counted + HOOK / 2, rel=0.02, abs=HOOK / 2)
    whole = sum(count.instructions for count in profiled.counts.values())
    assert profiled.result.instructions == pytest.approx(whole, rel=0.01)


def test_cycles_are_estimated_for_each_layer(profiled: Profiled) -> None:
    for layer in profiled.result.layers:
        assert layer.cycles_estimate is not None
        assert layer.instructions is not None
        # The core issues at most two instructions a cycle.
        assert (layer.instructions - HOOK) / 2 <= layer.cycles_estimate


@pytest.mark.skipif(shutil.which("arm-none-eabi-addr2line") is None, reason="no arm-none-eabi-addr2line")
def test_functions_and_lines_are_those_that_binutils_find(profiled: Profiled) -> None:
    addresses = sorted({block.address for count in profiled.counts.values() for block in count.blocks})
    found = places(profiled.image, addresses, ["model.cc"])
    assert len(found) > len(addresses) / 2
    command = ["arm-none-eabi-addr2line", "-a", "-i", "-f", "-C", "-e", str(profiled.image)]
    asked = [f"{address:#x}" for address in found]
    answer = subprocess.run([*command, *asked], capture_output=True, text=True, check=True).stdout
    theirs = re.split(r"^0x[0-9a-f]+\n", answer, flags=re.MULTILINE)[1:]
    agreeing = 0
    for (address, place), text in zip(found.items(), theirs, strict=True):
        lines = text.splitlines()
        where = re.match(r"(?:.*/)?(.*?):(\d+)", lines[1])
        assert where is not None
        assert (place.file, str(place.line)) == where.groups(), hex(address)
        names = [plain_name(name) for name in reversed(lines[0::2])]
        assert names[0] == place.functions[0], hex(address)
        agreeing += names == [plain_name(name) for name in place.functions]
    # Of functions with ranges around one address, binutils take that with the shortest for the innermost.
    assert agreeing > 0.8 * len(found)


def plain_name(name: str) -> str:
    """`f` of `void n::f<1, 2>(int) [clone .x]`."""
    if "operator()" in name or "{lambda" in name:
        return "operator()"
    while name != (name := re.sub(r"<[^<>]*>|\([^()]*\)|\[[^\[\]]*\]", "", name)):
        pass
    return name.split()[-1].rpartition("::")[2]


def test_page_stands_alone_and_shows_every_layer(profiled: Profiled) -> None:
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|<script", profiled.page)
    tags: Counter[str] = Counter()
    open_tags: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags[tag] += 1
            if tag not in ("meta", "link"):
                open_tags.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            tags[tag] += 1

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Checker().feed(profiled.page)
    assert open_tags == []
    assert tags["svg"] == 1
    assert tags["rect"] > len(profiled.result.layers)
    for layer in profiled.result.layers:
        assert f'title="{layer.name}">' in profiled.page
    widths = [float(width) for width in re.findall(r'y="0" width="([\d.]+)"', profiled.page)]
    assert sum(widths) == pytest.approx(1116, abs=len(widths) + 1)


@pytest.mark.parametrize(
    ("mnemonic", "kind"),
    [
        ("ldrd", "load"),
        ("pop.w", "load"),
        ("vldmia", "load"),
        ("strb.w", "store"),
        ("push", "store"),
        ("smlad", "dual multiply"),
        ("smlald", "dual multiply"),
        ("smuad", "dual multiply"),
        ("smlabt", "multiply"),
        ("smmlar", "multiply"),
        ("smulbb", "multiply"),
        ("mul", "multiply"),
        ("umull", "multiply"),
        ("sxtb16", "widen and pack"),
        ("sxtab16", "widen and pack"),
        ("uxth", "widen and pack"),
        ("pkhbt", "widen and pack"),
        ("ssat", "saturate"),
        ("qadd16", "saturate"),
        ("sadd16", "saturate"),
        ("b", "branch"),
        ("bne.w", "branch"),
        ("blx", "branch"),
        ("bls", "branch"),
        ("cbz", "branch"),
        ("tbb", "branch"),
        ("bic.w", "arithmetic"),
        ("bfi", "arithmetic"),
        ("addw", "arithmetic"),
        ("sbfx", "arithmetic"),
        ("sdiv", "arithmetic"),
        ("subs", "arithmetic"),
        ("itt", "compare"),
        ("cmp.w", "compare"),
        ("movt", "move"),
        ("vmul.f32", "floating point"),
        ("nop", "other"),
    ],
)
def test_kind_of_an_instruction(mnemonic: str, kind: str) -> None:
    assert kind_of(mnemonic) == kind


def test_disassembly_ends_where_it_cannot_go_on() -> None:
    code = bytes.fromhex("00bf") + bytes.fromhex("20fb0231") + b"\xff"
    assert list(disassemble(code, 0x0800_0000)) == [(0x0800_0000, "nop"), (0x0800_0002, "smlad")]
