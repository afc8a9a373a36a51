"""Small graphs that break one rule each, each with a near miss that does not."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

NINE = "1,1,1,1,1,1,1,2,3"
EIGHT = "1,1,1,1,1,1,2,3"


def graph(text: str, opset: int = 17) -> onnx.ModelProto:
    """A model of one graph in ONNX's text form."""
    domains = f'"" : {opset}, "com.example" : 1'
    return onnx.parser.parse_model(f"<ir_version: 8, opset_import: [{domains}]> g {text}")


@dataclass(frozen=True)
class Case:
    """`bad` breaks `rule` at an operator `op`; `good` is nearly the same and does not.

    `newest_refusing` is the last release of the table that refuses it, None where all do; `rtx` says whether TensorRT
    for RTX refuses it.
    """

    rule: str
    op: str
    bad: str
    good: str
    opset: int = 17
    newest_refusing: str | None = None
    rtx: bool = True

    @property
    def name(self) -> str:
        return f"{self.rule}: {self.op}"

    @property
    def bad_graph(self) -> onnx.ModelProto:
        return graph(self.bad, self.opset)

    @property
    def good_graph(self) -> onnx.ModelProto:
        return graph(self.good, self.opset)


def resize(attributes: str) -> str:
    return (
        "(float[1,3,8,8] a) => (float[1,3,4,4] y) <float[8] r = {0,0,0,0,1,1,1,1}, float[4] s = {1,1,0.5,0.5}> "
        f"{{ y = Resize<{attributes}>(a, r, s) }}"
    )


def top_k(count: int, attributes: str = "sorted = 1") -> str:
    return (
        f"(float[1,5000] a) => (float[1,{count}] y, int64[1,{count}] i) <int64[1] k = {{{count}}}> "
        f"{{ y, i = TopK<{attributes}>(a, k) }}"
    )


def quantized(element: str, zero: int) -> str:
    return (
        f"(float[2] a) => (float[2] y) <float s = {{0.5}}, {element} z = {{{zero}}}> "
        "{ b = QuantizeLinear(a, s, z) y = DequantizeLinear(b, s, z) }"
    )


def pool(attributes: str, side: int) -> str:
    return f"(float[1,3,8,8] a) => (float[1,3,{side},{side}] y) {{ y = MaxPool<{attributes}>(a) }}"


def einsum(equation: str, shape: str) -> str:
    return f'(float[2,3] a, float[2,3] b) => (float[{shape}] y) {{ y = Einsum<equation = "{equation}">(a, b) }}'


def two_sums(first: str, second: str) -> str:
    """Two CumSum nodes, given by axis and attributes."""
    (axis, attributes), (other_axis, other_attributes) = first.split("|"), second.split("|")
    return (
        f"(float[2,3] a) => (float[2,3] y) <int64 p = {{{axis}}}, int64 q = {{{other_axis}}}> "
        f"{{ b = CumSum<reverse = {attributes}>(a, p) y = CumSum<reverse = {other_attributes}>(b, q) }}"
    )


RELU = "(float[2] a) => (float[2] y) { y = Relu(a) }"

