"""Oracle of all losses: their formulas, written out in float64 and differentiated by torch."""

from __future__ import annotations

import logging
import re
import threading

import pytest
import torch
from tiny_configs import DATA, MODEL, TRAIN, network, randomise
from torch import Tensor, nn
from torch.nn import functional

import trainer
from common.errors import ConfigError, ModelError
from trainer.checkpoint import Architecture, save_network
from trainer.config import DataConfig, DistillationConfig, TrainConfig
from trainer.data.batches import Batch
from trainer.models import build_network, count
from trainer.objectives import OBJECTIVES, BatchLoss, ObjectiveContext

CLASSES = tuple("0123456789")
STUDENT = {"mean": (0.3,), "std": (0.4,)}
TEACHER = {"mean": (0.5,), "std": (0.25,)}
SIZE = 8  # of the whole batch; the parts below are smaller


def save_teacher(folder, seed=1, shape=(1, 8, 8), class_names=CLASSES, statistics=TEACHER):
    """A network with random weights and statistics that hide nothing, as a training leaves it."""
    teacher = build_network(MODEL, shape, len(class_names))
    randomise(teacher, seed)
    cost = count(teacher, shape)
    architecture = Architecture(
        model=MODEL,
        data=DATA,
        dataset="digits",
        class_names=class_names,
        input_shape=shape,
        parameters=cost.parameters,
        macs=cost.macs,
        **statistics,
    )
    save_network(folder, teacher, architecture)
    return teacher.eval()


def context(**values) -> ObjectiveContext:
    train = TrainConfig.model_validate(TRAIN.model_dump() | {"batch_size": SIZE} | values)
    return ObjectiveContext(train, (1, 8, 8), CLASSES, **STUDENT)


def make(name, **distillation):
    smoothing = distillation.pop("label_smoothing", 0.1)
    epochs = distillation.pop("epochs", 4)
    made = OBJECTIVES.get(name)(
        context(
            objective=name,
            label_smoothing=smoothing,
            epochs=epochs,
            distillation=DistillationConfig(**distillation),
        )
    )
    made.start_epoch(0)
    return made


def part(images=5, seed=3, soft=False) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (images,), generator=generator)
    if soft:
        shares = functional.one_hot(labels, 10).float()
        labels = 0.7 * shares + 0.3 * shares.flip(0)
    return Batch(torch.randn(images, 1, 8, 8, generator=generator), labels)


