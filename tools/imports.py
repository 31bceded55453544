"""Modules of the user's own, which register datasets, networks or methods that a configuration names."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from hashlib import sha256
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from common.errors import ConfigError

SUFFIX = ".py"


def imported_files(imports: Sequence[str]) -> list[Path]:
    """Those of the `imports` that are files.

    Raises:
        ConfigError: one is absent.
    """
    paths = [Path(name) for name in imports if name.endswith(SUFFIX)]
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"imports: {path}: no such file")
    return paths


def import_all(imports: Sequence[str]) -> None:
    """Import modules by their names, and files by their paths, each once; a file finds those beside it.

    Raises:
        ConfigError: one is absent, or fails.
    """
    files = imported_files(imports)
    for name in imports:
        try:
            if Path(name) in files:
                _import_file(Path(name))
            else:
                import_module(name)
        except Exception as error:
            raise ConfigError(f"imports: {_failure(name, error)}") from error


def _import_file(path: Path) -> None:
    name = f"{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[name])
    except BaseException:
        del sys.modules[name]
        raise


def _failure(name: str, error: Exception) -> str:
    """Where in a module an exception arose, and which, in one line."""
    described = f"{type(error).__name__}: {' '.join(str(error).split())}"
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.name == "<module>":
            return f"{frame.filename}, line {frame.lineno}: {described}"
    if isinstance(error, ModuleNotFoundError):
        return f"no module named '{error.name}': install it, or give the path of its {SUFFIX} file"
    return f"{name}: {described}"
