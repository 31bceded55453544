"""The training loop."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import ConfigError
from trainer.checkpoint import (
    TrainingState,
    load_state,
    remove_state,
    remove_unfinished,
    restore,
    save_network,
    save_state,
)
from trainer.config import DataConfig, ModelConfig, TrainConfig
from trainer.history import EpochRow, History
from trainer.methods import METHODS, MethodContext
from trainer.models.initialise import initialise
from trainer.optim import learning_rate, make_optimizer, set_learning_rate
from trainer.progress import Progress, make_progress
from trainer.seeds import derive_seed
from trainer.tasks import make_task
from trainer.workers import Workers

_log = logging.getLogger(__name__)

_FREE_SETTINGS = ("train.threads", "train.checkpoint_every")


@dataclass(frozen=True)
class TrainResult:
    """How the tiny network does after the last epoch, 0..1, on the test samples and on training samples.

    `metric` names what `accuracy` and `train_accuracy` are. `seconds` are of all epochs, those before a
    resume included; `macs` are of one image.
    """

    accuracy: float
    train_accuracy: float
    epochs: int
    seconds: float
    parameters: int
    macs: int
    metric: str


def train(
    data: DataConfig,
    model: ModelConfig,
    train: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    show_progress: bool | None = None,
) -> TrainResult:
    """Train a tiny network and write it to `folder`: model.safetensors, model.json, log.csv, tensorboard/.

    With `resume`, goes on from the last checkpoint in `folder`, where there is one, to the very weights
    that an uninterrupted training gives. `show_progress` None shows a bar where stderr is a terminal.
    Raises ConfigError for what is wrong in the configuration, the dataset or the checkpoint.
    """
    with _torch_settings(train):
        training = _Training(data, model, train, folder)
        return training.run(resume, show_progress)


@contextmanager
def _torch_settings(config: TrainConfig) -> Iterator[None]:
    """Use the wanted number of threads; restore it and torch's random state afterwards."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError('train.device is "cuda", but PyTorch finds no CUDA device: use "cpu"')
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.set_num_threads(config.threads or threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


class _Training:
    """All parts of one training."""

    def __init__(self, data: DataConfig, model: ModelConfig, config: TrainConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        make_method = METHODS.get(config.method)
        self.task = make_task(data, model, config)
        plain = self.task.build()
        initialise(plain, model.init, derive_seed(config.seed, "weights"))
        self.architecture = self.task.architecture(plain)
        self.batches = self.task.batches
        self.method = make_method(MethodContext(plain, model, config, self.batches.steps, folder))
        network = self.method.network.to(config.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # fastest on CPUs
        self.optimizer = make_optimizer(self.method.network, config)
        self.settings = _settings(self.task.data, model, config)

    def run(self, resume: bool, show_progress: bool | None) -> TrainResult:
        """Train all epochs that are left and save the tiny network."""
        cost = self.architecture
        _log.info(
            "training %s (%s parameters, %s MACs) on %s, method %s",
            cost.model.name,
            f"{cost.parameters:,}",
            f"{cost.macs:,}",
            cost.dataset,
            self.config.method,
        )
        remove_unfinished(self.folder)
        if not resume:
            remove_state(self.folder)
        rows = self._resume() if resume else []
        epochs, done = self.config.epochs, len(rows)
        history = History(self.folder, rows)
        try:
            with (
                Workers(self.method, self.config.workers) as workers,
                make_progress(epochs, self.batches.steps, done, show_progress) as progress,
            ):
                for epoch in range(done, epochs):
                    row = self._epoch(epoch, workers, progress)
                    if (epoch + 1) % self.config.checkpoint_every == 0 or epoch + 1 == epochs:
                        state = TrainingState(epoch + 1, [*history.rows, row], self.settings)
                        save_state(self.folder, state, self.method.network, self.optimizer)
                    history.add(row)
                    progress.epoch(row)
        finally:
            history.close()
        return self._finish(history)

    def _resume(self) -> list[EpochRow]:
        loaded = load_state(self.folder, self.settings)
        if loaded is None:
            _log.info("nothing to resume in %s: training from the start", self.folder)
            return []
        state, tensors = loaded
        restore(tensors, self.method.network, self.optimizer)
        _log.info("resuming after epoch %d of %d", state.epoch, self.config.epochs)
        return state.rows

    def _epoch(self, epoch: int, workers: Workers, progress: Progress) -> EpochRow:
        start = time.monotonic()
        self.method.network.train()
        self.method.start_epoch(epoch, self.optimizer)
        self.task.objective.start_epoch(epoch)
        workers.start_epoch()
        loss = torch.zeros((), device=self.config.device)
        hits: Tensor | None = torch.zeros((), dtype=torch.int64, device=self.config.device)
        step = epoch * self.batches.steps
        rate = 0.0
        for batch in self.batches.epoch(epoch):
            torch.manual_seed(derive_seed(self.config.seed, "step", step))
            rate = learning_rate(self.config, step, self.batches.steps, self.method.restarts)
            set_learning_rate(self.optimizer, rate)
            result = workers.backward(batch, self.task.objective, epoch, step)
            self.optimizer.step()
            loss += result.loss
            right = self.task.hits(result.outputs, batch.labels)
            hits = None if right is None or hits is None else hits + right
            step += 1
            progress.step()
        mean_loss = float(loss) / self.batches.steps
        if not math.isfinite(mean_loss):
            raise ConfigError(
                f"training diverged in epoch {epoch + 1}, the loss is {mean_loss}: "
                f"lower train.learning_rate, which is {self.config.learning_rate}"
            )
        images = self.batches.steps * self.config.batch_size
        tested = None
        if (epoch + 1) % self.config.evaluate_every == 0 or epoch + 1 == self.config.epochs:
            tested = self.task.score(self._tiny_network())
        return EpochRow(
            epoch=epoch + 1,
            step=step,
            learning_rate=rate,
            loss=mean_loss,
            train_accuracy=None if hits is None else int(hits) / images,
            accuracy=tested,
            seconds=time.monotonic() - start,
        )

    def _tiny_network(self) -> nn.Module:
        return self.method.tiny_network(self.batches.calibration(self.method.calibration_images))

    def _finish(self, history: History) -> TrainResult:
        network = self._tiny_network()
        result = TrainResult(
            accuracy=self.task.score(network),
            train_accuracy=self.task.train_score(network),
            epochs=self.config.epochs,
            seconds=sum(row.seconds for row in history.rows),
            parameters=self.architecture.parameters,
            macs=self.architecture.macs,
            metric=self.task.metric,
        )
        save_network(self.folder, network, self.architecture)
        return result


def _settings(data: DataConfig, model: ModelConfig, config: TrainConfig) -> dict[str, Any]:
    """All keys that decide the weights, dotted, with values as JSON gives them back."""
    settings: dict[str, Any] = {}

    def flatten(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                flatten(f"{prefix}.{key}", inner)
        else:
            settings[prefix] = value

    for prefix, section in (("data", data), ("model", model), ("train", config)):
        flatten(prefix, json.loads(section.model_dump_json()))
    return {key: value for key, value in settings.items() if key not in _FREE_SETTINGS}
