"""Worker process of `converter.quantize`: float ONNX to int8 TFLite, by onnx2tf and TensorFlow.

Its argument is a JSON object: onnx (path), calibration (path of an .npy, float32, batch first, as the ONNX
model takes them), tflite (path to write), folder (an empty one to work in). What is wrong with the model is
the last line that it prints.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from common.errors import ModelError
from converter.onnx_model import OnnxInput, is_plain, load_onnx, pool_global_means
from converter.rename import with_onnx_names
from converter.workers import REFUSED

_Samples = npt.NDArray[np.float32]


def main(job: dict[str, Any]) -> None:
    """Convert one model.

    Raises:
        ModelError: the model, or its conversion, is refused.
    """
    model, source = load_onnx(Path(job["onnx"]))
    calibration = _channels_last(np.load(job["calibration"], allow_pickle=False), source)
    pool_global_means(model)
    # onnx2tf rewrites the file that it reads, and writes into the current folder.
    os.chdir(job["folder"])
    copy = Path("model.onnx")
    onnx.save(model, copy)
    with _explained("onnx2tf cannot convert it to TensorFlow"):
        keras = _to_keras(copy, calibration, simplify=not is_plain(model))
    with _explained("TensorFlow cannot convert it to int8 TFLite"):
        converted = _quantize(keras, calibration)
    Path(job["tflite"]).write_bytes(with_onnx_names(converted, model))


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn whatever a converter raises into one line; the traceback is printed before."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        traceback.print_exc()
        select = re.search(r"(?:TF Select|Custom) ops: (.*)", str(error))
        if select:
            raise ModelError(f"{what}: TFLite has no operator for {select[1]}") from None
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ModelError(f"{what}: {' '.join(lines[:2])[:300]}") from None


def _channels_last(samples: _Samples, source: OnnxInput) -> _Samples:
    """Samples as the TensorFlow model takes them: onnx2tf moves the channels of every input to the end."""
    if samples.shape[1:] != source.shape[1:]:
        given, wanted = list(samples.shape[1:]), list(source.shape[1:])
        raise ModelError(f"calibration samples are {given}, input '{source.name}' takes {wanted}")
    return np.ascontiguousarray(np.moveaxis(samples, 1, -1)) if samples.ndim > 2 else samples


def _to_keras(path: Path, calibration: _Samples, *, simplify: bool) -> Any:
    """The float Keras model that computes what the ONNX file does, channels last."""
    from onnx2tf import onnx2tf

    # For RGB models onnx2tf would download sample images, and only to compare its operators with ONNX's.
    onnx2tf.download_test_image_data = lambda: calibration[:20]
    return onnx2tf.convert(
        input_onnx_file_path=str(path),
        not_use_onnxsim=not simplify,
        disable_model_save=True,
        non_verbose=True,
    )


def _quantize(model: Any, calibration: _Samples) -> bytes:
    import tensorflow as tf

    wanted = tuple(model.inputs[0].shape)
    if wanted[1:] != calibration.shape[1:]:
        raise ModelError(f"the converter changed the input to {list(wanted)}")

    def samples() -> Iterator[list[_Samples]]:
        for sample in calibration:
            yield [sample[np.newaxis]]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    converted: bytes = converter.convert()
    return converted


if __name__ == "__main__":
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "TF_USE_LEGACY_KERAS": "1"}
    try:
        main(json.loads(sys.argv[1]))
    except ModelError as error:
        print(error, flush=True)  # noqa: T201 (the answer to the parent process)
        sys.exit(REFUSED)
