"""`evaluation.npz`: the test samples of a run, with what the float and the int8 model answer on the host."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from common import files
from common.errors import ConfigError
from converter.graph import Graph
from converter.reference import dequantize_output, quantize_input, reference_outputs
from tools.runs import RunFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """N samples.

    images: uint8 [N,H,W,C]; inputs: int8 [N, ...]; labels: int64 [N], -1 where unknown;
    float_logits: float32 [N, classes] or None; int8_outputs: int8 [N, ...], the tflite-micro interpreter's;
    precisions: float64 [2, 3] of a detector, else None: AP50, mAP and VOC2007's AP50 of the float model and
    of the int8 one.
    """

    inputs: npt.NDArray[np.int8]
    int8_outputs: npt.NDArray[np.int8]
    labels: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8] | None = None
    float_logits: npt.NDArray[np.float32] | None = None
    precisions: npt.NDArray[np.float64] | None = None
    class_names: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Write the arrays that are there, atomically."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "inputs": self.inputs,
            "int8_outputs": self.int8_outputs,
            "labels": self.labels,
            "class_names": np.array(self.class_names, dtype=np.str_),
        }
        for name in ("images", "float_logits", "precisions"):
            if (array := getattr(self, name)) is not None:
                arrays[name] = array
        with files.atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ConfigError: the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = dict(arrays)
            names = tuple(str(name) for name in found.pop("class_names"))
            return cls(**found, class_names=names)
        except (OSError, ValueError, EOFError, KeyError, TypeError, BadZipFile) as error:
            raise ConfigError(f"{path}: damaged ({error}); delete it and run: tinyboost test") from None


def evaluate_trained(run: RunFolder, graph: Graph, samples: int) -> Evaluation:
    """Evaluate the first `samples` images of the test split with torch and with tflite-micro."""
    import torch

    from trainer.checkpoint import load_network
    from trainer.data import as_pixels, load_dataset, normalise
    from trainer.detection import DetectionDataset, score_outputs

    network, architecture = load_network(run.training)
    data = load_dataset(architecture.data)
    chunks = list(data.test(samples))
    images, labels = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    if samples > len(images):
        log.warning("the test split has %d samples, not %d: using all", len(images), samples)
    normalised = normalise(images, data.mean, data.std)
    with torch.inference_mode():
        logits = np.concatenate([network(batch).numpy() for batch in torch.split(normalised, 500)])
    inputs = quantize_input(graph, normalised.permute(0, 2, 3, 1).numpy())
    outputs = reference_outputs(run.tflite, inputs)
    detector, precisions = architecture.model.detector, None
    if detector is not None and isinstance(data, DetectionDataset):
        answers = (logits, dequantize_output(graph, outputs).reshape(logits.shape))
        scores = [
            score_outputs(torch.from_numpy(answer), detector, data, data.test_images[:samples])
            for answer in answers
        ]
        precisions = np.array([[score.ap50, score.mean_ap, score.voc_ap50] for score in scores])
    return Evaluation(
        images=as_pixels(images),
        inputs=inputs,
        labels=labels.astype(np.int64),
        float_logits=logits.astype(np.float32),
        int8_outputs=outputs,
        precisions=precisions,
        class_names=tuple(data.class_names),
    )


def evaluate_given(model: Path, graph: Graph, samples: int, source: Path | None, seed: int = 0) -> Evaluation:
    """Evaluate a user's own model on the inputs of a file, or on random int8 inputs where there is none.

    The file is .npy (int8 or float32 inputs) or .npz with `inputs` and optional `labels`, batch first, the
    rest of the shape as the model's input.

    Raises:
        ConfigError: the file can't be read, or shapes or dtypes do not fit the model.
    """
    tensor = graph.tensors[graph.inputs[0]]
    shape = tensor.shape[1:]
    labels = None
    if source is None:
        log.warning("no --inputs given: using %d random inputs, without labels", samples)
        inputs = np.random.default_rng(seed).integers(-128, 128, (samples, *shape), dtype=np.int8)
    else:
        inputs, labels = _read_inputs(source, shape, graph)
        inputs = inputs[:samples]
    if labels is None:
        labels = np.full(len(inputs), -1, dtype=np.int64)
    outputs = reference_outputs(model, inputs)
    return Evaluation(inputs=inputs, int8_outputs=outputs, labels=labels[: len(inputs)])


def _read_inputs(
    source: Path, shape: tuple[int, ...], graph: Graph
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64] | None]:
    try:
        loaded = np.load(source, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"{source}: not a readable .npy or .npz file ({error})") from None
    labels = None
    if isinstance(loaded, np.ndarray):
        values = loaded
    else:
        if "inputs" not in loaded:
            raise ConfigError(f"{source}: holds {', '.join(loaded.files)}; an array named 'inputs' is needed")
        values = loaded["inputs"]
        labels = loaded["labels"].astype(np.int64) if "labels" in loaded else None
    if values.shape[1:] != shape:
        raise ConfigError(f"{source}: samples are {values.shape[1:]}, the model's input is {shape}")
    if labels is not None and len(labels) != len(values):
        raise ConfigError(f"{source}: {len(values)} inputs but {len(labels)} labels")
    if values.dtype == np.float32:
        return quantize_input(graph, values), labels
    if values.dtype != np.int8:
        raise ConfigError(f"{source}: inputs are {values.dtype}; int8 or float32 is needed")
    return values, labels
