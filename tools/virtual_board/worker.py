"""The process behind `server.VirtualBoardServer`: commands come and answers go as lines of JSON."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

from common.errors import UserError
from tools.virtual_board.board import VirtualBoard
from tools.virtual_board.service import Service
from tools.virtual_board.snapshot import LAYERS, SNAPSHOT, Start


def _answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def run_worker() -> None:
    """Serve one board until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then closes the stream
    start = Start.model_validate_json(sys.stdin.buffer.readline())
    board: VirtualBoard

    def command(line: str) -> None:
        actions = {
            "reset_counters": board.reset_counters,
            "reset": board.reset,
            "count_layers": board.layers.start,
        }
        if line == "snapshot":
            _answer({"snapshot": SNAPSHOT.dump_python(board.snapshot(), mode="json")})
        elif line == "layer_counts":
            _answer({"layers": LAYERS.dump_python(board.layers.stop(), mode="json")})
        else:
            actions[line]()
            _answer({})

    service = Service(commands=sys.stdin.buffer, on_command=command)
    try:
        board = VirtualBoard(start.board, start.elf, service.send, start.deadline)
        _answer({"url": service.url, "pty": service.pty})
        service.run(board)
    except UserError as error:
        _answer({"error": str(error)})
    finally:
        service.close()


if __name__ == "__main__":
    run_worker()
