"""What a sweep's page says first."""

from __future__ import annotations

from tools.sweep.plan import Point
from tools.sweep.report import Curve, Row, SweepReport
from tools.sweep.statistics import difference, summarise
from tools.sweep.wording import headline

PLAIN = (0.70, 0.72)


def row(arm: str, accuracies: tuple[float, ...], macs: int) -> Row:
    return Row(
        arm=arm,
        point=Point("default", {}),
        chosen=None,
        settings={},
        seeds=(0, 1),
        planned=2,
        accuracies=accuracies,
        accuracy=summarise(accuracies),
        train_accuracy=summarise(accuracies),
        reference="plain",
        difference=None if arm == "plain" else difference(accuracies, PLAIN),
        epochs=1,
        seconds=1.0,
        parameters=10,
        macs=macs,
        test_curve=Curve((), (), (), ()),
        train_curve=Curve((), (), (), ()),
        metric="top-1",
        best=True,
    )


def test_a_larger_network_is_not_called_the_best():
    rows = (row("plain", PLAIN, 100), row("teacher", (0.90, 0.91), 900), row("kd", (0.73, 0.75), 100))
    report = SweepReport("name", rows, (), (), (), "revision")
    assert headline(report).startswith("kd is best with 74.00 ± 1.41\N{NO-BREAK SPACE}%: +3.00 (")
    assert headline(report).endswith("points over plain.")