def logits(images=5, seed=4) -> Tensor:
    return 3 * torch.randn(images, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over images of -sum p log q, in the dtype of the outputs."""
    return -(targets.to(outputs) * (outputs - outputs.logsumexp(1, keepdim=True))).sum()


def from_labels(outputs: Tensor, labels: Tensor, smoothing=0.1) -> Tensor:
    shares = functional.one_hot(labels, 10) if labels.ndim == 1 else labels
    return cross_entropy(outputs, (1 - smoothing) * shares.double() + smoothing / 10)


def same_value_and_gradient(loss: BatchLoss, expected, outputs=None) -> None:
    outputs = logits() if outputs is None else outputs
    ours, theirs = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    value, wanted = loss(ours), expected(theirs)
    torch.testing.assert_close(value, wanted, rtol=1e-6, atol=0.0)
    (gradient,) = torch.autograd.grad(value, ours)
    (wanted_gradient,) = torch.autograd.grad(wanted, theirs)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("weight", "temperature"), [(None, None), (0.5, 4.0)])
def test_kd_is_the_labels_plus_the_teacher_times_t_squared(tmp_path, weight, temperature, soft):
    teacher = save_teacher(tmp_path, statistics=STUDENT).double()
    batch = part(soft=soft)
    answers = teacher(batch.images.double()).detach()
    factor, t = (1.0, 1.0) if weight is None else (weight, temperature)
    loss = make("kd", teacher=tmp_path, weight=weight, temperature=temperature).for_part(batch)

    def expected(outputs: Tensor) -> Tensor:
        taught = cross_entropy(outputs / t, (answers / t).softmax(1))
        return (from_labels(outputs, batch.labels) + factor * t**2 * taught) / SIZE

    same_value_and_gradient(loss, expected)


def test_the_gradient_is_that_of_the_divergence_from_the_teacher(tmp_path):
    teacher = save_teacher(tmp_path, statistics=STUDENT).double()
    batch = part()
    answers = teacher(batch.images.double()).detach()
    outputs = logits().requires_grad_()
    t = 3.0
    loss = make("kd", teacher=tmp_path, temperature=t, label_smoothing=0.0).for_part(batch)
    (gradient,) = torch.autograd.grad(loss(outputs), outputs)
    plain = outputs.softmax(1) - functional.one_hot(batch.labels, 10)
    divergence = t * ((outputs / t).softmax(1) - (answers / t).softmax(1))
    torch.testing.assert_close(gradient, (plain + divergence).detach() / SIZE, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 16, 16), (1, 6, 7)])
def test_the_teacher_sees_the_images_as_it_was_trained(tmp_path, shape):
    teacher = save_teacher(tmp_path, shape=shape)
    pixels = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = Batch((pixels - 0.3) / 0.4, part().labels)
    shown = (pixels - 0.5) / 0.25
    if shape != (1, 8, 8):
        shown = functional.interpolate(shown, shape[1:], mode="bilinear", antialias=True)
    answers = teacher(shown).detach()
    loss = make("kd", teacher=tmp_path).for_part(batch)

    def expected(outputs: Tensor) -> Tensor:
        return (from_labels(outputs, batch.labels) + cross_entropy(outputs, answers.softmax(1))) / SIZE

    outputs = logits().float()
    torch.testing.assert_close(loss(outputs), expected(outputs), rtol=1e-4, atol=0.0)


class Spy(nn.Module):
    """Counts how often a network is asked, and by which threads."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(threading.get_ident())
        out: Tensor = self.inner(x)
        return out


def spy_on(objective) -> Spy:
    teacher = objective._source.teacher
    teacher._network = Spy(teacher._network).train(teacher._network.training)
    return teacher._network


def test_the_teacher_is_asked_once_a_part_and_never_changes(tmp_path):
    save_teacher(tmp_path)
    objective = make("kd", teacher=tmp_path)
    spy = spy_on(objective)
    before = {name: tensor.clone() for name, tensor in spy.state_dict().items()}
    student = network()
    student.train()
    batch = part()
    loss = objective.for_part(batch)
    for augmented in (False, True):
        torch.autograd.backward(loss(student(batch.images), augmented=augmented))
    assert len(spy.calls) == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in spy.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in spy.parameters())
    assert not any(module.training for module in spy.modules())
    assert all(parameter.grad is not None for parameter in student.parameters())


@pytest.mark.parametrize("name", ["kd", "tf_kd_self", "tf_kd_reg"])
def test_wider_networks_learn_the_same_unless_the_tiny_one_alone_is_taught(tmp_path, name):
    save_teacher(tmp_path)
    batch, outputs = part(), logits()
    teacher = {} if name == "tf_kd_reg" else {"teacher": tmp_path}
    loss = make(name, **teacher).for_part(batch)
    assert torch.equal(loss(outputs), loss(outputs, augmented=True))
    loss = make(name, tiny_only=True, **teacher).for_part(batch)
    labels = from_labels(outputs, batch.labels) / SIZE
    torch.testing.assert_close(loss(outputs, augmented=True), labels)
    assert not torch.isclose(loss(outputs), labels)


