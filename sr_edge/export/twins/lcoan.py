"""The static twin of LCoAN: clusters by exact arithmetic, a counting sort, and windows by gathers of constant size.

What the groups share is computed once for each image: the order of the tokens, the positions that every window reads,
and the attention weights after the softmax. A group then costs one 1x1 convolution, one gather (which includes the
neighbours of the windows), one matrix multiplication and one gather back. The query convolutions of groups 2 to 10 and
the scalar `a` are not needed; both factors 0.1 and the last mean shift are folded into weights. The first mean shift
stays a subtraction: the convolution after it pads with zeros, which must not be shifted.

Clusters must not depend on the order in which a runtime adds numbers, or a near tie would put a token into another
window. The argmax of cosines does not change when a token is scaled so that its largest |value| is 1. Token and
centroid are then cut into three digits of 8 bits (t = a/2^7 + a'/2^15 + a''/2^23). Products of digits are integers,
their sums over the channels stay below 2^24, and float32 adds such numbers exactly in any order:

    score = S_0 + (S_1 + S_2 / 2^8) / 2^8,   S_0 = a·c,   S_1 = a·c' + a'·c,   S_2 = a·c'' + a'·c' + a''·c

with two rounded additions, both between single numbers. A float32 feature map therefore gives the same clusters in
every runtime that rounds as IEEE 754 does, and equal scores select the lowest index. The digits lose the last bit of
float32: where two cosines are closer than 2^-22, the training form may choose the other centroid. With OpenVINO's bf16
hint the feature map itself is less precise and so are the scores: some tokens change their cluster (`moved_share`),
whereas ranks and order are integers and stay exact for the clusters that were chosen.

Bounds for float16: digits and ones are small, but S reaches 2^23, hence the prefix fp32_ of `fp32_nearest`; scores are
at most the length of the longest query, which is a token of a convolution's output; the weights of a softmax sum to 1.

Source: Zhao et al., arXiv 2404.04922, eqs. 7-12 (sr_edge/models/layers/lsp.py); the counting sort and the digits are
added here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.errors import ExportError
from sr_edge.export.twins.affine import biases, with_weights
from sr_edge.export.twins.counting_sort import CountingSort
from sr_edge.models.architectures.lcoan import GROUP_SCALE, LCoAN, ResidualGroup
from sr_edge.models.layers.lsp import ATTENTION_SCALE, KEY_EPS, Centroids, CollaborativeAttention, window_places

DIGITS = 3
DIGIT_BITS = 8
MOST_FEATURES = 2**24 // (DIGITS * 2**14)  # sums of three products of digits up to 2^7 stay below 2^24
SMALLEST_PEAK = 1e-30  # a token of zeros is divided by this and is assigned to centroid 0


def digits_of(values: Tensor) -> Tensor:
    """Cuts numbers in [-1, 1] into DIGITS integers of magnitude up to 2^7: (n, features) -> (n, DIGITS * features)."""
    remainder = values * 2 ** (DIGIT_BITS - 1)
    digits = [torch.round(remainder)]
    while len(digits) < DIGITS:
        remainder = (remainder - digits[-1]) * 2**DIGIT_BITS
        digits.append(torch.round(remainder))
    return torch.cat(digits, dim=-1)


def digit_products(centroids: Tensor) -> Tensor:
    """The constant (DIGITS * features, DIGITS * clusters) whose product with a token's digits is (S_0, S_1, S_2)."""
    digits = digits_of(functional.normalize(centroids.double(), dim=-1)).T
    blocks = torch.split(digits, centroids.shape[1])
    zero = torch.zeros_like(blocks[0])
    rows = [[blocks[total - row] if row <= total else zero for total in range(DIGITS)] for row in range(DIGITS)]
    return torch.cat([torch.cat(row, dim=1) for row in rows])


