"""The plots of the report page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, MultipleLocator

from tools.report.content import Curve, Layer, MemoryPlan, PlannedTensor
from tools.report.formats import count, millions, ratio
from tools.report.svg import KINDS, Tooltips, colour, draw, label_axes

_ROLES = {"input": KINDS[1], "activation": KINDS[0], "output": KINDS[2], "scratch": KINDS[4]}
_OTHER_OPS = "other"


def memory_plan(plan: MemoryPlan) -> Markup:
    """The arena over the network: operators from left to right, bytes from bottom to top."""

    def paint(figure: Figure, narrow: bool) -> Tooltips:
        axes = figure.add_subplot()
        columns = len(plan.operators)
        axes.axvspan(plan.peak - 0.5, plan.peak + 0.5, color=colour("peak"), alpha=0.14, linewidth=0)
        tooltips = {}
        for number, tensor in enumerate(plan.tensors):
            gid = f"tensor-{number}"
            at_peak = tensor.first <= plan.peak <= tensor.last
            place = (tensor.first - 0.5, tensor.offset), tensor.last - tensor.first + 1, tensor.size
            axes.add_patch(Rectangle(*place, color=colour("paper"), linewidth=0))
            axes.add_patch(
                Rectangle(
                    *place,
                    facecolor=_ROLES[tensor.role],
                    edgecolor=colour("paper"),
                    linewidth=1,
                    alpha=1 if at_peak else 0.62,
                    gid=gid,
                )
            )
            tooltips[gid] = (
                f"{tensor.name}: {count(tensor.size)} bytes at {count(tensor.offset)}, {_lifetime(tensor)}"
            )
            _size_label(axes, tensor, plan, columns=columns, narrow=narrow)
        axes.add_patch(
            Rectangle(
                (plan.peak - 0.5, 0),
                1,
                plan.arena,
                fill=False,
                edgecolor=colour("peak"),
                linewidth=1.6,
                zorder=3,
            )
        )
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(0, plan.arena * 1.02)
        axes.yaxis.set_major_locator(MultipleLocator(_kilobyte_step(plan.arena)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1024:g}"))
        _operator_ticks(axes, plan.operators, narrow=narrow)
        axes.grid(visible=False)
        label_axes(axes, y="arena offset, KB")
        roles = [role for role in _ROLES if any(tensor.role == role for tensor in plan.tensors)]
        handles = [Patch(facecolor=_ROLES[role], label=role) for role in roles]
        peak = f"peak: {plan.peak} {_short(plan.operators[plan.peak])}"
        handles.append(Patch(facecolor="none", edgecolor=colour("peak"), linewidth=1.6, label=peak))
        _legend(figure, handles, columns=2 if narrow else len(handles))
        return tooltips

    description = f"Memory plan: {len(plan.tensors)} buffers in an arena of {count(plan.arena)} bytes"
    return draw("memory-plan", description, paint, height=380, narrow_height=360)


def layer_counts(layers: Sequence[Layer], unit: str) -> Markup:
    """What the target counted for each layer, as bars coloured by operator."""
    ops = _frequent_ops(layers)
    colours = dict(zip(ops, (*KINDS[:3], KINDS[3], KINDS[5], KINDS[4]), strict=False))

    def paint(figure: Figure, narrow: bool) -> Tooltips:
        axes = figure.add_subplot()
        tooltips = {}
        for position, layer in enumerate(layers):
            (bar,) = axes.bar(
                position,
                layer.count or 0,
                width=0.78,
                color=colours[layer.op if layer.op in ops else _OTHER_OPS],
            )
            bar.set_gid(f"layer-{position}")
            tooltips[f"layer-{position}"] = (
                f"{layer.index} {layer.name} ({layer.op}): {count(layer.count)} {unit}, "
                f"{ratio(layer.count_per_mac)} per MAC"
            )
        axes.set_xlim(-0.7, len(layers) - 0.3)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.xaxis.set_major_locator(MaxNLocator(8 if narrow else 20, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: _layer_number(layers, at)))
        label_axes(axes, x="layer", y=unit)
        _legend(
            figure, [Patch(facecolor=colours[op], label=op) for op in ops], columns=2 if narrow else len(ops)
        )
        return tooltips

    total = sum(layer.count or 0 for layer in layers)
    description = f"{unit} of each of {len(layers)} layers, {millions(total)} in all"
    return draw("layers", description, paint, height=250, narrow_height=260)


def training(curves: Sequence[Curve]) -> Markup:
    """Training curves, one panel for each quantity."""
    panels = list(dict.fromkeys(curve.panel for curve in curves))

    def paint(figure: Figure, narrow: bool) -> Tooltips:
        shape = (len(panels), 1) if narrow else (1, len(panels))
        for axes, panel in zip(np.ravel(figure.subplots(*shape, squeeze=False)), panels, strict=True):
            shown = [curve for curve in curves if curve.panel == panel]
            for curve, hue in zip(shown, _cycle(len(shown)), strict=True):
                marker = "o" if len(curve.epochs) == 1 else None
                axes.plot(
                    curve.epochs, curve.values, color=hue, marker=marker, markersize=4, label=curve.name
                )
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.margins(x=0.02)
            if panel == "accuracy":
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
            label_axes(axes, x="epoch", y=panel if len(shown) > 1 else shown[0].name)
            if len(shown) > 1:
                axes.legend(loc="best", handlelength=1.2)
        return {}

    description = "Training curves: " + ", ".join(curve.name for curve in curves)
    return draw("training", description, paint, height=250, narrow_height=210 * len(panels))


def confusion(matrix: npt.NDArray[np.int64], names: Sequence[str]) -> Markup:
    """Confusion matrix, each row as fractions of its label; counts in the cells where they can be read."""
    classes = len(matrix)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)

    def paint(figure: Figure, narrow: bool) -> Tooltips:
        axes = figure.add_subplot()
        right, wrong = colour("kind-1"), colour("peak")
        legible = classes <= (12 if narrow else 24)
        if legible:
            for row, column in np.ndindex(matrix.shape):
                hue = right if row == column else wrong
                number, share = matrix[row, column], float(shares[row, column])
                face = {"color": hue, "alpha": 0.15 + 0.7 * share} if number else {"color": colour("well")}
                axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, linewidth=0, **face))
                if number:
                    axes.text(
                        column, row, str(number), ha="center", va="center", fontsize=8 if narrow else 10
                    )
        else:
            grey = LinearSegmentedColormap.from_list("share", ["#8890a018", "#2f6fd0ff"])
            axes.imshow(shares, cmap=grey, vmin=0, vmax=1, interpolation="nearest")
        axes.set_xlim(-0.5, classes - 0.5)
        axes.set_ylim(classes - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        if classes <= 40 and not (narrow and classes > 12):
            _named_ticks(axes, names)
            axes.set_yticks(range(classes), [_short(name) for name in names])
        axes.tick_params(length=0)
        axes.set_xlabel("board's prediction")
        axes.set_ylabel("label")
        return {}

    side = min(600, max(260, 110 + 40 * classes))
    description = f"Confusion matrix of {classes} classes"
    return draw("confusion", description, paint, height=side, width=side, narrow_height=380)


def _lifetime(tensor: PlannedTensor) -> str:
    if tensor.first == tensor.last:
        return f"operator {tensor.first}"
    return f"operators {tensor.first} to {tensor.last}"


def _size_label(axes: Axes, tensor: PlannedTensor, plan: MemoryPlan, *, columns: int, narrow: bool) -> None:
    """Write a buffer's size into its rectangle where it fits."""
    column, byte = (300 if narrow else 820) / columns, 280 / plan.arena
    if (tensor.last - tensor.first + 1) * column > 34 and tensor.size * byte > 14:
        axes.annotate(
            f"{tensor.size / 1024:.1f}",
            (tensor.first - 0.5, tensor.offset + tensor.size),
            xytext=(5, -4),
            textcoords="offset points",
            verticalalignment="top",
            fontsize=9,
            color=colour("paper"),
            zorder=4,
        )


