"""Instructions of real models must not rise unnoticed; `benchmarks.run --accept` moves the limit."""

from pathlib import Path

import pytest
from shared_data import shared_data
from small_network import MODEL, small_network

from benchmarks.known_models import own_models, public_models
from benchmarks.run import measure
from common import files
from common.errors import ConfigError
from tools.baselines import accepted, other_runtimes, regression

NAMES = [model.name for runtime in other_runtimes() for model in runtime.models]


def check_counts(model: Path) -> None:
    (result,) = measure([model], inputs=2)
    assert result.bit_exact.mismatches == 0
    before = accepted().find(result.model_sha256)
    assert before is not None, f"{model.name} has no accepted counts: python -m benchmarks.run --accept"
    if result.compiler != before.compiler:
        pytest.skip(f"counts were accepted with {before.compiler}, this is {result.compiler}")
    rise = regression(result, before)
    assert rise is None, rise


@pytest.mark.parametrize("name", NAMES)
def test_public_model_needs_no_more_instructions_than_before(name: str) -> None:
    model = shared_data("models", f"{name}.tflite")
    known = [found for runtime in other_runtimes() if (found := runtime.find(files.sha256(model)))]
    assert [found.name for found in known] == [name]
    check_counts(model)


def test_own_model_needs_no_more_instructions_than_before() -> None:
    assert own_models() == [MODEL]
    check_counts(MODEL)


def test_own_model_is_what_its_source_says() -> None:
    assert MODEL.read_bytes() == small_network(), f"write small_network() to {MODEL}, then accept its counts"


def test_absent_data_are_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYBOOST_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=r"kws_ref_model\.tflite.*TINYBOOST_DATA"):
        public_models()
