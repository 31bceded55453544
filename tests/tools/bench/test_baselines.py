from pathlib import Path

import pytest

from common.errors import ConfigError
from tools.baselines import Accepted, AcceptedModel, accept, accepted, other_runtimes, regression
from tools.bench import BenchLayer, BenchResult, BitExact

SHA256 = "ab" * 32


def result(*instructions: int, whole: int | None = None) -> BenchResult:
    return BenchResult(
        model="net",
        model_sha256=SHA256,
        target="virtual",
        engine="aot",
        compiler="GNU 12.2.1",
        macs=100,
        instructions=sum(instructions) if whole is None else whole,
        cycles_estimate=None,
        latency_ms=None,
        ram=None,
        flash=None,
        bit_exact=BitExact(inputs=3, mismatches=0),
        layers=[
            BenchLayer(name=f"conv{index}", op="CONV_2D", macs=50, instructions=count)
            for index, count in enumerate(instructions)
        ],
    )


def baseline(*instructions: int) -> AcceptedModel:
    (model,) = accept([result(*instructions)], Accepted()).models
    return model


@pytest.mark.parametrize("now", [(10_000, 20_000), (9_000, 20_500), (10_100, 20_200), (1, 1)])
def test_up_to_one_percent_more_is_no_regression(now: tuple[int, int]) -> None:
    assert regression(result(*now), baseline(10_000, 20_000)) is None


def test_a_regression_names_the_layer_that_rose() -> None:
    message = regression(result(9_900, 20_401), baseline(10_000, 20_000))
    assert message == (
        "net: 30,000 -> 30,301 instructions (+1.0%); "
        "layer 1 (CONV_2D 'conv1') 20,000 -> 20,401 instructions (+2.0%)"
    )


def test_a_regression_names_the_largest_rises_first() -> None:
    message = regression(result(15, 200, 150, 120, 300), baseline(10, 100, 100, 100, 100))
    assert message is not None
    named = [part for part in message.split("; ") if part.startswith("layer")]
    assert [part.split()[1] for part in named] == ["4", "1", "2"]


def test_a_rise_between_the_layers_is_one_too() -> None:
    message = regression(result(100, 100, whole=300), baseline(100, 100))
    assert message == "net: 200 -> 300 instructions (+50.0%); no layer rose"


def test_accepted_counts_survive_a_file_and_replace_older_ones(tmp_path: Path) -> None:
    assert accepted(tmp_path) == Accepted()
    other = AcceptedModel(name="a", sha256="cd" * 32, compiler="x", inputs=1, instructions=7, layers=(7,))
    first = accept([result(10, 20)], Accepted(models=(other,)))
    first.save(tmp_path)
    assert accepted(tmp_path) == first
    second = accept([result(9, 20)], accepted(tmp_path))
    assert [(model.name, model.instructions) for model in second.models] == [("a", 7), ("net", 29)]
    found = second.find(SHA256)
    assert found is not None
    assert found.layers == (9, 20)


def test_our_own_counts_are_no_other_runtime(tmp_path: Path) -> None:
    Accepted(models=(baseline(5),)).save(tmp_path)
    assert other_runtimes(tmp_path) == ()


@pytest.mark.parametrize("text", ["models = [", 'models = [{name = "x"}]', "surplus = 1"])
def test_damaged_baselines_are_a_users_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "tinyboost.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"tinyboost\.toml"):
        accepted(tmp_path)
    (tmp_path / "other.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"other\.toml"):
        other_runtimes(tmp_path)


def test_stored_baselines_are_whole() -> None:
    (runtime,) = other_runtimes()
    assert len(runtime.models) == 5
    for other in runtime.models:
        assert other.arena < other.ram < 327_680
        assert other.code < other.flash < 1_048_576
        assert len(other.sha256) == 64
    own = accepted().models
    assert {model.sha256 for model in runtime.models} < {model.sha256 for model in own}
    for model in own:
        assert sum(model.layers) == pytest.approx(model.instructions, rel=0.02)
