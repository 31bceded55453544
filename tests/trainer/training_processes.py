"""Trainings in processes of their own, which may be killed: forked from one that has torch loaded already."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import socket
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch
from tiny_configs import DATA, MODEL

import trainer
import trainer.checkpoint
import trainer.loop
from common.errors import UserError
from trainer.config import TrainConfig
from trainer.methods.netaug import NetAug
from trainer.workers import Workers

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Fault:
    """What goes wrong in `step` of the processes `ranks`: "nan" in a gradient, an "error", or a "kill".

    "kill_saving" kills when the checkpoint of `step`, here counted in epochs, is half written.
    """

    kind: str
    step: int
    ranks: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Job:
    """A training into folder/<rank>; `changes` are made to the configuration of all processes but the first.

    With `draws`, the networks that NetAug draws are written to folder/drawn.<rank>, a line for each.
    """

    folder: Path
    train: TrainConfig
    resume: bool = False
    draws: bool = False
    fault: Fault | None = None
    changes: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, minus the signal if it was killed, and what it said on stderr."""

    code: int | None
    errors: str


class Running:
    """Process `rank` of `ranks` does jobs, one after the other."""

    def __init__(self, jobs: list[Job], errors: Path, rank: int = 0, ranks: int = 1, port: int = 0) -> None:
        errors.parent.mkdir(parents=True, exist_ok=True)
        self._errors = errors
        self.process: ForkServerProcess = _context().Process(
            target=_work, args=(jobs, errors, rank, ranks, port)
        )
        self.process.start()

    def wait(self, seconds: float = 300) -> Ended:
        """How it ended; it is killed if it has not by then."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return Ended(self.process.exitcode, self._errors.read_text())


def run_together(jobs: list[Job], folder: Path, ranks: int = 2, missing: int = 0) -> list[Ended]:
    """Let `ranks` processes do jobs together, of which the last `missing` ones never come."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = [Running(jobs, folder / f"errors.{rank}", rank, ranks, port) for rank in range(ranks - missing)]
    return [process.wait() for process in running]


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo", "sklearn.datasets"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    multiprocessing.forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
    return context


def _work(jobs: list[Job], errors: Path, rank: int, ranks: int, port: int) -> None:
    with errors.open("w") as file:
        os.dup2(file.fileno(), 2)
    if ranks > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for job in jobs:
        if job.draws:
            _log_drawn(job.folder / f"drawn.{rank}")
        if job.fault is not None and rank in job.fault.ranks:
            _go_wrong(job.fault)
        changes = dict(job.changes) if rank else {}
        config = job.train.model_copy(update=changes)
        try:
            trainer.train(DATA, MODEL, config, job.folder / str(rank), resume=job.resume)
        except UserError as error:
            sys.stderr.write(f"{error}\n")
            sys.exit(2)


def _log_drawn(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    drawn = NetAug.drawn

    def logged(self: NetAug, epoch: int, step: int) -> object:
        member = drawn(self, epoch, step)
        with path.open("a") as file:
            file.write(f"{step} {member}\n")
        return member

    NetAug.drawn = logged  # type: ignore[method-assign]


def _go_wrong(fault: Fault) -> None:
    if fault.kind == "kill_saving":
        _die_saving(fault.step)
        return
    backward = Workers.backward

    def failing(self, batch, objective, epoch, step):  # type: ignore[no-untyped-def]
        result = backward(self, batch, objective, epoch, step)
        if step == fault.step and fault.kind == "nan":
            next(self._method.network.parameters()).grad.fill_(torch.nan)
        elif step == fault.step and fault.kind == "error":
            raise UserError("this process cannot go on")
        elif step == fault.step and fault.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    Workers.backward = failing  # type: ignore[method-assign]


def _die_saving(epoch: int) -> None:
    save_state, write_bytes = trainer.loop.save_state, trainer.checkpoint.write_bytes

    def half(path: Path, data: bytes) -> None:
        path.with_name(f".{path.name}.half").write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    def saving(folder, state, network, optimizer):  # type: ignore[no-untyped-def]
        trainer.checkpoint.write_bytes = half if state.epoch == epoch else write_bytes
        save_state(folder, state, network, optimizer)

    trainer.loop.save_state = saving
