"""`tinyboost train`."""

from __future__ import annotations

from typing import Annotated

import typer

from tools import console
from tools.cli.setup import open_run
from tools.cli.verb import ConfigOption, InterruptedByUserError, Outcome, RunOption, SetOption, verb


@verb
def command(
    *,
    config: ConfigOption = None,
    run: RunOption = None,
    overrides: SetOption = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Override train.epochs.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Override train.seed.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
) -> Outcome:
    """Train a tiny network: plain, inside wider ones (NetAug), as a deep giant (NetBooster), from a teacher.

    Writes train/model.safetensors, train/model.json, train/log.csv and TensorBoard logs into the run folder.
    A training that was interrupted goes on with --resume and ends with the same weights. Datasets and
    networks of your own come from the Python files that `imports` in the configuration names.

    \b
    Examples:
      tinyboost train -c examples/demo.toml
      tinyboost train -c examples/demo.toml -o runs/plain --set train.method=plain
      tinyboost train -c examples/demo.toml -o runs/giant --set train.method=netbooster
      tinyboost train -c examples/demo.toml --resume
      tinyboost train -c examples/demo.toml -o runs/student --set train.objective=kd
        --set train.distillation.teacher=runs/demo/train
      tinyboost train -c examples/demo.toml -o runs/tuned --set train.initial=runs/demo/train
      tinyboost train -c examples/detection/bccd.toml
      torchrun --nproc-per-node 4 -m tools.cli train -c examples/demo.toml
    """
    from tools.stages import train

    extra = [
        f"train.{key}={value}" for key, value in (("epochs", epochs), ("seed", seed)) if value is not None
    ]
    folder, resolved = open_run(run, config=config, overrides=[*(overrides or []), *extra])
    try:
        record = train(folder, resolved, resume=resume)
    except KeyboardInterrupt:
        raise InterruptedByUserError(f"{folder.path}: go on from the last checkpoint with --resume") from None

    def show() -> None:
        result = record.result
        console.line(
            f"{result['metric']} {result['accuracy']:.2%} on the test split, "
            f"{result['train_accuracy']:.2%} on the training split, {result['parameters']:,} parameters, "
            f"{result['macs']:,} MACs, {record.seconds:.0f} s"
        )
        console.line(f"{folder.training / 'model.safetensors'}")

    return Outcome({"run": str(folder.path), **record.result, "seconds": record.seconds}, show)