TENSORRT_CASES = (
    Case("opset of TensorRT", "model", RELU, RELU, opset=8, rtx=False),
    Case("opset of TensorRT", "model", RELU, RELU, opset=21, newest_refusing="tensorrt-10.3", rtx=False),
    Case(
        "operator of TensorRT",
        "DynamicQuantizeLinear",
        "(float[2] a) => (uint8[2] y, float s, uint8 z) { y, s, z = DynamicQuantizeLinear(a) }",
        RELU,
    ),
    Case("operator of TensorRT", "Unique", "(float[6] a) => (float[n] y) { y = Unique(a) }", RELU),
    Case(
        "operator of TensorRT",
        "BlackmanWindow",
        "(int64 n) => (float[m] y) { y = BlackmanWindow(n) }",
        RELU,
        newest_refusing="tensorrt-10.3",
        rtx=False,
    ),
    Case(
        "operator of TensorRT",
        "RMSNormalization",
        "(float[2,3] a) => (float[2,3] y) <float[3] s = {1,1,1}> { y = RMSNormalization(a, s) }",
        "(float[2,3] a) => (float[2,3] y) <float[3] s = {1,1,1}> { y = LayerNormalization(a, s) }",
        opset=23,
        newest_refusing="tensorrt-10.13",
        rtx=False,
    ),
    Case(
        "operator of TensorRT",
        "Swish",
        "(float[2] a) => (float[2] y) { y = Swish(a) }",
        RELU,
        opset=24,
        newest_refusing="tensorrt-10.16",
        rtx=False,
    ),
    Case(
        "data type",
        "MatMul",
        "(int32[2,3] a, int32[3,4] b) => (int32[2,4] y) { y = MatMul(a, b) }",
        "(float[2,3] a, float[3,4] b) => (float[2,4] y) { y = MatMul(a, b) }",
    ),
    Case(
        "data type",
        "Where",
        "(bool[2] c, uint8[2] a, uint8[2] b) => (uint8[2] y) { y = Where(c, a, b) }",
        "(int64[9] a, bool[9] c) => (int64[9] y) <int64[9] b = {0,1,2,3,4,5,6,7,8}> { y = Where(c, a, b) }",
    ),
    Case(
        "uint8 inside",
        "Cast",
        "(float[2] a) => (float[2] y) { b = Cast<to = 2>(a) y = Cast<to = 1>(b) }",
        "(uint8[1,4,4,3] a) => (uint8[1,4,4,3] y) { b = Cast<to = 1>(a) y = Cast<to = 2>(b) }",
    ),
    Case("quantization", "QuantizeLinear", quantized("int8", 3), quantized("int8", 0)),
    Case("quantization", "QuantizeLinear", quantized("uint8", 128), quantized("int8", 0)),
    Case("quantization", "QuantizeLinear", quantized("int16", 0), quantized("int8", 0), opset=21),
    Case(
        "quantization",
        "DequantizeLinear",
        "(float[2] a) => (float[2] y) <int32[2] b = {1, 2}, float s = {0.5}> "
        "{ c = DequantizeLinear(b, s) y = Add(a, c) }",
        "(float[2] a) => (float[2] y) <int8[2] b = {1, 2}, float s = {0.5}> "
        "{ c = DequantizeLinear(b, s) y = Add(a, c) }",
    ),
    Case(
        "mixed float types",
        "Pow",
        "(float16[2] a) => (float16[2] y) <float two = {2.0}> { y = Pow(a, two) }",
        "(float16[2] a, float16[2] b) => (float16[2] y) { y = Pow(a, b) }",
        rtx=False,
    ),
    Case(
        "rank",
        "Relu",
        f"(float[{NINE}] a) => (float[{NINE}] y) {{ y = Relu(a) }}",
        f"(float[{EIGHT}] a) => (float[{EIGHT}] y) {{ y = Relu(a) }}",
    ),
    Case(
        "tensor size",
        "Relu",
        "(float[2048,1024,1024] a) => (float[2048,1024,1024] y) { y = Relu(a) }",
        "(float[2047,1024,1024] a) => (float[2047,1024,1024] y) { y = Relu(a) }",
        rtx=False,
    ),
    Case("top-k", "TopK", top_k(3841), top_k(3840)),
    Case("top-k", "TopK", top_k(4000), top_k(3839)),
    Case("unsorted top-k", "TopK", top_k(5, "sorted = 0"), top_k(5), rtx=False),
    Case(
        "build-time constant",
        "ReduceSum",
        "(float[2,3] a, int64[1] axis) => (float[m,n] y) { y = ReduceSum(a, axis) }",
        "(float[2,3] a) => (float[1,3] y) <int64[1] axis = {0}> { y = ReduceSum(a, axis) }",
    ),
    Case(
        "build-time constant",
        "Unsqueeze",
        "(float[2] a, int64[1] axis) => (float[m,n] y) { y = Unsqueeze(a, axis) }",
        "(float[2] a) => (float[1,2] y) <int64[1] axis = {0}> { y = Unsqueeze(a, axis) }",
    ),
    Case(
        "build-time constant",
        "Unsqueeze",
        "(float[2] a) => (float[m,n] y) <int64[1] p = {0}, int64[1] q = {0}> "
        "{ axis = Add(p, q) y = Unsqueeze(a, axis) }",
        "(float[2] a) => (float[1,2] y) <int64[1] axis = {0}> { y = Unsqueeze(a, axis) }",
        newest_refusing="tensorrt-10.3",
        rtx=False,
    ),
    Case("resizing", "Resize", resize('mode = "linear", antialias = 1'), resize('mode = "linear"'), opset=18),
    Case(
        "resizing",
        "Resize",
        resize('mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize"'),
        resize('mode = "cubic", coordinate_transformation_mode = "half_pixel"'),
    ),
    Case(
        "pooled dimensions",
        "MaxPool",
        "(float[1,3,8] a) => (float[1,3,7] y) { y = MaxPool<kernel_shape = [2]>(a) }",
        pool("kernel_shape = [2,2]", 7),
        rtx=False,
    ),
    Case(
        "pooling",
        "MaxPool",
        pool("kernel_shape = [2,2], dilations = [2,2]", 6),
        pool("kernel_shape = [2,2], dilations = [1,1]", 7),
    ),
    Case(
        "pooling",
        "MaxPool",
        "(float[1,3,8,8] a) => (float[1,3,7,7] y, int64[1,3,7,7] i) { y, i = MaxPool<kernel_shape = [2,2]>(a) }",
        pool("kernel_shape = [2,2]", 7),
    ),
    Case(
        "restriction of TensorRT",
        "LayerNormalization",
        "(float[2,3] a) => (float[2,3] y, float[2,1] m) <float[3] s = {1,1,1}> { y, m = LayerNormalization(a, s) }",
        "(float[2,3] a) => (float[2,3] y) <float[3] s = {1,1,1}> { y = LayerNormalization(a, s) }",
    ),
    Case(
        "restriction of TensorRT",
        "ScatterND",
        '(float[4] a, float[1] u) => (float[4] y) <int64[1,1] i = {2}> { y = ScatterND<reduction = "add">(a, i, u) }',
        "(float[4] a, float[1] u) => (float[4] y) <int64[1,1] i = {2}> { y = ScatterND(a, i, u) }",
    ),
    Case(
        "restriction of TensorRT",
        "Pad",
        "(float[1,4] a) => (float[1,6] y) <int64[2] p = {1,1}, int64[1] x = {1}> { y = Pad(a, p, , x) }",
        "(float[1,4] a) => (float[1,6] y) <int64[4] p = {0,1,0,1}> { y = Pad(a, p) }",
        opset=18,
        newest_refusing="tensorrt-10.3",
        rtx=False,
    ),
    Case(
        "restriction of TensorRT",
        "Einsum",
        einsum("...i,...i->...", "2"),
        einsum("ij,kj->ik", "2,2"),
        newest_refusing="tensorrt-10.3",
        rtx=False,
    ),
    Case(
        "restriction of TensorRT",
        "Pow",
        "(int32[2] a) => (int32[2] y) <int32 two = {2}> { y = Pow(a, two) }",
        "(float[2] a) => (float[2] y) <float two = {2.0}> { y = Pow(a, two) }",
        newest_refusing="tensorrt-10.3",
        rtx=False,
    ),
    Case(
        "restriction of TensorRT",
        "GridSample",
        "(float[1,2,4,4,4] a, float[1,4,4,4,3] p) => (float[1,2,4,4,4] y) { y = GridSample(a, p) }",
        "(float[1,2,4,4] a, float[1,4,4,2] p) => (float[1,2,4,4] y) { y = GridSample(a, p) }",
        opset=20,
        newest_refusing="tensorrt-11.0",
        rtx=False,
    ),
)

