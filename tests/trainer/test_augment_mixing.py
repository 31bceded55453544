from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_configs import DATA, MODEL, TRAIN
from torch import Tensor

import trainer
from trainer.augment import Augmentation, cutmix, make_policy, mixup, soft_labels
from trainer.augment.policies import (
    CIFAR10_POLICY,
    IMAGENET_POLICY,
    OPERATIONS,
    AutoAugment,
    RandAugment,
)
from trainer.config import AugmentConfig, DataConfig

COUNT, CLASSES = 64, 10


def generator(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels(count=COUNT) -> Tensor:
    return torch.arange(count) % CLASSES


def indexed(height=9, width=12, count=COUNT) -> Tensor:
    """Images of one value each, their index."""
    return torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(-1, 3, height, width).clone()


def test_soft_labels_are_one_hot():
    shares = soft_labels(torch.tensor([2, 0]), 3)
    assert shares.dtype == torch.float32
    assert shares.tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("mix", [mixup, cutmix])
@pytest.mark.parametrize("alpha", [0.1, 1.0, 5.0])
def test_shares_of_classes_sum_to_one_and_lie_on_two(mix, alpha):
    images, shares = mix(indexed(), soft_labels(labels(), CLASSES), alpha, generator())
    torch.testing.assert_close(shares.sum(1), torch.ones(COUNT))
    assert (shares >= 0).all()
    assert ((shares > 0).sum(1) <= 2).all()
    assert ((shares > 0).sum(1) == 2).any()
    assert images.shape == (COUNT, 3, 9, 12)


def test_mixup_weights_images_and_labels_alike():
    images = torch.randn(COUNT, 3, 5, 4, generator=generator(1))
    own = torch.eye(COUNT)  # a class for each image: its share is the image's weight
    mixed, shares = mixup(images, own, 1.0, generator())
    expected = torch.einsum("ij,jchw->ichw", shares, images)
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-5)
    partners = shares - torch.diag(shares.diagonal())
    assert len(partners.argmax(1).unique()) > COUNT // 2, "partners are a permutation"


def test_mixup_weights_are_from_a_beta_distribution():
    _, shares = mixup(torch.zeros(20_000, 1, 1, 1), torch.eye(2)[torch.arange(20_000) % 2], 0.2, generator())
    mixed = shares[(shares > 0).all(1)].max(1).values.double()
    rng = np.random.default_rng(1)
    drawn = rng.beta(0.2, 0.2, 200_000)
    oracle = torch.from_numpy(np.maximum(drawn, 1 - drawn))
    for quantile in (0.1, 0.3, 0.5, 0.7):
        assert float(mixed.quantile(quantile)) == pytest.approx(
            float(oracle[:100_000].quantile(quantile)), abs=0.02
        )


