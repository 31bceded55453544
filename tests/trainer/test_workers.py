from __future__ import annotations

import pytest
import torch
from tiny_configs import MODEL, TRAIN, network, randomise
from torch.nn import functional

from trainer.config import TrainConfig
from trainer.data.batches import Batch
from trainer.methods import METHODS, Method, MethodContext
from trainer.methods.elastic import slice_into, sort_hidden_channels
from trainer.methods.netaug import NetAug
from trainer.models import InvertedResidualNetwork
from trainer.objectives import OBJECTIVES, ObjectiveContext
from trainer.optim import make_optimizer
from trainer.precision import Precision
from trainer.workers import Workers

BATCH = Batch(
    torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64),
    torch.arange(12) % 10,
)


UNSMOOTHED = TRAIN.model_copy(update={"batch_size": 12, "label_smoothing": 0.0})
OBJECTIVE = OBJECTIVES.get("cross_entropy")(
    ObjectiveContext(UNSMOOTHED, (1, 8, 8), ("",) * 10, (0.0,), (1.0,))
)


def make(name: str) -> Method:
    method = METHODS.get(name)(MethodContext(network(), MODEL, TRAIN))
    randomise(method.network)
    method.network.double().train()
    return method


@pytest.mark.parametrize(("count", "accumulate"), [(1, 1), (2, 1), (3, 1), (1, 3), (2, 3)])
def test_the_gradient_is_the_mean_of_parts_that_draw_the_same_network(count, accumulate):
    parts = count * accumulate
    method = make("netaug")
    assert isinstance(method, NetAug)
    expected = {name: torch.zeros_like(p) for name, p in method.network.named_parameters()}
    for table in (network().table, method.drawn(0, 5)):
        plain = InvertedResidualNetwork(table).double().train()
        slice_into(plain, method.network)
        for images, labels in zip(BATCH.images.chunk(parts), BATCH.labels.chunk(parts), strict=True):
            (functional.cross_entropy(plain(images), labels) / parts).backward()
        for name, parameter in plain.named_parameters():
            expected[name][tuple(slice(n) for n in parameter.shape)] += parameter.grad
    with Workers(method, count, Precision(TRAIN), accumulate=accumulate) as workers:
        workers.start_epoch()
        workers.backward(BATCH, OBJECTIVE, 0, 4)
        result = workers.backward(BATCH, OBJECTIVE, 0, 5)
    for name, parameter in method.network.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-10)
    tiny = InvertedResidualNetwork(network().table).double().train()
    slice_into(tiny, method.network)
    logits = torch.cat([tiny(images) for images in BATCH.images.chunk(parts)])
    torch.testing.assert_close(result.outputs, logits.detach())
    torch.testing.assert_close(result.loss, functional.cross_entropy(logits, BATCH.labels).detach())


@pytest.mark.parametrize("name", ["plain", "netaug", "netbooster", "rocket_launch"])
def test_copies_follow_the_optimizer_and_the_sorting(name):
    method = make(name)
    optimizer = make_optimizer(method.network, TRAIN)
    with Workers(method, 2, Precision(TRAIN)) as workers:
        workers.start_epoch()
        workers.backward(BATCH, OBJECTIVE, 0, 0)
        optimizer.step()
        if isinstance(method, NetAug):
            sort_hidden_channels(method.network, optimizer)
        workers.backward(BATCH, OBJECTIVE, 0, 1)
        shared = [p.grad for p in method.network.parameters()]
        workers.start_epoch()
        workers.backward(BATCH, OBJECTIVE, 0, 1)
    assert all(torch.equal(a, p.grad) for a, p in zip(shared, method.network.parameters(), strict=True))


def test_an_error_in_a_thread_is_raised():
    with Workers(make("plain"), 2, Precision(TRAIN)) as workers:
        workers.start_epoch()
        broken = Batch(BATCH.images, torch.tensor([0] * 6 + [77] * 6))
        with pytest.raises(IndexError, match="Target 77 is out of bounds"):
            workers.backward(broken, OBJECTIVE, 0, 0)


@pytest.mark.parametrize(("batch_size", "workers", "accumulate"), [(10, 3, 1), (4, 4, 1), (12, 3, 8)])
def test_parts_must_be_equal_and_large_enough_to_be_normalised(batch_size, workers, accumulate):
    with pytest.raises(ValueError, match="must be a multiple of workers"):
        TrainConfig(batch_size=batch_size, workers=workers, accumulate=accumulate)
