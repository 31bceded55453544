"""Building images with CMake, for the tests of the firmware."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FIRMWARE = REPOSITORY / "firmware"
FAKE_MODEL = FIRMWARE / "tests" / "fake_model"
BOARD = "stm32f746g_disco"


def cmake(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run CMake in the repository; skips the calling test where the build tools are not installed."""
    for program in ("cmake", "ninja", "g++", "arm-none-eabi-g++"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return subprocess.run(
        ["cmake", *map(str, arguments)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def configure(preset: str, build_dir: Path, *definitions: str) -> subprocess.CompletedProcess[str]:
    return cmake("--preset", preset, "-B", build_dir, *(f"-D{definition}" for definition in definitions))


def build(preset: str, build_dir: Path, model_dir: Path = FAKE_MODEL) -> subprocess.CompletedProcess[str]:
    """Configure, which must succeed, and build."""
    configured = configure(preset, build_dir, f"TINYBOOST_MODEL_DIR={model_dir}")
    assert configured.returncode == 0, configured.stdout + configured.stderr
    return cmake("--build", build_dir)


def built(preset: str, build_dir: Path, model_dir: Path = FAKE_MODEL) -> Path:
    """Configure and build, both successfully; returns the build folder."""
    done = build(preset, build_dir, model_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    return build_dir
