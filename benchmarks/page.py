"""docs/performance.md and docs/performance.json from results of `bench`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common import files
from tools.baselines import OtherModel, OtherRuntime, other_runtimes
from tools.bench import BenchResult
from tools.report import formats
from tools.runs import git_revision


def write_page(results: Sequence[BenchResult], page: Path) -> None:
    """Write the page, and beside it the same figures with all layers as JSON.

    Args:
        results: of the virtual target.
        page: path of the Markdown file.
    """
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    revision = git_revision()
    machine = {
        "schema": 1,
        "date": when,
        "git_revision": revision,
        "models": [result.model_dump(mode="json", by_alias=True) for result in results],
    }
    files.write_text(page, _page(results, when, revision))
    files.write_text(page.with_suffix(".json"), json.dumps(machine, indent=1) + "\n")


def _page(results: Sequence[BenchResult], when: str, revision: str) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters.update(count=formats.count, millions=formats.millions, ratio=formats.ratio)
    runtimes = other_runtimes()
    return environment.get_template("performance.md.j2").render(
        results=results,
        runtimes=runtimes,
        comparisons=[(runtime, _side_by_side(runtime, results)) for runtime in runtimes],
        compilers=sorted({result.compiler for result in results}),
        inputs=results[0].bit_exact.inputs,
        when=when,
        revision=revision,
    )


def _side_by_side(
    runtime: OtherRuntime, results: Sequence[BenchResult]
) -> list[tuple[BenchResult, OtherModel]]:
    pairs = [(result, runtime.find(result.model_sha256)) for result in results]
    return [(result, other) for result, other in pairs if other is not None]
