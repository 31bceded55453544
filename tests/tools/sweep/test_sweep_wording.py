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


def said(*rows: Row) -> str:
    return headline(SweepReport("name", rows, (), (), (), "revision")).replace("\N{NO-BREAK SPACE}", " ")


def test_a_larger_network_is_not_called_the_best():
    assert said(
        row("plain", PLAIN, 100), row("teacher", (0.90, 0.91), 900), row("kd", (0.93, 0.95), 100)
    ).startswith("Among networks of the same size, kd is best with 94.00 ± 1.41 %: +23.00 (+1")


def test_a_shown_difference_is_told():
    assert said(row("plain", PLAIN, 100), row("kd", (0.90, 0.92), 100)) == (
        "kd is best with 91.00 ± 1.41 %: +20.00 (+13.92 to +26.08) points over plain."
    )
    assert said(row("plain", PLAIN, 100), row("kd", (0.40, 0.42), 100)) == (
        "plain is best with 71.00 ± 1.41 %."
    )


def test_what_the_numbers_do_not_show_is_not_claimed():
    assert said(row("plain", PLAIN, 100), row("kd", (0.73, 0.75), 100)) == (
        "kd has the best mean, 74.00 ± 1.41 %: +3.00 (-3.08 to +9.08) points over plain; "
        "no difference to plain is shown."
    )
    assert said(row("plain", PLAIN, 100), row("kd", (0.68, 0.70), 100)) == (
        "plain has the best mean, 71.00 ± 1.41 %; no difference to kd is shown."
    )
    assert said(
        row("plain", PLAIN, 100), row("kd", (0.40, 0.42), 100), row("netaug", (0.7, 0.71), 100)
    ).endswith("no difference to netaug is shown.")
    assert said(row("plain", (0.7,), 100), row("kd", (0.73,), 100), row("netaug", (0.72,), 100)).endswith(
        "no difference to plain or netaug is shown."
    )


def test_one_arm_is_not_compared():
    assert said(row("plain", PLAIN, 100)) == "plain reaches 71.00 ± 1.41 %."
