"""The TensorRT releases, and the operators and data types that the ONNX parser of each release supports.

Sources: docs/operators.md and docs/Changelog.md of github.com/onnx/onnx-tensorrt. The table is that of release 10.15
(opsets 9 to 24) and the operators that later releases added (`_FIRST_IN`, from the changelog and the release notes of
11.0 and 11.2, which also has those that 10.3 lacks). Where no document says in which release an operator was added, the
later release counts. Types that exist only between QuantizeLinear and DequantizeLinear are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnx import TensorProto

from sr_edge.errors import UnknownNameError

Version = tuple[int, int]

_HALF_OR_SINGLE = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})
_FLOAT = _HALF_OR_SINGLE | {TensorProto.BFLOAT16}
_NUMBER = _FLOAT | {TensorProto.INT32, TensorProto.INT64}
_BOOL = frozenset({TensorProto.BOOL})
_ANY = _NUMBER | _BOOL

_OPERATORS: tuple[tuple[frozenset[int], str], ...] = (
    (
        _FLOAT,
        "Acos Acosh Asin Asinh Atan Atanh Attention AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose "
        "Cos Cosh CumSum DFT Dropout Einsum Elu Erf Exp Floor GRU Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool "
        "GroupNormalization HardSigmoid HardSwish Hardmax ImageScaler InstanceNormalization IsInf LRN LSTM "
        "LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization "
        "PRelu ParametricSoftplus QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform "
        "RandomUniformLike Reciprocal Resize RotaryEmbedding Round ScaledTanh Scan Selu Sigmoid Sin Sinh Softmax "
        "Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Upsample",
    ),
    (
        _HALF_OR_SINGLE,
        "BlackmanWindow DeformConv GridSample HammingWindow HannWindow Mish NonMaxSuppression NonZero RoiAlign",
    ),
    (
        _NUMBER,
        "Abs Add ArgMax ArgMin DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min "
        "Mod Mul Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
        "ReduceProd ReduceSum ReduceSumSquare Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum "
        "TensorScatter TopK",
    ),
    (
        _ANY,
        "Concat Constant ConstantOfShape Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot "
        "Reshape ReverseSequence Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where",
    ),
    (_ANY | {TensorProto.UINT8}, "Cast CastLike"),
    (_BOOL, "And Not Or Xor"),
    (frozenset({TensorProto.FLOAT}), "STFT"),
    (
        frozenset({TensorProto.INT8, TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1}),
        "DequantizeLinear",
    ),
)

_FIRST_IN: Mapping[str, Version] = {
    "BlackmanWindow": (10, 4),
    "HammingWindow": (10, 4),
    "HannWindow": (10, 4),
    "STFT": (10, 5),
    "Attention": (10, 14),
    "Mish": (10, 15),
    "RMSNormalization": (10, 15),
    "RotaryEmbedding": (10, 15),
    "TensorScatter": (10, 15),
    "Swish": (11, 0),
    "DFT": (11, 2),
}


def _types_by_operator() -> Iterator[tuple[str, frozenset[int]]]:
    for types, names in _OPERATORS:
        for operator in names.split():
            yield operator, types


SUPPORTED_TYPES: Mapping[str, frozenset[int]] = dict(_types_by_operator())
"""The data types of each operator, as constants of onnx.TensorProto, in the newest release of the table."""


def first_release_with(operator: str) -> Version:
    """The version that added an operator of `SUPPORTED_TYPES`; (0, 0) where every release of the table has it."""
    return _FIRST_IN.get(operator, (0, 0))


@dataclass(frozen=True)
class TensorRTRelease:
    """A release with the newest ONNX opset that its parser reads; the oldest is OLDEST_OPSET for all releases."""

    version: Version
    newest_opset: int

    @property
    def name(self) -> str:
        """The name on the command line, such as tensorrt-10.3."""
        return "tensorrt-{}.{}".format(*self.version)

    def __str__(self) -> str:
        return "TensorRT {}.{}".format(*self.version)


OLDEST_OPSET = 9

TENSORRT_RELEASES = (
    TensorRTRelease((10, 3), newest_opset=20),  # JetPack 6.1 and 6.2
    TensorRTRelease((10, 13), newest_opset=22),  # JetPack 7.0; sources differ, 24 is named too
    TensorRTRelease((10, 16), newest_opset=24),  # JetPack 7.2
    TensorRTRelease((11, 0), newest_opset=24),
    TensorRTRelease((11, 4), newest_opset=24),  # 25 comes with 11.5
)


def find_release(name: str) -> TensorRTRelease:
    """The release of that name; raises UnknownNameError."""
    for release in TENSORRT_RELEASES:
        if release.name == name:
            return release
    raise UnknownNameError("target", name, [release.name for release in TENSORRT_RELEASES])