_WEIGHT = ",".join(["0.1"] * 54)

RTX_CASES = (
    Case(
        "operator of TensorRT for RTX",
        "DeformConv",
        f"(float[1,3,8,8] a, float[1,18,6,6] o) => (float[1,2,6,6] y) <float[2,3,3,3] w = {{{_WEIGHT}}}> "
        "{ y = DeformConv<kernel_shape = [3,3]>(a, w, o) }",
        RELU,
        opset=19,
    ),
    Case(
        "operator of TensorRT for RTX",
        "NonZero",
        "(float[2,3] a) => (int64[2,n] y) { y = NonZero(a) }",
        RELU,
    ),
    Case(
        "operator of TensorRT for RTX",
        "NonMaxSuppression",
        "(float[1,4,4] a, float[1,1,4] s) => (int64[n,3] y) <int64[1] m = {4}> { y = NonMaxSuppression(a, s, m) }",
        RELU,
    ),
    Case(
        "operator of TensorRT for RTX",
        "DFT",
        "(float[1,8,2] a) => (float[1,8,2] y) { y = DFT<axis = 1>(a) }",
        RELU,
    ),
)
"""What TensorRT for RTX alone refuses."""

BUILT_EVERYWHERE = (
    einsum("ij,kj->ik", "2,2"),
    "(float[2,3] a) => (float[2,3] y) <int64 axis = {1}> { y = CumSum<exclusive = 1, reverse = 1>(a, axis) }",
    "(float[2,2,2,2,2,2] a) => (float[2,2,2,2,2,2] y) { y = Transpose(a) }",
    "(float[2,3] a) => (float[2,3] y) { s = Shape(a) z = ConstantOfShape(s) y = Add(a, z) }",
    "(float[2,3] a) => (int64[6] y) <int64 f = {0}, int64 d = {1}> { n = Size(a) y = Range(f, n, d) }",
    "(float[2] a) => (float[2] y) { b = Cast<to = 11>(a) c = Exp(b) y = Cast<to = 1>(c) }",
)
"""What was refused once and need not be: warnings only."""
