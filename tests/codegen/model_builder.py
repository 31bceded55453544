"""Small int8 .tflite files made straight from the schema, without a TensorFlow converter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

ACTIVATIONS = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}
PADDINGS = {"same": 0, "valid": 1}
_TYPES = {"int8": 9, "int32": 2, "float32": 0}


class ModelBuilder:
    """Collects tensors and operators; methods return tensor indices."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]
        self._operators: list[Any] = []
        self._codes: list[int] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "int8",
        scale: float | Sequence[float] | None = None,
        zero_point: int = 0,
        *,
        data: npt.NDArray[Any] | None = None,
        axis: int = 0,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name = f"t{len(self._tensors)}".encode()
        tensor.shape = list(shape)
        tensor.type = _TYPES[dtype]
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, dtype=np.float32))
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = scales
            tensor.quantization.zeroPoint = np.full(len(scales), zero_point, dtype=np.int64)
            tensor.quantization.quantizedDimension = axis
        if data is not None:
            buffer = schema.BufferT()
            raw = np.ascontiguousarray(data, dtype=dtype).tobytes()
            buffer.data = np.frombuffer(raw, dtype=np.uint8)
            tensor.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def shape_of(self, tensor: int) -> list[int]:
        return list(self._tensors[tensor].shape)

    def steps_of(self, tensor: int) -> tuple[float, int]:
        quantization = self._tensors[tensor].quantization
        return float(quantization.scale[0]), int(quantization.zeroPoint[0])

    def scale_of(self, tensor: int) -> float:
        return float(self._tensors[tensor].quantization.scale[0])

    def input(
        self, shape: Sequence[int], scale: float | None, zero_point: int = 0, dtype: str = "int8"
    ) -> int:
        self.inputs.append(self.tensor(shape, dtype, scale, zero_point))
        return self.inputs[-1]

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        output: int | Sequence[int],
        options: Any = None,
        options_name: str = "",
    ) -> int:
        code = getattr(schema.BuiltinOperator, kind)
        if code not in self._codes:
            self._codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.index(code)
        operator.inputs = list(inputs)
        outputs = [output] if isinstance(output, int) else list(output)
        operator.outputs = outputs
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options_name)
            operator.builtinOptions = options
        self._operators.append(operator)
        return outputs[0]

    def _weighted(self, kind: str, options: Any, given: tuple[Any, ...], output: int, *, axis: int) -> int:
        data, weights, bias, weight_scale = given
        in_scale = float(self._tensors[data].quantization.scale[0])
        inputs = [data, self.tensor(weights.shape, "int8", weight_scale, data=weights, axis=axis)]
        if bias is not None:
            scales = in_scale * np.asarray(weight_scale)
            inputs.append(self.tensor(bias.shape, "int32", scales, data=bias))
        return self.operator(kind, inputs, output, options, type(options).__name__[:-1])

    def conv_2d(
        self,
        data: int,
        weights: npt.NDArray[np.int8],
        bias: npt.NDArray[np.int32] | None,
        *,
        weight_scale: Sequence[float],
        output: int,
        padding: str = "same",
        strides: tuple[int, int] = (1, 1),
        dilations: tuple[int, int] = (1, 1),
        activation: str = "none",
    ) -> int:
        options = schema.Conv2DOptionsT()
        _geometry(options, padding, strides, activation)
        options.dilationHFactor, options.dilationWFactor = dilations
        given = (data, weights, bias, weight_scale)
        return self._weighted("CONV_2D", options, given, output, axis=0)

    def depthwise_conv_2d(
        self,
        data: int,
        weights: npt.NDArray[np.int8],
        bias: npt.NDArray[np.int32] | None,
        *,
        weight_scale: Sequence[float],
        output: int,
        padding: str = "same",
        strides: tuple[int, int] = (1, 1),
        dilations: tuple[int, int] = (1, 1),
        activation: str = "none",
        multiplier: int = 1,
    ) -> int:
        options = schema.DepthwiseConv2DOptionsT()
        _geometry(options, padding, strides, activation)
        options.dilationHFactor, options.dilationWFactor = dilations
        options.depthMultiplier = multiplier
        given = (data, weights, bias, weight_scale)
        return self._weighted("DEPTHWISE_CONV_2D", options, given, output, axis=3)

    def fully_connected(
        self,
        data: int,
        weights: npt.NDArray[np.int8],
        bias: npt.NDArray[np.int32] | None,
        *,
        weight_scale: Sequence[float],
        output: int,
        activation: str = "none",
    ) -> int:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = ACTIVATIONS[activation]
        given = (data, weights, bias, weight_scale)
        return self._weighted("FULLY_CONNECTED", options, given, output, axis=0)

    def pool_2d(
        self,
        kind: str,
        data: int,
        *,
        output: int,
        window: tuple[int, int],
        strides: tuple[int, int],
        padding: str = "valid",
        activation: str = "none",
    ) -> int:
        options = schema.Pool2DOptionsT()
        _geometry(options, padding, strides, activation)
        options.filterHeight, options.filterWidth = window
        return self.operator(kind, [data], output, options, "Pool2DOptions")

    def binary(self, kind: str, left: int, right: int, output: int, activation: str = "none") -> int:
        name = f"{kind.capitalize()}Options"
        options = getattr(schema, f"{name}T")()
        options.fusedActivationFunction = ACTIVATIONS[activation]
        return self.operator(kind, [left, right], output, options, name)

    def mean(self, data: int, axes: Sequence[int], keep_dims: bool, output: int) -> int:
        options = schema.ReducerOptionsT()
        options.keepDims = keep_dims
        axis = self.tensor([len(axes)], "int32", data=np.array(axes))
        return self.operator("MEAN", [data, axis], output, options, "ReducerOptions")

    def pad(self, data: int, margins: npt.NDArray[np.int32], output: int) -> int:
        paddings = self.tensor(margins.shape, "int32", data=margins)
        return self.operator("PAD", [data, paddings], output, schema.PadOptionsT(), "PadOptions")

    def reshape(self, data: int, output: int) -> int:
        shape = self.tensor(
            [len(self._tensors[output].shape)], "int32", data=np.array(self._tensors[output].shape)
        )
        return self.operator("RESHAPE", [data, shape], output)

    def softmax(self, data: int, output: int, beta: float = 1.0) -> int:
        options = schema.SoftmaxOptionsT()
        options.beta = beta
        return self.operator("SOFTMAX", [data], output, options, "SoftmaxOptions")

    def with_options(
        self, kind: str, inputs: Sequence[int], output: int | Sequence[int], table: str, **fields: float
    ) -> int:
        """An operator with the options `table` of the schema, whose `fields` are set."""
        options = getattr(schema, f"{table}T")()
        for name, value in fields.items():
            assert hasattr(options, name)
            setattr(options, name, value)
        return self.operator(kind, inputs, output, options, table)

    def constant(self, values: npt.ArrayLike, dtype: str = "int32", scale: float | None = None) -> int:
        """A constant that holds `values`."""
        data = np.asarray(values, dtype=dtype)
        return self.tensor(data.shape, dtype, scale, data=data)

    def unary(self, kind: str, data: int, output: int) -> int:
        return self.operator(kind, [data], output)

    def build(self, *outputs: int) -> bytes:
        """The bytes of the file; `outputs` are the graph's outputs."""
        subgraph = schema.SubGraphT()
        subgraph.tensors = self._tensors
        subgraph.operators = self._operators
        subgraph.inputs = self.inputs
        subgraph.outputs = list(outputs)
        model = schema.ModelT()
        model.version = 3
        model.description = b"tinyboost test model"
        model.subgraphs = [subgraph]
        model.buffers = self._buffers
        for value in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = value, min(value, 127), 1
            model.operatorCodes = [*(model.operatorCodes or []), code]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def _geometry(options: Any, padding: str, strides: tuple[int, int], activation: str) -> None:
    options.padding = PADDINGS[padding]
    options.strideH, options.strideW = strides
    options.fusedActivationFunction = ACTIVATIONS[activation]
