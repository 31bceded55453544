"""Which run folder and which configuration a command line means."""

from __future__ import annotations

from pathlib import Path

from common.errors import ConfigError
from tools.config import RunConfig, load_config, to_toml
from tools.runs import RunFolder

RUNS = Path("runs")


def open_run(
    folder: Path | None,
    *,
    config: Path | None = None,
    overrides: list[str] | None = None,
    model: Path | None = None,
) -> tuple[RunFolder, RunConfig]:
    """Find the run folder and its configuration.

    Without -o the folder is runs/<stem of the config or model file>. Without -c the configuration is the run
    folder's own; where it has none, the defaults serve for a given model or with --set.

    Raises:
        ConfigError: neither names a run, the folder is a file or has no configuration, the model is absent,
            or the configuration is wrong.
    """
    if model is not None and not model.is_file():
        raise ConfigError(f"{model}: no such file")
    if folder is None:
        named = config or model
        if named is None:
            known = ", ".join(str(path.parent) for path in sorted(RUNS.glob("*/config.toml")))
            raise ConfigError("which run? give -o DIR" + (f" (there are: {known})" if known else ""))
        folder = RUNS / named.stem
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; the run folder goes there")
    own = RunFolder(folder).config
    source = config or (own if own.exists() else None)
    if source is None and model is None and not overrides:
        raise ConfigError(
            f"{own}: no such file, so there is no run yet; begin it with: tinyboost train -c FILE -o {folder}"
        )
    resolved = load_config(source, overrides or ())
    return RunFolder(folder, to_toml(resolved)), resolved
