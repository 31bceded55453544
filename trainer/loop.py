"""The training loop."""

from __future__ import annotations

import json
import logging
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import CheckpointError, ConfigError
from trainer.average import WeightAverage, averaged
from trainer.checkpoint import (
    TrainingState,
    load_state,
    read_state,
    remove_state,
    remove_unfinished,
    restore,
    save_network,
    save_state,
)
from trainer.config import DataConfig, ModelConfig, TrainConfig
from trainer.history import EpochRow
from trainer.journal import Journal
from trainer.methods import METHODS, MethodContext
from trainer.methods.elastic import ElasticConv2d
from trainer.models.initialise import initialise
from trainer.objectives import UNTAUGHT
from trainer.optim import learning_rate, make_optimizer, set_learning_rate
from trainer.parallel import Ranks, joined, own_device
from trainer.precision import Precision
from trainer.regularise import regularise
from trainer.result import TrainResult
from trainer.route import forget, keep
from trainer.seeds import derive_seed, seeded
from trainer.tasks import make_task
from trainer.torch_settings import torch_settings
from trainer.workers import Workers

_log = logging.getLogger(__name__)

_FREE_SETTINGS = (
    "train.threads",
    "train.checkpoint_every",
    "train.evaluate_every",
    "train.keep_every",
    "train.timeout",
)
_SHARING_SETTINGS = ("train.workers", "train.accumulate")


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
    that an uninterrupted training gives. `show_progress` None shows a bar where stderr is a terminal. Where
    torchrun or accelerate launch started several processes, all of them have to call this; only the first
    one reads and writes `folder`. Raises ConfigError for what is wrong in the configuration, the dataset or
    the checkpoint.
    """
    train = own_device(train)
    with torch_settings(train), joined(train) as ranks:
        return _Training(data, model, train, folder, ranks).run(resume, show_progress)


class _Training:
    """All parts of one training."""

    def __init__(
        self, data: DataConfig, model: ModelConfig, config: TrainConfig, folder: Path, ranks: Ranks
    ) -> None:
        self.config = config
        self.folder = folder
        self.ranks = ranks
        make_method = METHODS.get(config.method)
        self.task = make_task(data, model, config, ranks.rank, ranks.count)
        with seeded(derive_seed(config.seed, "build")):
            plain = self.task.build()
        initialise(plain, model.init, derive_seed(config.seed, "weights"))
        self.architecture = self.task.architecture(plain)
        self.batches = self.task.batches
        context = MethodContext(
            plain,
            model,
            config,
            steps_per_epoch=self.batches.steps,
            # Copies of a method would copy a bound method's data as well.
            calibration=lambda count: self.batches.calibration(count),  # noqa: PLW0108
            folder=folder if ranks.main else None,
        )
        self.method = regularise(make_method(context), context)
        network = self.method.network.to(config.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # fastest on CPUs
        if config.compile and any(isinstance(module, ElasticConv2d) for module in network.modules()):
            raise ConfigError(
                f"train.compile: {config.method} changes the widths of its network in each step, and each "
                "would be compiled anew: set it to false"
            )
        self.optimizer = make_optimizer(self.method.network, config)
        self.average = WeightAverage(self.optimizer, config.ema)
        self.precision = Precision(config)
        self.settings = _settings(self.task.data, model, config, ranks.count)
        ranks.require_equal(self.settings)

    def run(self, resume: bool, show_progress: bool | None) -> TrainResult:
        """Train all epochs that are left and save the tiny network."""
        main = self.ranks.main
        if main:
            self._announce()
            remove_unfinished(self.folder)
            if not resume:
                self._warn_of_loss()
                remove_state(self.folder)
        rows = self._resume() if resume else []
        if main:
            forget(self.folder, after=len(rows))
        epochs = self.config.epochs
        with (
            self._workers() as workers,
            Journal(
                self.folder,
                rows,
                epochs=epochs,
                steps_per_epoch=self.batches.steps,
                show_progress=show_progress,
                silent=not main,
            ) as journal,
        ):
            for epoch in range(len(rows), epochs):
                row = self._epoch(epoch, workers, journal)
                if main and ((epoch + 1) % self.config.checkpoint_every == 0 or epoch + 1 == epochs):
                    rows = [*journal.rows, row]
                    state = TrainingState(epoch + 1, rows, self.settings, self.precision.state())
                    save_state(self.folder, state, self.method.network, self.optimizer)
                journal.add(row)
        result = self.ranks.broadcast(lambda: self._finish(journal.rows))
        assert result is not None
        return TrainResult.model_validate_json(result)

    def _announce(self) -> None:
        cost, objective = self.architecture, self.config.objective
        teachers = ", ".join(str(folder) for folder in self.config.distillation.all_teachers)
        taught = f" by {teachers}" if teachers and objective not in UNTAUGHT else ""
        _log.info(
            "training %s (%s parameters, %s MACs) on %s, method %s%s%s",
            cost.model.name,
            f"{cost.parameters:,}",
            f"{cost.macs:,}",
            cost.dataset,
            self.config.method,
            f", objective {objective}{taught}" if objective != "cross_entropy" else "",
            f", {self.ranks.count} processes" if self.ranks.count > 1 else "",
        )
        if teachers and not taught:
            _log.warning(
                'train.distillation: train.objective "%s" has no teacher, so %s teaches nothing: '
                'set the objective to "kd", or leave the teacher out',
                objective,
                teachers,
            )

    def _warn_of_loss(self) -> None:
        """Warn where a checkpoint that is about to be removed could have been gone on from."""
        content = read_state(self.folder)
        if content is None:
            return
        with suppress(CheckpointError):
            state, _ = load_state(content, self.folder, self.settings)
            if state.epoch < self.config.epochs:
                _log.warning(
                    "training anew: what was in %s after epoch %d of %d is lost; --resume would have gone on",
                    self.folder,
                    state.epoch,
                    self.config.epochs,
                )

    def _resume(self) -> list[EpochRow]:
        content = self.ranks.broadcast(lambda: read_state(self.folder))
        if content is None:
            _log.info("nothing to resume in %s: training from the start", self.folder)
            return []
        state, tensors = load_state(content, self.folder, self.settings)
        restore(tensors, self.method.network, self.optimizer)
        self.precision.restore(state.precision)
        _log.info("resuming after epoch %d of %d", state.epoch, self.config.epochs)
        return state.rows

    def _workers(self) -> Workers:
        config = self.config
        return Workers(
            self.method,
            config.workers,
            self.precision,
            accumulate=config.accumulate,
            compiled=config.compile,
        )

    def _epoch(self, epoch: int, workers: Workers, journal: Journal) -> EpochRow:
        start = time.monotonic()
        self.method.network.train()
        self.method.start_epoch(epoch, self.optimizer)
        network = self.method.network
        self.task.objective.start_epoch(epoch)
        workers.start_epoch()
        loss = torch.zeros((), device=self.config.device)
        hits: Tensor | None = torch.zeros((), dtype=torch.int64, device=self.config.device)
        step = epoch * self.batches.steps
        rate = 0.0
        for batch in self.batches.epoch(epoch):
            torch.manual_seed(derive_seed(self.config.seed, "step", step, *self.ranks.indices))
            rate = learning_rate(self.config, step, self.batches.steps, self.method.restarts)
            set_learning_rate(self.optimizer, rate)
            result = workers.backward(batch, self.task.objective, epoch, step)
            self.ranks.sum_gradients(network)
            self.precision.step(self.optimizer)
            self.average.update(network, step)
            loss += result.loss
            right = self.task.hits(result.outputs, batch.labels)
            hits = None if right is None or hits is None else hits + right
            step += 1
            journal.step()
        self.ranks.sum([loss] if hits is None else [loss, hits])
        workers.average_statistics()
        self.ranks.average(self.average.statistics(network))
        mean_loss = float(loss) / self.batches.steps
        if not math.isfinite(mean_loss):
            raise ConfigError(
                f"training diverged in epoch {epoch + 1}, the loss is {mean_loss}: "
                f"lower train.learning_rate, which is {self.config.learning_rate}"
            )
        images = self.batches.steps * self.config.batch_size
        tested = self._test(epoch + 1) if self.ranks.main else None
        return EpochRow(
            epoch=epoch + 1,
            step=step,
            learning_rate=rate,
            loss=mean_loss,
            train_accuracy=None if hits is None else int(hits) / images,
            accuracy=tested,
            seconds=time.monotonic() - start,
            phase=self.method.phase,
        )

    def _test(self, epoch: int) -> float | None:
        """Evaluate and keep the tiny network after `epoch` epochs, if this is the time for either."""
        config = self.config
        tests = epoch % config.evaluate_every == 0 or epoch == config.epochs
        keeps = config.keep_every is not None and epoch % config.keep_every == 0
        if not (tests or keeps):
            return None
        network = self._tiny_network()
        whole = sum(parameter.numel() for parameter in network.parameters()) == self.architecture.parameters
        if keeps and whole:  # not while it is a giant
            keep(self.folder, epoch, network, self.architecture)
        return self.task.score(network) if tests else None

    def _tiny_network(self) -> nn.Module:
        with averaged(self.method.network, self.optimizer):
            return self.method.tiny_network(self.batches.calibration(self.method.calibration_images))

    def _finish(self, rows: list[EpochRow]) -> bytes:
        network = self._tiny_network()
        result = TrainResult(
            accuracy=self.task.score(network),
            train_accuracy=self.task.train_score(network),
            epochs=self.config.epochs,
            seconds=sum(row.seconds for row in rows),
            parameters=self.architecture.parameters,
            macs=self.architecture.macs,
            metric=self.task.metric,
        )
        save_network(self.folder, network, self.architecture)
        return result.model_dump_json().encode()


def _settings(data: DataConfig, model: ModelConfig, config: TrainConfig, processes: int) -> dict[str, Any]:
    """All keys that decide the weights, dotted, with values as JSON gives them back.

    How a batch is shared counts only in all: as the number of its parts.
    """
    settings: dict[str, Any] = {}

    def flatten(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                flatten(f"{prefix}.{key}", inner)
        else:
            settings[prefix] = value

    for prefix, section in (("data", data), ("model", model), ("train", config)):
        flatten(prefix, json.loads(section.model_dump_json()))
    settings["train.device"] = torch.device(config.device).type
    for key in (*_FREE_SETTINGS, *_SHARING_SETTINGS):
        del settings[key]
    parts = config.workers * config.accumulate * processes
    return settings | {"train.workers x train.accumulate x processes": parts}