@pytest.mark.parametrize(("weight", "temperature"), [(None, None), (0.6, 2.0)])
def test_tf_kd_self_shares_the_loss_between_labels_and_the_copy(tmp_path, weight, temperature):
    copy = save_teacher(tmp_path, statistics=STUDENT).double()
    batch = part()
    answers = copy(batch.images.double()).detach()
    share, t = (0.95, 6.0) if weight is None else (weight, temperature)
    loss = make("tf_kd_self", teacher=tmp_path, weight=weight, temperature=temperature).for_part(batch)

    def expected(outputs: Tensor) -> Tensor:
        taught = cross_entropy(outputs / t, (answers / t).softmax(1))
        return ((1 - share) * from_labels(outputs, batch.labels) + share * t**2 * taught) / SIZE

    same_value_and_gradient(loss, expected)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("settings", [{}, {"weight": 0.4, "temperature": 3.0, "correct_probability": 0.9}])
def test_tf_kd_reg_is_taught_by_the_softened_virtual_teacher(soft, settings):
    batch = part(soft=soft)
    loss = make("tf_kd_reg", **settings).for_part(batch)
    share, t, a = (settings or {"w": 0.1, "t": 20.0, "a": 0.99}).values()
    shares = functional.one_hot(batch.labels, 10).double() if not soft else batch.labels.double()
    virtual = torch.full((10, 10), (1 - a) / 9, dtype=torch.float64).fill_diagonal_(a)
    assert torch.allclose(virtual.sum(1), torch.ones(10, dtype=torch.float64))
    powers = virtual ** (1 / t)
    softened = shares @ (powers / powers.sum(1, keepdim=True))

    def expected(outputs: Tensor) -> Tensor:
        taught = cross_entropy(outputs / t, softened)
        return ((1 - share) * from_labels(outputs, batch.labels) + share * t**2 * taught) / SIZE

    same_value_and_gradient(loss, expected)


def which_teacher(objective, folders, batch) -> int:
    """The index of the saved network whose answers are taught."""
    taught = objective._source.probabilities(batch, 1.0)
    answers = [folder[1](batch.images).softmax(1) for folder in folders]
    (index,) = [i for i, answer in enumerate(answers) if torch.allclose(taught, answer, atol=1e-5)]
    return index


@pytest.mark.parametrize(
    ("epochs", "switch", "expected"),
    [
        (7, None, [0, 0, 1, 1, 2, 2, 2]),
        (3, None, [0, 1, 2]),
        (6, (1, 4), [0, 1, 1, 1, 2, 2]),
    ],
)
def test_rco_kd_follows_the_teachers_route(tmp_path, epochs, switch, expected):
    folders = [(tmp_path / str(i), save_teacher(tmp_path / str(i), i, statistics=STUDENT)) for i in range(3)]
    objective = make(
        "rco_kd", teachers=tuple(folder for folder, _ in folders), switch_epochs=switch, epochs=epochs
    )
    batch = part()
    seen = []
    for epoch in range(epochs):
        objective.start_epoch(epoch)
        seen.append(which_teacher(objective, folders, batch))
    assert seen == expected
    objective.start_epoch(1)
    assert which_teacher(objective, folders, batch) == expected[1], "a resume may start anywhere"


