from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from interruption import train_until
from tiny_configs import DATA, MODEL, TRAIN, network, randomise
from torch import Tensor, nn
from torch.nn import functional

import trainer
from common.errors import ConfigError
from trainer.config import ModelConfig, RegularisationConfig, TrainConfig
from trainer.methods import METHODS, Method, MethodContext
from trainer.models import MODELS, build_network
from trainer.regularise import regularise
from trainer.regularise.dropping import Draws, DropBlockBehind, DropoutBefore, kept_blocks
from trainer.regularise.hooks import attach, detach
from trainer.regularise.method import Regularised

BOTH = RegularisationConfig(dropout=0.3, dropblock=0.2, dropblock_size=3, dropblock_epochs=0)


def draws(seed=0, rise=1.0) -> Draws:
    made = Draws(rise)
    made.restart(seed)
    return made


def images(count=6, seed=0, shape=(1, 8, 8)) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def covered_by(height: int, width: int, size: int) -> Tensor:
    """In how many places a square covers each pixel, counted one by one; int64 [height, width]."""
    rows, columns = min(size, height), min(size, width)
    count = torch.zeros(height, width, dtype=torch.int64)
    for top in range(height - rows + 1):
        for left in range(width - columns + 1):
            count[top : top + rows, left : left + columns] += 1
    return count


@pytest.mark.parametrize(("height", "width", "size"), [(12, 12, 3), (9, 7, 4), (5, 5, 7), (10, 4, 5)])
def test_each_pixel_is_dropped_as_often_as_squares_cover_it(height, width, size):
    probability = 0.15
    kept = kept_blocks(torch.empty(400, 16, height, width), probability, size, draws())
    rows, columns = min(size, height), min(size, width)
    places = (height - rows + 1) * (width - columns + 1)
    gamma = probability * height * width / (rows * columns * places)  # the paper's equation 1, per side
    expected = (1 - gamma) ** covered_by(height, width, size)
    measured = kept.float().mean((0, 1))
    error = (expected * (1 - expected) / (400 * 16)) ** 0.5
    assert ((measured - expected).abs() < 5 * error).all()
    assert 0.5 * probability < float(1 - measured.mean()) <= 1.1 * probability


def test_what_is_dropped_are_squares_within_the_map():
    size = 3
    kept = kept_blocks(torch.empty(200, 4, 11, 9), 0.05, size, draws())
    dropped = (~kept).float()
    whole = functional.avg_pool2d(dropped, size, stride=1) == 1  # corners of squares that are all dropped
    painted = functional.max_pool2d(functional.pad(whole.float(), (size - 1,) * 4), size, stride=1)
    assert torch.equal(painted, dropped), "every dropped pixel is part of a whole dropped square"
    assert dropped.any()
    assert not dropped.all(dim=(2, 3)).any()


@pytest.mark.parametrize("probability", [0.1, 0.4])
def test_dropblock_keeps_the_sum_of_a_constant_map(probability):
    hook = DropBlockBehind(probability, 3, draws())
    module = nn.Identity().train()
    ones = torch.ones(8, 4, 12, 12)
    out = hook(module, (ones,), ones)
    values = out.unique()
    assert len(values) == 2
    assert values[0] == 0
    torch.testing.assert_close(out.mean(), torch.tensor(1.0))


def test_dropout_keeps_the_expectation_and_drops_its_share():
    hook = DropoutBefore(0.3, draws())
    (out,) = hook(nn.Identity().train(), (torch.ones(1000, 50),))
    assert sorted(out.unique().tolist()) == pytest.approx([0.0, 1 / 0.7])
    assert float((out == 0).float().mean()) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(
    ("layer", "whole"),
    [(nn.Dropout(0.3), False), (nn.Dropout(0.3, inplace=True), False), (nn.Dropout2d(0.3), True)],
)
def test_dropout_layers_of_the_network_draw_by_the_seed_alone(layer, whole):
    network = nn.Sequential(layer)
    attach(network, RegularisationConfig(), draws(seed=4))
    ones = torch.ones(40, 30, 4, 5)
    dropped = network(ones.clone())
    torch.testing.assert_close(dropped.unique(), torch.tensor([0.0, 1 / 0.7]))
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)
    assert (dropped.flatten(2).std(-1) == 0).all().item() == whole
    attach(network, RegularisationConfig(), draws(seed=4))
    torch.manual_seed(99)
    assert torch.equal(network(ones.clone()), dropped)
    assert torch.equal(network.eval()(ones.clone()), ones)
    detach(network)
    assert torch.equal(network.eval()(ones.clone()), ones)