def _kilobyte_step(arena: int) -> int:
    """Distance of the ticks in bytes: a power of two of KB that gives four to eight ticks."""
    return 1024 << math.floor(math.log2(max(arena / 4096, 1)))


def _operator_ticks(axes: Axes, operators: Sequence[str], *, narrow: bool) -> None:
    if len(operators) <= (10 if narrow else 16):
        _named_ticks(axes, operators)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8 if narrow else 20, integer=True))
        axes.set_xlabel("operator", loc="right")


def _named_ticks(axes: Axes, names: Sequence[str]) -> None:
    """Names along x, upright where they are long, anchored at the axis whatever font the page has."""
    axes.set_xticks(range(len(names)), [_short(name) for name in names])
    if max(map(len, names), default=0) > 2:
        axes.tick_params(axis="x", rotation=90)
        for label in axes.get_xticklabels():
            label.set(rotation_mode="anchor", horizontalalignment="right", verticalalignment="center")


def _frequent_ops(layers: Iterable[Layer]) -> list[str]:
    """The operators that take most instructions, at most five, and `other` for the rest."""
    totals: dict[str, int] = {}
    for layer in layers:
        totals[layer.op] = totals.get(layer.op, 0) + (layer.count or 0)
    ordered = sorted(totals, key=lambda op: -totals[op])
    return ordered if len(ordered) <= 6 else [*ordered[:5], _OTHER_OPS]


def _layer_number(layers: Sequence[Layer], at: float) -> str:
    position = round(at)
    return str(layers[position].index) if 0 <= position < len(layers) else ""


def _cycle(number: int) -> list[str]:
    return [KINDS[index % len(KINDS)] for index in range(number)]


def _short(name: str, limit: int = 18) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def _legend(figure: Figure, handles: Sequence[Patch | Line2D], *, columns: int) -> None:
    figure.legend(handles=handles, loc="outside upper right", ncols=columns, handlelength=1, handleheight=0.8)