def test_parts_add_up_to_the_whole(tmp_path):
    save_teacher(tmp_path)
    objective = make("kd", teacher=tmp_path, temperature=2.0)
    batch, outputs = part(SIZE), logits(SIZE)
    whole = objective.for_part(batch)(outputs)
    parts = sum(
        objective.for_part(piece)(share)
        for piece, share in zip(batch.split(2), outputs.chunk(2), strict=True)
    )
    torch.testing.assert_close(parts, whole)
    alone = TrainConfig(batch_size=SIZE, label_smoothing=0.1)
    entropy = functional.cross_entropy(outputs, batch.labels, label_smoothing=alone.label_smoothing)
    plain = OBJECTIVES.get("cross_entropy")(context()).for_part(batch)(outputs)
    torch.testing.assert_close(plain, entropy)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("kd", {}, 'train.objective "kd" needs one train.distillation.teacher'),
        ("tf_kd_self", {}, 'train.objective "tf_kd_self" needs one train.distillation.teacher'),
        ("rco_kd", {}, "needs train.distillation.teachers"),
        ("tf_kd_reg", {"weight": 1.5}, "weight 1.5 must be at most 1"),
    ],
)
def test_missing_or_wrong_settings_are_named(name, settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make(name, **settings)


@pytest.mark.parametrize("switch", [(2,), (3, 2), (1, 9), (2, 2)])
def test_each_teacher_needs_an_epoch_of_its_own(tmp_path, switch):
    with pytest.raises(ConfigError, match="each needs an epoch of its own"):
        make("rco_kd", teachers=(tmp_path,) * 3, switch_epochs=switch)


def test_a_teacher_must_be_there_and_know_the_classes_and_the_channels(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.distillation: \S*/absent: no such folder"):
        make("kd", teacher=tmp_path / "absent")
    save_teacher(tmp_path / "run" / "train")
    with pytest.raises(ConfigError, match=r"/run is a run's folder: give \S*/run/train"):
        make("kd", teacher=tmp_path / "run")
    (tmp_path / "run" / "train" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        make("kd", teacher=tmp_path / "run" / "train")
    save_teacher(tmp_path / "others", class_names=("a", "b", "c", "d"))
    with pytest.raises(ConfigError, match=r"knows 4 classes \(a, b, c, \.\.\.\), the data has 10 classes"):
        make("kd", teacher=tmp_path / "others")
    save_teacher(tmp_path / "renamed", class_names=tuple("0123456798"))
    with pytest.raises(ConfigError, match="name a teacher that was trained on these"):
        make("kd", teacher=tmp_path / "renamed")
    save_teacher(tmp_path / "rgb", shape=(3, 8, 8), statistics={"mean": (0.5,) * 3, "std": (0.2,) * 3})
    with pytest.raises(ConfigError, match="takes images of 3 channels, the data has 1"):
        make("kd", teacher=tmp_path / "rgb")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A teacher that a training left, which takes larger images."""
    folder = tmp_path_factory.mktemp("teacher")
    data = DataConfig.model_validate(DATA.model_dump() | {"resolution": 12})
    trainer.train(data, MODEL, TrainConfig.model_validate(TRAIN.model_dump() | {"epochs": 2}), folder)
    return folder


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("kd", "method plain, objective kd by {}"),
        ("cross_entropy", "method plain"),
        ("tf_kd_reg", "method plain, objective tf_kd_reg"),
    ],
)
def test_the_log_names_the_teacher_or_warns_that_it_teaches_nothing(
    tmp_path, trained, objective, said, caplog
):
    train = TRAIN.model_copy(
        update={"objective": objective, "epochs": 2, "distillation": DistillationConfig(teacher=trained)}
    )
    with caplog.at_level(logging.INFO):
        trainer.train(DATA, MODEL, train, tmp_path)
    assert caplog.messages[0].endswith(said.format(trained))
    assert (f'"{objective}" has no teacher, so {trained} teaches nothing' in caplog.text) == (
        objective != "kd"
    )


@pytest.mark.parametrize("method", ["plain", "netaug", "netbooster"])
def test_a_student_of_any_method_learns_from_a_trained_teacher(tmp_path, trained, method):
    data = DataConfig.model_validate(DATA.model_dump() | {"train_limit": 256})
    student = TrainConfig.model_validate(
        TRAIN.model_dump()
        | {
            "method": method,
            "objective": "kd",
            "epochs": 3,
            "warmup_epochs": 0,
            "workers": 2,
            "distillation": {"teacher": trained},
        }
    )
    for folder in ("a", "b"):
        trainer.train(data, MODEL, student, tmp_path / folder)
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("a", "b")]
    assert weights[0] == weights[1]
    log = (tmp_path / "a" / "log.csv").read_text().splitlines()
    losses = [float(row.split(",")[3]) for row in log[1:]]
    assert losses[-1] < losses[0]
