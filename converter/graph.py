"""A small typed view of a .tflite file: the only reader of flatbuffers in tinyboost.

Source: TFLite schema 3 (`tensorflow/lite/schema/schema.fbs`), through the `tflite` package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt


class Activation(Enum):
    """Activation fused into an operator."""

    NONE = "none"
    RELU = "relu"
    RELU_N1_TO_1 = "relu_n1_to_1"
    RELU6 = "relu6"


class Padding(Enum):
    """Implicit padding of convolutions and pools."""

    SAME = "same"
    VALID = "valid"


@dataclass(frozen=True)
class Quantization:
    """Affine quantization, real = scale * (q - zero_point).

    scale: float32 [n]; zero_point: int64 [n]; n is 1 (per tensor) or the size of `axis` (per channel).
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int = 0


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph; `data` is None for activations and a read-only array for constants."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    quantization: Quantization | None = None
    data: npt.NDArray[Any] | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the tensor's values lie in the file."""
        return self.data is not None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.elements * self.dtype.itemsize

    @property
    def scale(self) -> float:
        """Per-tensor scale."""
        assert self.quantization is not None
        return float(self.quantization.scale[0])

    @property
    def zero_point(self) -> int:
        """Per-tensor zero point."""
        assert self.quantization is not None
        return int(self.quantization.zero_point[0])


@dataclass(frozen=True)
class Conv2DOptions:
    """CONV_2D: weights are [out, kh, kw, in / groups]; strides and dilations are (height, width)."""

    padding: Padding
    strides: tuple[int, int]
    dilations: tuple[int, int] = (1, 1)
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class DepthwiseConv2DOptions:
    """DEPTHWISE_CONV_2D: weights are [1, kh, kw, in * multiplier]."""

    padding: Padding
    strides: tuple[int, int]
    multiplier: int = 1
    dilations: tuple[int, int] = (1, 1)
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class PoolOptions:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""

    padding: Padding
    strides: tuple[int, int]
    window: tuple[int, int]
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class ActivationOptions:
    """FULLY_CONNECTED, ADD, SUB, MUL: a fused activation and nothing else that matters."""

    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class MeanOptions:
    """MEAN, SUM, REDUCE_MAX and REDUCE_MIN: the axes are the second input."""

    keep_dims: bool = False


@dataclass(frozen=True)
class SoftmaxOptions:
    """SOFTMAX."""

    beta: float = 1.0


@dataclass(frozen=True)
class TransposeConvOptions:
    """TRANSPOSE_CONV: inputs are the output's shape, weights [out, kh, kw, in], data and perhaps a bias."""

    padding: Padding
    strides: tuple[int, int]
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class AxisOptions:
    """CONCATENATION, PACK and UNPACK; a negative axis counts from the last one."""

    axis: int


@dataclass(frozen=True)
class StridedSliceOptions:
    """STRIDED_SLICE: bit i of a mask is about axis i.

    begin_mask, end_mask: ignore the begin or end; shrink_mask: take one index and drop the axis.
    """

    begin_mask: int = 0
    end_mask: int = 0
    shrink_mask: int = 0


@dataclass(frozen=True)
class ResizeOptions:
    """RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR: how output pixels fall on input pixels."""

    align_corners: bool = False
    half_pixel_centers: bool = False


@dataclass(frozen=True)
class BlockOptions:
    """SPACE_TO_DEPTH and DEPTH_TO_SPACE: side of a square block of pixels."""

    size: int


@dataclass(frozen=True)
class LeakyReluOptions:
    """LEAKY_RELU: slope below zero, a float32 value."""

    alpha: float


@dataclass(frozen=True)
class NoOptions:
    """Operators without options, or whose tensors imply them (RESHAPE, PAD, QUANTIZE, ...)."""


Options = (
    Conv2DOptions
    | DepthwiseConv2DOptions
    | PoolOptions
    | ActivationOptions
    | MeanOptions
    | SoftmaxOptions
    | TransposeConvOptions
    | AxisOptions
    | StridedSliceOptions
    | ResizeOptions
    | BlockOptions
    | LeakyReluOptions
    | NoOptions
)


@dataclass(frozen=True)
class Operator:
    """One operator; inputs and outputs are tensor indices, -1 is an absent optional input.

    kind: the builtin's name, e.g. "CONV_2D"; name: the layer's name as shown to users.
    """

    index: int
    kind: str
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options = field(default_factory=NoOptions)


@dataclass(frozen=True)
class Graph:
    """One subgraph of a .tflite file, operators in execution order."""

    name: str
    sha256: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