@pytest.mark.parametrize("size", [(9, 12), (8, 8), (3, 4)])
def test_the_area_of_a_cutmix_box_is_exactly_the_other_labels_weight(size):
    height, width = size
    own = torch.eye(COUNT)
    mixed, shares = cutmix(indexed(height, width), own, 1.0, generator())
    assert torch.equal(mixed[:, 0], mixed[:, 1])
    areas = []
    for index, (image, share) in enumerate(zip(mixed[:, 0], shares, strict=True)):
        values, counts = image.unique(return_counts=True)
        assert len(values) <= 2
        measured = torch.zeros(COUNT)
        measured[values.long()] = counts / (height * width)
        torch.testing.assert_close(share, measured, rtol=0, atol=1e-7)
        foreign = image != index
        areas.append(int(foreign.sum()))
        if foreign.any():
            rows, columns = foreign.any(1).nonzero().flatten(), foreign.any(0).nonzero().flatten()
            box = foreign[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert box.all(), "a box without holes"
    assert len(set(areas)) > 1


def test_cutmix_boxes_are_cut_at_the_borders_and_lie_everywhere():
    count, side = 1500, 48
    mixed, _ = cutmix(indexed(side, side, count), torch.eye(2)[torch.arange(count) % 2], 1.0, generator())
    foreign = mixed[:, 0] != torch.arange(count)[:, None, None]
    often = foreign.float().mean(0)
    assert often.min() > 0.1
    assert often[side // 2, side // 2] > often[0, 0], "centres are uniform, so that corners are covered less"
    # A side s = sqrt(u) about a uniform centre is cut to s - s^2 / 4 on average; its square over u of 0..1:
    assert float(foreign.float().mean()) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.03)


def test_equal_generators_mix_equally():
    config = AugmentConfig(mixup=0.4, cutmix=1.0)
    augmentation = Augmentation(config, CLASSES)
    images = torch.randn(COUNT, 3, 9, 12, generator=generator(4))
    first = augmentation.mix(images, labels(), generator(1))
    again = augmentation.mix(images, labels(), generator(1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    torch.manual_seed(99)
    other = augmentation.mix(images, labels(), generator(2))
    assert not torch.equal(first[0], other[0])


def test_with_both_half_of_the_batches_are_cut():
    augmentation = Augmentation(AugmentConfig(mixup=1.0, cutmix=1.0), CLASSES)
    source = generator()
    cut = 0
    for _ in range(200):
        images, _ = augmentation.mix(indexed(4, 4), labels(), source)
        cut += bool((images == images.round()).all())
    assert 70 < cut < 130


def test_without_mixing_labels_stay_indices():
    augmentation = Augmentation(AugmentConfig(), CLASSES)
    images, kept = augmentation.mix(indexed(), labels(), generator())
    assert torch.equal(kept, labels())
    assert kept.dtype == torch.int64
    assert torch.equal(images, indexed())
    pixels = torch.randint(0, 256, (4, 5, 6, 3), generator=generator()).byte()
    assert augmentation.vary(pixels, generator()) is pixels


def pixels(count=60, channels=3) -> Tensor:
    return torch.randint(0, 256, (count, 16, 14, channels), generator=generator(7)).byte()


POLICIES = [
    AugmentConfig(policy="randaugment"),
    AugmentConfig(policy="autoaugment_imagenet"),
    AugmentConfig(policy="autoaugment_cifar10"),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("config", POLICIES, ids=lambda config: config.policy)
def test_policies_vary_images_each_in_its_own_way(config, channels):
    policy = make_policy(config)
    images = pixels(channels=channels)
    before = images.clone()
    varied = policy(images, generator())
    assert torch.equal(images, before), "the images that came in stay"
    assert (varied.dtype, varied.shape) == (images.dtype, images.shape)
    assert torch.equal(varied, policy(images, generator()))
    assert not torch.equal(varied, policy(images, generator(1)))
    same = images[:1].expand(60, -1, -1, -1).contiguous()
    assert len(policy(same, generator()).unique(dim=0)) > 15, "not one chain for the whole batch"


@pytest.mark.parametrize("config", POLICIES, ids=lambda config: config.policy)
def test_an_image_varies_alike_in_any_company(config):
    """The operations of one image see no other image."""
    policy = make_policy(config)
    images = pixels()
    others = torch.where(torch.arange(60)[:, None, None, None] % 2 == 0, images, 255 - images)
    assert torch.equal(policy(images, generator())[::2], policy(others, generator())[::2])


def test_randaugment_takes_every_operation_equally_often_at_its_magnitude(monkeypatch):
    seen: dict[str, list[Tensor]] = {name: [] for name in OPERATIONS}
    for name, operation in OPERATIONS.items():

        def watch(images: Tensor, strengths: Tensor, name: str = name) -> Tensor:
            seen[name].append(strengths)
            return images

        monkeypatch.setitem(OPERATIONS, name, type(operation)(watch, operation.signed))
    images = torch.zeros(14_000, 1, 1, 3, dtype=torch.uint8)
    RandAugment(3, 4)(images, generator())
    counts = {name: sum(map(len, strengths)) for name, strengths in seen.items()}
    assert counts.pop("Identity") == 0
    assert len(counts) == 13
    assert all(2750 < count < 3250 for count in counts.values()), counts
    for name, strengths in seen.items():
        if name == "Identity":
            continue
        drawn = torch.cat(strengths)
        assert drawn.abs().unique().tolist() == pytest.approx([0.4])
        assert (float(drawn.mean()) == pytest.approx(0.0, abs=0.05)) == OPERATIONS[name].signed


@pytest.mark.parametrize("policy", [IMAGENET_POLICY, CIFAR10_POLICY])
def test_found_policies_are_25_pairs_of_known_operations(policy):
    assert len(policy) == 25
    for pair in policy:
        for name, probability, magnitude in pair:
            assert name in {*OPERATIONS, "Invert"} - {"Identity"}
            assert 0 <= probability <= 1
            assert 0 <= magnitude <= 9


def test_a_sub_policy_is_applied_with_its_probabilities_in_its_order():
    invert_then_posterize = ((("Invert", 0.5, 0), ("Posterize", 0.25, 9)),)
    images = torch.full((8000, 2, 2, 3), 23, dtype=torch.uint8)
    varied = AutoAugment(invert_then_posterize)(images, generator())
    values, counts = varied[:, 0, 0, 0].unique(return_counts=True)
    shares = dict(zip(values.tolist(), (counts / 8000).tolist(), strict=True))
    inverted = 255 - 23
    expected = {23: 3 / 8, 23 & 0xF0: 1 / 8, inverted: 3 / 8, inverted & 0xF0: 1 / 8}
    assert shares == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    "augment",
    [
        {"policy": "randaugment", "operations": 1, "mixup": 0.2},
        {"cutmix": 1.0},
        {"policy": "autoaugment_imagenet"},
    ],
)
def test_a_training_with_varied_images_repeats_exactly(tmp_path, augment):
    data = DataConfig.model_validate(DATA.model_dump() | {"train_limit": 256, "augment": augment})
    train = TRAIN.model_copy(update={"epochs": 2, "workers": 2})
    weights = []
    for name, settings in (("a", data), ("b", data), ("plain", DATA.model_copy(update={"train_limit": 256}))):
        trainer.train(settings, MODEL, train, tmp_path / name)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("config", POLICIES, ids=lambda config: config.policy)
def test_a_gpu_varies_and_mixes_images_as_a_cpu_does(config):
    augmentation = Augmentation(config.model_copy(update={"mixup": 0.4, "cutmix": 1.0}), CLASSES)
    images = pixels(COUNT)
    varied = augmentation.vary(images, generator())
    assert torch.equal(augmentation.vary(images.cuda(), generator()).cpu(), varied)
    values = varied.permute(0, 3, 1, 2).float()
    on_cpu = augmentation.mix(values, labels(), generator())
    on_gpu = augmentation.mix(values.cuda(), labels().cuda(), generator())
    for ours, theirs in zip(on_gpu, on_cpu, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs)