class NearestCentroid(nn.Module):
    """The centroid of largest cosine for each token: (tokens, features) -> (tokens,) int64; computed in float32.

    The arithmetic is that of the module's docstring.
    """

    products: Tensor
    falling: Tensor

    def __init__(self, centroids: Centroids) -> None:
        super().__init__()
        _, self.clusters, features = centroids.means.shape
        if features > MOST_FEATURES:
            raise ExportError(
                f"the static form cannot compare clusters of {features} features exactly; its sums are exact for "
                f"at most {MOST_FEATURES} features",
                found=features,
                wanted=MOST_FEATURES,
            )
        products = digit_products(centroids.means[0])
        self.register_buffer("products", products.to(centroids.means.dtype))
        self.register_buffer("falling", torch.arange(self.clusters, 0, -1))

    def forward(self, embedded: Tensor) -> Tensor:
        # OpenVINO divides a tensor by multiplying with the reciprocal, which rounds twice. Writing it so gives the same
        # numbers in every runtime.
        gain = 1 / embedded.abs().amax(dim=-1, keepdim=True).clamp_min(SMALLEST_PEAK)
        sums = torch.split(digits_of(embedded * gain) @ self.products, self.clusters, dim=-1)
        score = sums[-1]
        for total in reversed(sums[:-1]):
            score = total + score / 2**DIGIT_BITS
        # Runtimes differ in how ArgMax resolves ties. Counted from the end, the lowest index has the largest number.
        best = score == score.amax(dim=-1, keepdim=True)
        return self.clusters - (best * self.falling).amax(dim=-1)


