"""Worker process of `converter.reference`: the tflite-micro interpreter on files.

Its argument is a JSON object: model (path), inputs (path of an .npz: arr_0, ... [N, ...] per input of the
model), outputs (path of the .npz to write), output_count, arena_bytes, tensors (list of indices to dump).
Without tensors the file gets arr_0, ... [N, ...] per output; with tensors, arr_0, ... per tensor, of the
first sample.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tflite_micro import runtime


def main(job: dict[str, Any]) -> None:
    """Run the model on all samples."""
    tensors = job["tensors"]
    config = runtime.InterpreterConfig
    interpreter = runtime.Interpreter.from_bytes(
        Path(job["model"]).read_bytes(),
        arena_size=job["arena_bytes"],
        intrepreter_config=config.kPreserveAllTensors if tensors else config.kAllocationRecording,
    )
    with np.load(job["inputs"], allow_pickle=False) as archive:
        columns = [archive[f"arr_{i}"] for i in range(len(archive.files))]
    results = []
    for sample in zip(*columns, strict=True):
        for index, values in enumerate(sample):
            interpreter.set_input(values[np.newaxis], index)
        interpreter.invoke()
        if tensors:
            np.savez(job["outputs"], *(interpreter.GetTensor(t, 0)["tensor_data"] for t in tensors))
            return
        results.append([interpreter.get_output(i)[0].copy() for i in range(job["output_count"])])
    np.savez(job["outputs"], *(np.stack(column) for column in zip(*results, strict=True)))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
