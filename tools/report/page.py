"""The report as one HTML page that needs nothing else: no network, no scripts, plots and images inside."""

from __future__ import annotations

import base64
import io
import math
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from tools.report import figures, formats, verdict
from tools.report.content import TARGET_TITLES, Accuracy, Layer, Report, Sample
from tools.report.counting import most_confused

TEMPLATES = Path(__file__).parent / "templates"
_IMAGE_SIDE = 96
_CONFUSIONS_LISTED = 8


def render(report: Report) -> str:
    """The page as HTML text; every name in it is escaped."""
    template = environment().get_template("page.html.j2")
    counted = any(layer.count is not None for layer in report.layers)
    return template.render(
        report=report,
        target=TARGET_TITLES[report.target],
        headline=verdict.headline(report),
        checks=verdict.checks(report),
        passed=verdict.passed(report),
        plots={
            "memory_plan": figures.memory_plan(report.plan) if report.plan else None,
            "layers": figures.layer_counts(report.layers, report.timing.unit) if counted else None,
            "training": figures.training(report.training) if report.training else None,
            "confusion": _confusion_plot(report),
        },
        confused=most_confused(report.confusion, _CONFUSIONS_LISTED) if report.confusion is not None else [],
        accuracy_axis=_accuracy_axis(report.accuracy),
        layer_maximum=_layer_maxima(report.layers),
    )


def data_uri(image: npt.NDArray[np.uint8]) -> str:
    """An image uint8 [H, W, C], C 1 or 3, as a PNG data URI; larger ones are reduced for display."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.thumbnail((_IMAGE_SIDE, _IMAGE_SIDE), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _confusion_plot(report: Report) -> str | None:
    if report.confusion is None:
        return None
    return figures.confusion(
        report.confusion, [report.class_name(index) for index in range(len(report.confusion))]
    )


def _accuracy_axis(accuracy: Accuracy) -> tuple[float, float] | None:
    """Ends, in whole 2 %, of an axis that shows all confidence intervals; None without accuracies."""
    scores = (accuracy.float_model, accuracy.int8_host, accuracy.board)
    ends = [end for score in scores if score.interval for end in score.interval]
    if not ends:
        return None
    return max(0.0, math.floor(min(ends) * 50 - 0.5) / 50), min(1.0, math.ceil(max(ends) * 50 + 0.5) / 50)


def _position(fraction: float, axis: tuple[float, float]) -> str:
    """Place of a value on an axis, as a CSS percentage."""
    return f"{100 * (fraction - axis[0]) / (axis[1] - axis[0]):.2f}%"


def _layer_maxima(layers: tuple[Layer, ...]) -> dict[str, float]:
    """The largest value of each column that has inline bars; at least 1, so that it can be divided by."""
    columns = ("count", "count_per_mac", "arena")
    return {name: max((getattr(layer, name) or 0 for layer in layers), default=0) or 1 for name in columns}


def _sample_state(sample: Sample) -> str:
    if sample.differs:
        return "differs"
    return "wrong" if sample.is_wrong else "right"


@cache
def environment(*folders: Path) -> Environment:
    """What renders templates from `folders` and the report's own, with the filters that those use."""
    made = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        percent=formats.percent,
        count=formats.count,
        kilobytes=formats.kilobytes,
        millions=formats.millions,
        milliseconds=formats.milliseconds,
        seconds=formats.seconds,
        megahertz=formats.megahertz,
        ratio=formats.ratio,
        data_uri=data_uri,
        state=_sample_state,
        position=_position,
    )
    return made