def test_dropblock_rises_from_nothing():
    ones = torch.ones(64, 8, 12, 12)
    module = nn.Identity().train()
    shares = []
    for rise in (0.0, 0.25, 1.0):
        out = DropBlockBehind(0.2, 3, draws(rise=rise))(module, (ones,), ones)
        shares.append(float((out == 0).float().mean()))
    assert shares[0] == 0.0
    assert shares[1] == pytest.approx(0.05, abs=0.005)
    assert shares[2] == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("name", ["mobilenet_v2_tiny", "mcunet", "mobilenet_v3_large", "resnet50", "resnet8"])
def test_hooks_change_neither_names_nor_answers_of_any_network(name):
    if name not in MODELS.names():
        pytest.skip(f"no model {name}")
    plain = build_network(ModelConfig(name=name), (3, 64, 64), 10)
    randomise(plain)
    hooked = copy.deepcopy(plain)
    attach(hooked, BOTH, draws())
    batch = images(4, shape=(3, 64, 64))
    assert list(hooked.state_dict()) == list(plain.state_dict())
    assert list(dict(hooked.named_modules())) == list(dict(plain.named_modules()))
    with torch.no_grad():
        expected = plain.eval()(batch)
        assert torch.equal(hooked.eval()(batch), expected), "identity in eval mode"
        dropped = copy.deepcopy(hooked).train()(batch)
        assert not torch.equal(dropped, copy.deepcopy(plain).train()(batch))
        detach(hooked)
        assert torch.equal(copy.deepcopy(hooked).train()(batch), copy.deepcopy(plain).train()(batch))


def test_dropblock_goes_behind_the_blocks_of_the_last_two_resolutions():
    plain = build_network(ModelConfig(name="mobilenet_v2_tiny"), (3, 144, 144), 10)
    attach(plain, RegularisationConfig(dropblock=0.1), draws())
    sizes = [block.out_size[0] for block in plain.blocks if block._forward_hooks]
    assert sizes == [9] * 7 + [5] * 4
    assert [block.out_size[0] for block in plain.blocks if not block._forward_hooks] == [
        72,
        36,
        36,
        18,
        18,
        18,
    ]


def test_networks_without_a_place_are_refused():
    with pytest.raises(ConfigError, match="dropblock goes behind convolutional blocks"):
        attach(build_network(ModelConfig(name="deit_tiny"), (3, 32, 32), 10), BOTH, draws())
    with pytest.raises(ConfigError, match="dropout goes before a linear classifier"):
        attach(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), BOTH, draws())


def context(**regularisation) -> MethodContext:
    train = TrainConfig.model_validate(
        TRAIN.model_dump()
        | {"batch_size": 12, "epochs": 8, "regularisation": BOTH.model_dump() | regularisation}
    )
    plain = network()
    randomise(plain)
    return MethodContext(plain, MODEL, train, steps_per_epoch=5)


def loss(outputs: Tensor, *, augmented: bool = False) -> Tensor:
    return functional.cross_entropy(outputs, torch.arange(len(outputs)) % 10)


def gradients(method: Method, step: int, seed: int = 7) -> list[Tensor]:
    torch.manual_seed(seed)
    method.network.train()
    method.network.zero_grad()
    method.backward(images(), loss, 0, step)
    return [p.grad.clone() for p in method.network.parameters() if p.grad is not None]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_nothing_wanted_is_nothing_changed():
    wanted = context(dropout=0.0, dropblock=0.0)
    method = METHODS.get("plain")(wanted)
    assert regularise(method, wanted) is method


