import json
from pathlib import Path

import pytest

from benchmarks.page import write_page
from benchmarks.run import require_good
from common.errors import CheckFailedError
from tools.baselines import accepted, other_runtimes
from tools.bench import BenchLayer, BenchResult, BitExact
from tools.results import FlashUse, RamUse


def result(index: int, *, factor: float = 1.0, mismatches: int = 0) -> BenchResult:
    """As if the model took `factor` of the accepted instructions."""
    known = other_runtimes()[0].models[index]
    before = accepted().find(known.sha256)
    assert before is not None
    return BenchResult(
        model=known.name,
        model_sha256=known.sha256,
        target="virtual",
        engine="aot",
        compiler="GNU 12.2.1",
        macs=1_000_000,
        instructions=round(before.instructions * factor),
        cycles_estimate=1_234_567,
        latency_ms=None,
        ram=RamUse(total=9_001, budget=327_680, arena=8_000, data_bss=1, stack=1_000, by_region={}),
        flash=FlashUse(total=50_003, budget=1_048_576, weights=40_000, code=10_003),
        bit_exact=BitExact(inputs=20, mismatches=mismatches),
        layers=[
            BenchLayer(name=f"t{number}", op="CONV_2D", macs=1, instructions=round(count * factor))
            for number, count in enumerate(before.layers)
        ],
    )


def test_page_and_json_hold_the_figures_of_both_sides(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    results = [result(0), result(1)]
    write_page(results, page)
    rows = [
        [cell.strip(" *") for cell in line.split("|")[1:-1]]
        for line in page.read_text().splitlines()
        if line.startswith("| ")
    ]
    assert {len(row) for row in rows} == {9, 10}
    kws = next(row for row in rows if row[0] == "kws_ref_model")
    theirs = other_runtimes()[0].models[0]
    ours = results[0].instructions
    assert ours is not None
    assert kws[1:] == [
        "7.64 M",
        f"{ours / 1e6:.2f} M",
        f"{theirs.instructions / ours:.2f} times fewer",
        f"{theirs.ram:,}",
        "9,001",
        f"{theirs.flash:,}",
        "50,003",
        f"{theirs.code:,}",
        "10,003",
    ]
    machine = json.loads(page.with_suffix(".json").read_text())
    assert [BenchResult.model_validate(model) for model in machine["models"]] == results


def test_wrong_outputs_and_risen_counts_end_the_run() -> None:
    require_good([result(0), result(1)], counts=True)
    require_good([result(0, factor=1.5)], counts=False)
    with pytest.raises(CheckFailedError, match=r"kws_ref_model: .*\+50\.0%.*layer") as caught:
        require_good([result(0, factor=1.5), result(1)], counts=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckFailedError, match="pretrainedResnet_quant: 3 outputs differ"):
        require_good([result(0), result(1, mismatches=3)], counts=False)
