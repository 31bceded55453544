"""Bench models in the virtual board beside other runtimes, and write docs/performance.md and .json.

python -m benchmarks.run             the models that figures of other runtimes are stored for
python -m benchmarks.run --accept    and take today's counts, also of our own models, for the baseline
python -m benchmarks.run A.tflite    these models alone; prints, writes no page
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.known_models import own_models, public_models
from benchmarks.page import write_page
from common.errors import CheckFailedError, UserError
from tools import console
from tools.baselines import accept, accepted, regression
from tools.bench import BenchResult, bench
from tools.cli.bench import show_bench
from tools.config import RunConfig
from tools.runs import REPOSITORY, RunFolder

PAGE = REPOSITORY / "docs" / "performance.md"
INPUTS = 20


def measure(models: Iterable[Path], inputs: int = INPUTS) -> list[BenchResult]:
    """Bench each model in the virtual board with random inputs, in a folder that is not kept."""
    results = []
    for model in models:
        with tempfile.TemporaryDirectory(prefix="tinyboost-") as folder:
            results.append(bench(RunFolder(Path(folder)), model, RunConfig(), "virtual", count=inputs))
    return results


def require_good(results: Iterable[BenchResult], *, counts: bool) -> None:
    """Check the answers and, with `counts`, that instructions did not rise.

    Raises:
        CheckFailedError: an output differs from tflite-micro's, or instructions rose by more than 1 %.
    """
    baseline = accepted()
    complaints = []
    for result in results:
        if result.bit_exact.mismatches:
            complaints.append(
                f"{result.model}: {result.bit_exact.mismatches} outputs differ from tflite-micro's"
            )
        before = baseline.find(result.model_sha256)
        if counts and before and (rise := regression(result, before)):
            complaints.append(rise)
    if complaints:
        raise CheckFailedError("; ".join(complaints))


def run(models: list[Path], *, accept_counts: bool) -> None:
    """Do what the command line says."""
    results = measure(models or public_models())
    for result in results:
        show_bench(result)
        console.line("")
    own = measure(own_models()) if accept_counts else []
    require_good([*results, *own], counts=not accept_counts)
    if not models:
        write_page(results, PAGE)
        console.line(f"{PAGE.relative_to(REPOSITORY)} and {PAGE.with_suffix('.json').name} are written")
    if accept_counts:
        accept([*results, *own], accepted()).save()


def main() -> int:
    """Parse the command line; give the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.tflite")
    parser.add_argument("--accept", action="store_true", help="take today's counts for the baseline")
    options = parser.parse_args()
    console.set_up_logging(-1)
    try:
        run(options.models, accept_counts=options.accept)
    except UserError as error:
        console.err.print(f"error: {error}", markup=False, soft_wrap=True)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