def test_networks_that_are_compiled_drop_nothing():
    settings = context()
    compiled = replace(settings, train=settings.train.model_copy(update={"compile": True}))
    with pytest.raises(ConfigError, match=r"train\.compile takes networks that drop nothing"):
        regularise(METHODS.get("plain")(compiled), compiled)


@pytest.mark.parametrize("name", [name for name in METHODS.names() if name != "tinytl"])  # it needs weights
def test_every_method_drops_the_same_for_the_same_seed_and_part(name):
    settings = context()
    method = regularise(METHODS.get(name)(settings), settings)
    randomise(method.network)
    optimizer = torch.optim.SGD(method.network.parameters(), 0.1)
    weights = copy.deepcopy(method.network.state_dict())

    def run(seed: int, part: int = 0) -> list[Tensor]:
        method.network.load_state_dict(weights)
        method.start_epoch(0, optimizer)
        copies = [method, *(copy.deepcopy(method) for _ in range(2))]
        return gradients(copies[part], 3, seed)

    assert same(run(7), run(7))
    assert not same(run(7), run(8))
    assert not same(run(7), run(7, part=1))
    assert not same(run(7, part=2), run(7, part=1))
    assert same(run(7, part=2), run(7, part=2))
    tiny = method.tiny_network(iter([images()]))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.modules())


def test_a_further_piece_of_a_step_drops_otherwise():
    settings = context()
    method = regularise(METHODS.get("plain")(settings), settings)
    first = gradients(method, 3)
    assert not same(first, gradients(method, 3))


def test_dropblock_reaches_its_share_at_the_end_of_the_ramp():
    settings = context(dropblock_epochs=4)
    method = regularise(METHODS.get("plain")(settings), settings)
    assert isinstance(method, Regularised)
    seen = []
    for step in (0, 5, 10, 20, 39):
        gradients(method, step)
        seen.append(method._draws.rise)
    assert seen == [0.0, 0.25, 0.5, 1.0, 1.0]
    settings = context(dropblock_epochs=None)
    method = regularise(METHODS.get("plain")(settings), settings)
    gradients(method, 20)
    assert isinstance(method, Regularised)
    assert method._draws.rise == 0.5, "half of 8 epochs of 5 steps"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_regularised_training_repeats_and_resumes_exactly(tmp_path, workers, monkeypatch):
    train = TrainConfig.model_validate(
        TRAIN.model_dump() | {"epochs": 3, "workers": workers, "regularisation": BOTH.model_dump()}
    )
    data = DATA.model_copy(update={"train_limit": 256})
    weights = {}
    for name in ("whole", "again"):
        trainer.train(data, MODEL, train, tmp_path / name)
        weights[name] = (tmp_path / name / "model.safetensors").read_bytes()
    train_until(9, monkeypatch, data, MODEL, train, tmp_path / "parts")
    trainer.train(data, MODEL, train, tmp_path / "parts", resume=True)
    weights["parts"] = (tmp_path / "parts" / "model.safetensors").read_bytes()
    plain = train.model_copy(update={"regularisation": RegularisationConfig()})
    trainer.train(data, MODEL, plain, tmp_path / "plain")
    weights["plain"] = (tmp_path / "plain" / "model.safetensors").read_bytes()
    assert weights["whole"] == weights["again"] == weights["parts"]
    assert weights["whole"] != weights["plain"]


def test_threads_with_a_network_that_drops_values_itself_repeat_and_resume_exactly(tmp_path, monkeypatch):
    train = TrainConfig.model_validate(TRAIN.model_dump() | {"epochs": 2, "workers": 2})
    data = DATA.model_copy(update={"train_limit": 256})
    model = ModelConfig(name="ds_cnn")
    weights = set()
    for name in ("one", "two", "three"):
        trainer.train(data, model, train, tmp_path / name)
        weights.add((tmp_path / name / "model.safetensors").read_bytes())
    train_until(5, monkeypatch, data, model, train, tmp_path / "parts")
    trainer.train(data, model, train, tmp_path / "parts", resume=True)
    weights.add((tmp_path / "parts" / "model.safetensors").read_bytes())
    assert len(weights) == 1
