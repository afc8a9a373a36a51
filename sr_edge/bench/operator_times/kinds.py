"""Three kinds of work that the layers of compiled graphs do: arithmetic, elementwise work, and movement of data."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum


class Kind(str, Enum):
    """What a layer spends its time on."""

    ARITHMETIC = "arithmetic"
    """Convolutions, matrix products and attention: the multiply-accumulate operations of the network."""

    ELEMENTWISE = "elementwise"
    """All other computation: sums, activations, normalizations, reductions, softmax, interpolation, quantization."""

    MOVEMENT = "movement"
    """Values are copied to other places, layouts or types, and none is computed."""

    def __str__(self) -> str:
        return self.value


FUSED = "subgraph"
"""OpenVINO's operator of layers that it generates code for; what they do depends on what they were made of."""

_ARITHMETIC_NAMES = """
    conv fusedconv nhwcfusedconv nhwcconv convtranspose qlinearconv qlinearconvtranspose convinteger deformconv
    matmul fusedmatmul transposematmul gemm fusedgemm qgemm qlinearmatmul matmulinteger matmulintegertofloat
    dynamicquantizematmul matmulnbits einsum attention multiheadattention qattention groupqueryattention lstm gru rnn
    convolution deconvolution groupconvolution binaryconvolution deformableconvolution fullyconnected fully_connected
    scaleddotproductattention mha rnncell rnnseq lstmcell lstmsequence
"""
_MOVEMENT_NAMES = """
    reorder reorderinput reorderoutput transpose reshape flatten squeeze unsqueeze split variadicsplit slice
    stridedslice concat concatenation gather gatherelements gathernd scatterelements scatternd scatterupdate
    scatterelementsupdate scatterndupdate pad tile expand broadcast roll depthtospace spacetodepth shufflechannels
    reversesequence identity cast convert memcpyfromhost memcpytohost memoryinput memoryoutput extractimagepatches
    shapeof shape constantofshape batchtospace spacetobatch
"""
_ARITHMETIC, _MOVEMENT = frozenset(_ARITHMETIC_NAMES.split()), frozenset(_MOVEMENT_NAMES.split())


def kind_of(operator: str, made_of: Collection[str] = ()) -> Kind:
    """The kind of a layer.

    Args:
        operator: the runtime's or ONNX's name of the operator.
        made_of: the ONNX operators that the layer was made of; only a fused layer's kind depends on them.
    """
    name = operator.lower()
    if name == FUSED and made_of:
        kinds = {kind_of(inner) for inner in made_of}
        return next(kind for kind in (Kind.ARITHMETIC, Kind.ELEMENTWISE, Kind.MOVEMENT) if kind in kinds)
    if name in _ARITHMETIC:
        return Kind.ARITHMETIC
    return Kind.MOVEMENT if name in _MOVEMENT else Kind.ELEMENTWISE
