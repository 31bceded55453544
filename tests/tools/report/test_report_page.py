"""The page is one file that needs nothing else, whatever names and figures a run has."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_report import make_layers, make_plain_report, make_plan, make_report, make_samples

from tools.report.content import (
    Accuracy,
    Curve,
    Flash,
    Precision,
    Precisions,
    Ram,
    Report,
    Sample,
    Score,
    Timing,
)
from tools.report.page import data_uri, render

VOID = {"meta", "link", "img", "br", "hr", "input", "path", "use", "rect", "image"}
HOSTILE = "<script>alert('x')</script>\"&$x_1$"


class PageReader(HTMLParser):
    """Collects what the tests ask for, and fails on tags that do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.resources: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        if "id" in values:
            self.ids.append(values["id"])
        if tag != "a":
            found = [
                values[name] for name in ("src", "href", "xlink:href", "srcset", "data") if values.get(name)
            ]
            (self.references if tag == "use" else self.resources).extend(found)
        self.references.extend(
            re.findall(r"url\((#[^)]+)\)", " ".join(value or "" for value in values.values()))
        )
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(report: Report) -> PageReader:
    return PageReader(render(report))


@pytest.fixture(scope="module")
def page() -> str:
    return render(make_report())


def test_page_needs_no_network_and_no_scripts(page):
    reader = PageReader(page)
    assert "script" not in reader.tags
    assert all(resource.startswith("data:") for resource in reader.resources)
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\((?!#)", page)
    assert len(page) < 1_500_000


def test_ids_are_unique_and_references_resolve(page):
    reader = PageReader(page)
    assert len(reader.ids) == len(set(reader.ids))
    assert {reference.removeprefix("#") for reference in reader.references} <= set(reader.ids)


def test_plots_take_their_colours_from_the_page(page):
    svg = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    used = set(re.findall(r"var\(--([\w-]+)\)", svg))
    assert used <= set(re.findall(r"--([\w-]+):", page))
    assert not re.findall(r"(?:fill|stroke): #", svg)
    assert "DejaVu Sans'" not in svg


def test_page_shows_the_figures(page):
    text = PageReader(page).text
    for figure in (
        "86.40 %",
        "86.90 %",
        "50,176",
        "327,680",
        "0 of 1,000 predictions",
        "12.84 M",
        "(estimate)",
    ):
        assert figure in text
    for heading in (
        "Accuracy",
        "Memory plan",
        "Layers",
        "Training",
        "Confusion",
        "Samples",
        "Stages",
        "Provenance",
    ):
        assert heading in text


def test_page_of_a_detector_shows_average_precisions():
    precisions = Precisions(Precision(0.67, 0.27, 0.65), Precision(0.63, 0.25, 0.62), None)
    text = PageReader(render(make_report(precisions=precisions))).text
    for figure in ("67.0 %", "27.0 %", "65.0 %", "63.0 %", "did not answer all samples as the host does"):
        assert figure in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Accuracy" not in text


def test_page_is_the_same_each_time(page):
    assert render(make_report()) == page


def test_hostile_names_are_text():
    tensors = tuple(
        type(tensor)(HOSTILE, tensor.role, tensor.first, tensor.last, tensor.offset, tensor.size)
        for tensor in make_plan().tensors
    )
    plan = type(make_plan())(50176, (HOSTILE,) * 9, tensors, 2)
    layers = tuple(type(layer)(layer.index, HOSTILE, HOSTILE, 10, 1, 1, 1) for layer in make_layers())
    report = make_report(
        name=HOSTILE,
        model=HOSTILE,
        plan=plan,
        layers=layers,
        classes=(HOSTILE,) * 10,
        warnings=(HOSTILE,),
        versions={HOSTILE: HOSTILE},
        stages={HOSTILE: 1.0},
        training=(Curve(HOSTILE, "loss", (1.0, 2.0), (1.0, 0.5)), Curve("b", "loss", (1.0, 2.0), (1.0, 0.5))),
        differences=make_samples(2, wrong_every=1),
        mismatches=2,
        git_revision=HOSTILE,
    )
    reader = read(report)
    assert "script" not in reader.tags
    assert reader.text.count(HOSTILE) > 20


@settings(max_examples=12, deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_any_name_gives_a_well_formed_page(name, class_name):
    report = make_plain_report(name=name, classes=(class_name,) * 2, confusion=np.eye(2, dtype=np.int64))
    assert "Accuracy" in read(report).text


@pytest.mark.parametrize("correct", [0, 1000])
def test_accuracies_at_the_ends(correct):
    scores = Accuracy(Score(correct, 1000), Score(correct, 1000), Score(correct, 1000))
    text = read(make_plain_report(accuracy=scores)).text
    assert f"{correct / 10:.2f} %" in text
    assert not re.search(r"\bnan\b", text)


def test_page_of_a_users_own_model():
    nothing = Score(None, 0)
    report = make_report(
        accuracy=Accuracy(nothing, nothing, nothing),
        quantization_changes=None,
        training=(),
        confusion=None,
        classes=(),
        first_samples=(),
        mistakes=(),
        stages={},
    )
    text = read(report).text
    for heading in ("Training", "Confusion", "Samples", "Stages"):
        assert heading not in text
    assert "The virtual board answers as the reference does, in 51.8 KB of RAM." in text
    assert not re.search(r"\bnan\b", text)


def test_page_lists_where_host_and_board_differ():
    differences = (Sample(17, int8=3, board=5, label=3, float_model=3),)
    reader = read(make_plain_report(mismatches=60, output_mismatches=60, differences=differences))
    assert "The virtual board and tflite-micro disagree on 60 of 1,000 samples." in reader.text
    assert "17 cat cat cat dog" in reader.text
    assert "The first 1 of 60." in reader.text


def test_page_over_budget_says_so():
    ram = Ram(budget=327_680, arena=379_788, data_bss=2_000, stack=900)
    flash = Flash(budget=1_048_576, weights=2_000_000, code=30_000)
    text = read(make_plain_report(ram=ram, flash=flash)).text
    assert text.count("RAM is over budget: 373.7 KB of 320.0 KB") == 2  # title and heading
    assert "Flash is over budget: 1,982.4 KB of 1,024.0 KB" in text


def test_silicon_shows_measured_latency():
    report = make_plain_report(target="board", timing=Timing(216_000_000, "cycles", 2_160_000, None, 10.0))
    text = read(report).text
    assert "Latency, measured 10.0 ms" in text
    assert "estimate" not in text


def test_nothing_is_said_of_time_without_an_estimate():
    text = read(make_plain_report(timing=Timing(216_000_000, "instructions", 1_000_000))).text
    assert "1.00 M an inference" in text
    assert "estimate" not in text


@pytest.mark.parametrize("classes", [1, 2, 30, 120])
def test_confusion_of_any_size(classes):
    matrix = np.eye(classes, dtype=np.int64)
    text = read(make_plain_report(confusion=matrix, classes=tuple(f"class {n}" for n in range(classes)))).text
    assert "Confusion" in text


def test_images_are_exact_where_small_and_reduced_where_large():
    small = np.random.default_rng(1).integers(0, 256, (32, 24, 3), dtype=np.uint8)
    assert np.array_equal(decode(data_uri(small)), small)
    grey = small[..., :1]
    assert np.array_equal(decode(data_uri(grey)), grey[..., 0])
    assert decode(data_uri(np.zeros((480, 240, 3), np.uint8))).shape == (96, 48, 3)


def decode(uri: str) -> np.ndarray:
    import base64
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))