class InverseKeyLength(nn.Module):
    """1 / max(|x|, KEY_EPS) of every token (tokens, features); computed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return 1 / torch.sqrt((x * x).sum(-1, keepdim=True)).clamp_min(KEY_EPS)


class AttentionPattern(NamedTuple):
    """The attention weights and token positions that all groups share.

    `span` is 3 w, or w where one window contains all tokens: such a window is its own neighbour, and a softmax over
    three copies of the scores gives the same result as one over a single copy.

    Attributes:
        weights: Attention weights after the softmax, (windows, w, span).
        read: The token that each window reads at each position, (windows * span,).
        ranks: The position of each token in the sorted order, (tokens,).
    """

    weights: Tensor
    read: Tensor
    ranks: Tensor


class StaticPattern(nn.Module):
    """The twin of LSP on (1, features, height, width)."""

    window_slots: Tensor
    reading_slots: Tensor

    def __init__(self, layer: CollaborativeAttention, tokens: int) -> None:
        super().__init__()
        self.window = layer.window
        self.conv_match = copy.deepcopy(layer.conv_match[0])
        self.fp32_nearest = NearestCentroid(layer.kmeans)
        self.sort = CountingSort(tokens, layer.kmeans.means.shape[1])
        self.fp32_inverse_length = InverseKeyLength()
        slots = window_places(tokens, self.window)
        self.register_buffer("window_slots", slots)
        self.register_buffer("reading_slots", reading_places(slots.reshape(-1, self.window)))

    def embedded(self, x: Tensor) -> Tensor:
        """Queries and keys, which are the same: (tokens, features)."""
        return token_rows(self.conv_match(x))

    def forward(self, x: Tensor) -> AttentionPattern:
        embedded = self.embedded(x)
        ranks, order = self.sort(self.fp32_nearest(embedded))
        read = order[self.reading_slots]
        keys = embedded * self.fp32_inverse_length(embedded)
        queries = embedded[order[self.window_slots]].reshape(-1, self.window, embedded.shape[1])
        scores = queries @ keys[read].reshape(len(queries), -1, embedded.shape[1]).transpose(-1, -2)
        return AttentionPattern(torch.softmax(scores, dim=-1), read, ranks)


def reading_places(slots: Tensor) -> Tensor:
    """The positions that each window reads (windows * span,): those of itself, its predecessor and its successor."""
    if len(slots) == 1:
        return slots.flatten()
    return torch.cat([slots, slots.roll(1, dims=0), slots.roll(-1, dims=0)], dim=1).flatten()


def token_rows(plane: Tensor) -> Tensor:
    """(1, features, height, width) -> (height * width, features).

    The permutation comes first: the convolutions of OpenVINO keep the channels last, so it moves no data.
    """
    return plane.permute(0, 2, 3, 1).flatten(0, 2)


def plane_of(rows: Tensor, shape: torch.Size) -> Tensor:
    """Inverse of `token_rows`."""
    _, features, height, width = shape
    return rows.reshape(1, height, width, features).permute(0, 3, 1, 2)


class StaticLCoANGroup(nn.Module):
    """One residual group; its `blocks` are called separately, since LSP runs after the blocks of the first group."""

    def __init__(self, group: ResidualGroup) -> None:
        super().__init__()
        self.blocks = copy.deepcopy(group.local_body)
        self.values = scaled(cast("nn.Conv2d", group.lcoa.conv_assembly[0]), ATTENTION_SCALE)
        self.conv = scaled(cast("nn.Conv2d", group.m_conv[0]), GROUP_SCALE)

    def forward(self, x: Tensor, local: Tensor, pattern: AttentionPattern) -> Tensor:
        """CoA (eq. 12), the convolution after it, and the residual connection of the group; `local` is `blocks(x)`."""
        values = token_rows(self.values(local))
        windows = pattern.weights @ values[pattern.read].reshape(len(pattern.weights), -1, values.shape[1])
        attended = windows.flatten(0, 1)[pattern.ranks]
        return x + self.conv(local + plane_of(attended, local.shape))


def scaled(conv: nn.Conv2d, factor: float) -> nn.Conv2d:
    """A copy of `conv` whose output is multiplied by `factor`."""
    return with_weights(conv, conv.weight.double() * factor, biases(conv) * factor)


class StaticLCoAN(nn.Module):
    """LCoAN for one input shape, (1, 3, height, width)."""

    offset: Tensor

    def __init__(self, network: LCoAN, input_shape: torch.Size) -> None:
        super().__init__()
        _, _, height, width = input_shape
        groups = list(cast("Iterable[ResidualGroup]", network.body))
        self.head, offset = head_behind_shift(cast("nn.Conv2d", network.head[0]), network.sub_mean)
        self.register_buffer("offset", offset)
        self.pattern = StaticPattern(groups[0].lcoa, height * width)
        self.groups = nn.ModuleList(StaticLCoANGroup(group) for group in groups)
        self.m_conv = copy.deepcopy(network.m_conv[0])
        *upsample, last = (*cast("nn.Sequential", network.tail[0]), cast("nn.Conv2d", network.tail[1]))
        self.tail = nn.Sequential(*copy.deepcopy(upsample), tail_before_shift(last, network.add_mean))

    def forward(self, x: Tensor) -> Tensor:
        deep = shallow = self.head(x + self.offset)
        pattern: AttentionPattern | None = None
        for group in self._groups():
            local = group.blocks(deep)
            pattern = pattern or self.pattern(local)
            deep = group(deep, local, pattern)
        return self.tail(shallow + self.m_conv(deep))

    def _groups(self) -> Sequence[StaticLCoANGroup]:
        return cast("Sequence[StaticLCoANGroup]", self.groups)

    def clusters(self, x: Tensor) -> Tensor:
        """The cluster of every token of an image (1, 3, height, width): (tokens,) int64."""
        local = self._groups()[0].blocks(self.head(x + self.offset))
        return self.pattern.fp32_nearest(self.pattern.embedded(local))


def head_behind_shift(conv: nn.Conv2d, shift: nn.Conv2d) -> tuple[nn.Conv2d, Tensor]:
    """Returns conv' and an offset (1, 3, 1, 1) with conv'(x + offset) = conv(shift(x)), zero padding included."""
    matrix = shift.weight.double()[:, :, 0, 0]
    weight = torch.einsum("oihw,ij->ojhw", conv.weight.double(), matrix)
    offset = torch.linalg.solve(matrix, biases(shift)).view(1, -1, 1, 1)
    return with_weights(conv, weight, biases(conv)), offset.to(conv.weight.dtype)


def tail_before_shift(conv: nn.Conv2d, shift: nn.Conv2d) -> nn.Conv2d:
    """The convolution that computes shift(conv(x))."""
    matrix = shift.weight.double()[:, :, 0, 0]
    weight = torch.einsum("po,oijk->pijk", matrix, conv.weight.double())
    return with_weights(conv, weight, matrix @ biases(conv) + biases(shift))


def moved_share(candidate: Tensor, reference: Tensor) -> float:
    """Share of tokens in another cluster than in `reference`, which measures the effect of lower precision on LSP."""
    return (candidate != reference).double().mean().item()


TWINS = ((LCoAN, StaticLCoAN),)
