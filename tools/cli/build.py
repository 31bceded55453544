"""`tinyboost build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tools import console
from tools.cli.setup import open_run
from tools.cli.verb import ConfigOption, Outcome, RunOption, SetOption, TargetOption, verb


@verb
def command(
    *,
    model: Annotated[Path | None, typer.Argument(help="Your own int8 .tflite.", show_default=False)] = None,
    config: ConfigOption = None,
    run: RunOption = None,
    overrides: SetOption = None,
    target: TargetOption = None,
) -> Outcome:
    """Generate the C++ of a model and build the firmware around it.

    The image for the targets virtual, renode and board is one and the same ELF.

    \b
    Examples:
      tinyboost build -o runs/demo
      tinyboost build net_int8.tflite
      tinyboost build -o runs/demo --target host
    """
    from converter.board import load_board
    from tools import stages
    from tools.image import image_memory

    folder, resolved = open_run(run, config=config, overrides=overrides, model=model)
    if model is not None:
        stages.convert_given(folder, model, None)
    chosen = target or resolved.test.target
    image = stages.build(folder, resolved, chosen)
    if chosen == "host":
        return Outcome({"image": str(image)}, lambda: console.out.print(f"{image}"))
    memory = image_memory(image, load_board(resolved.board.name))

    def show() -> None:
        console.line(
            f"{image}: flash {memory.flash.total:,} of {memory.flash.budget:,} bytes "
            f"(weights {memory.weights:,}, code {memory.code:,}), "
            f"arena {memory.arena:,}, .data/.bss {memory.data + memory.bss:,}"
        )

    return Outcome({"image": str(image), "memory": memory.model_dump()}, show)
