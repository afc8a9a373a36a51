"""What tiles do to pictures: how far networks look, and three ways of taking global statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sr_edge.bundle.plain import from_plain, to_plain
from sr_edge.errors import TileError, WeightsError
from sr_edge.frames import batch_from_frame
from sr_edge.models import LoadedModel, build_network
from sr_edge.models.layers.channel_attention import Excitation, GlobalMean
from sr_edge.models.tiles.global_statistics import combine_statistics, largest_change, recorded_statistics
from sr_edge.models.tiles.tile_safety import (
    LARGEST_DB,
    ReceptiveField,
    measure_receptive_field,
    measure_statistics_change,
    measure_tile_needs,
    measured_size,
    overlap_note,
    run_untiled,
    synthetic_frame,
    with_tile_needs,
)
from sr_edge.models.tiles.tiled import (
    TileStatistics,
    owned_weights,
    reference_statistics,
    synchronous_statistics,
    upscale_in_tiles,
)
from sr_edge.spec import ModelCard, TileSpec
from sr_edge.tiling import plan_tiles
from tests.expected_errors import raises

TILE = TileSpec(32, 32)
OVERLAP_PX = 16


class Blurs(nn.Module):
    """`count` box blurs, 3x3: a reach of `count` pixels exactly, fading."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.count):
            x = nn.functional.avg_pool2d(x, 3, 1, 1)
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


class Centred(nn.Module):
    """Two layers, the second's statistic depending on the first's: x less its mean, squared, by its own mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GlobalMean(), GlobalMean()

    def forward(self, x: Tensor) -> Tensor:
        squared = (x - self.first(x)) ** 2
        return (0.5 + 0.1 * squared / self.second(squared)).repeat_interleave(2, 2).repeat_interleave(2, 3)


def loaded(network: nn.Module, overlap_px: int = OVERLAP_PX) -> LoadedModel:
    return LoadedModel(network.eval(), ModelCard("net", 2, 0, overlap_px=overlap_px))


@pytest.mark.parametrize("count", [1, 3])
def test_the_reach_of_blurs_is_their_number(count: int) -> None:
    actual = measure_receptive_field(run_untiled(Blurs(count), synthetic_frame(31, 40)))
    assert actual.reach_px == count
    assert actual.halo_px is not None
    assert 1 <= actual.halo_px <= count


def test_a_reach_up_to_the_edge_is_said_to_be_unknown() -> None:
    assert measure_receptive_field(run_untiled(Blurs(8), synthetic_frame(11, 11))).reach_px is None


def test_statistics_are_held_while_the_reach_is_measured() -> None:
    whole = run_untiled(Centred(), synthetic_frame(24, 24))
    assert measure_receptive_field(whole) == ReceptiveField(0, 0)
    assert measure_statistics_change(whole) > 0.01
    assert measure_statistics_change(run_untiled(Blurs(1), synthetic_frame(24, 24))) == 0.0


def test_the_position_in_a_window_counts() -> None:
    class Windows(nn.Module):
        """Spreads every pixel over its 8x8 window."""

        def forward(self, x: Tensor) -> Tensor:
            means = nn.functional.avg_pool2d(x, 8)
            return means.repeat_interleave(16, 2).repeat_interleave(16, 3)

    assert measure_receptive_field(run_untiled(Windows(), synthetic_frame(48, 48))).reach_px == 7
    whole = run_untiled(Windows(), synthetic_frame(40, 40))
    assert measure_receptive_field(whole).reach_px == 4
    assert measure_receptive_field(whole, window_step_px=4).reach_px == 7


def test_the_reach_is_measured_in_a_picture_as_high_as_one_window_period() -> None:
    assert measure_receptive_field(run_untiled(Blurs(1), synthetic_frame(8, 24)), window_step_px=4).reach_px is None


@pytest.mark.parametrize("size", [(32, 32), (70, 45), (33, 100), (20, 90)])
def test_every_pixel_has_one_owner(size: tuple[int, int]) -> None:
    plan = plan_tiles(*size, TILE, OVERLAP_PX)
    owners = torch.zeros(size)
    for (row, column), weights in zip(plan.places(), owned_weights(plan), strict=True):
        part = weights[0, 0, : row.covered, : column.covered]
        assert part.sum() == weights.sum()
        owners[row.start : row.start + row.covered, column.start : column.start + column.covered] += part
    assert (owners == 1).all()


def test_tiles_add_up_to_the_combine_statistics_the_whole() -> None:
    frame = synthetic_frame(70, 45)
    plan = plan_tiles(70, 45, TILE, OVERLAP_PX)
    batch = torch.from_numpy(batch_from_frame(frame))
    shares = []
    for (row, column), weights in zip(plan.places(), owned_weights(plan), strict=True):
        with (
            recorded_statistics(Centred(), None, weights),
            recorded_statistics(network := Centred(), None, weights) as sums,
        ):
            network(batch[..., row.start : row.start + 32, column.start : column.start + 32])
        shares.append(sums)
    torch.testing.assert_close(combine_statistics(shares)[0], batch.mean((2, 3), keepdim=True))


def test_given_statistics_answer_and_the_tap_comes_off() -> None:
    network, batch = Centred(), torch.rand(1, 3, 4, 4)
    with recorded_statistics(network, (torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))):
        steered = network(batch)
    torch.testing.assert_close(steered[..., ::2, ::2], 0.5 + 0.1 * batch**2)
    assert not torch.equal(network(batch), steered)


def test_synchronous_statistics_make_tiles_exact() -> None:
    needs = measure_tile_needs(loaded(Centred()), TILE, OVERLAP_PX, synthetic_frame(70, 45))
    assert needs.synchronous_db is not None and needs.reference_db is not None
    assert needs.own_db < 40
    assert needs.own_db + 3 < needs.reference_db < needs.synchronous_db
    assert needs.synchronous_db > 85
    assert (needs.measured_on, needs.tile, needs.overlap_px) == (TileSpec(70, 45), TILE, OVERLAP_PX)


def test_a_network_of_single_pixels_is_whole_in_tiles() -> None:
    needs = measure_tile_needs(loaded(Blurs(0)), TILE, OVERLAP_PX, synthetic_frame(70, 45))
    assert (needs.reach_px, needs.own_db) == (0, LARGEST_DB)


def test_without_global_statistics_all_ways_are_one() -> None:
    frame = synthetic_frame(70, 45)
    needs = measure_tile_needs(loaded(Blurs(2)), TILE, OVERLAP_PX, frame)
    assert (needs.reference_db, needs.synchronous_db) == (None, None)
    assert 60 < needs.own_db < LARGEST_DB  # the fade gives a tile's outermost pixels a little weight
    ways = [upscale_in_tiles(Blurs(2), frame, TILE, 2, OVERLAP_PX, way) for way in TileStatistics]
    assert np.array_equal(ways[0], ways[1]) and np.array_equal(ways[0], ways[2])


def test_a_picture_of_one_tile_is_its_own_reference() -> None:
    frame = synthetic_frame(20, 30)
    with torch.inference_mode(), recorded_statistics(network := Centred()) as sums:
        network(torch.from_numpy(batch_from_frame(frame)))
    for actual, wanted in zip(reference_statistics(Centred(), frame, TILE), combine_statistics([sums]), strict=True):
        torch.testing.assert_close(actual, wanted)


def briefly_trained(name: str, steps: int) -> nn.Module:
    """x2 on seeded waves, enough for the network to use its attention."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(name, 2).train()
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        sharp = torch.from_numpy(batch_from_frame(synthetic_frame(96, 96)))
        for step in range(steps):
            cut = sharp[..., step % 8 * 8 : step % 8 * 8 + 32, step % 5 * 12 : step % 5 * 12 + 32]
            loss = (network(nn.functional.avg_pool2d(cut, 2)) - cut).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


@pytest.mark.parametrize(("name", "steps"), [("labnet-tiny", 16), ("realnet-tiny", 6)])
def test_briefly_trained_networks_are_whole_in_tiles(name: str, steps: int) -> None:
    """Each half of the picture has its own statistics; `steep` gates make more of them than brief training does."""
    network = briefly_trained(name, steps)
    frame = synthetic_frame(48, 48)
    frame[:, :24] //= 4
    actual = {}
    for steep in (1, 16):
        for layer in network.modules():
            if isinstance(layer, Excitation):
                layer[0].weight.data.mul_(steep)  # type: ignore[operator]
        model = LoadedModel(network, ModelCard(name, 2, 0, multiple_px=4))
        actual[steep] = measure_tile_needs(model, TILE, OVERLAP_PX, frame)
        assert actual[steep].statistics_change > 0
        assert (actual[steep].synchronous_db or 0) >= 50
    assert (actual[16].synchronous_db or 0) > (actual[16].reference_db or 0) > actual[16].own_db + 2


def test_synchronous_statistics_are_the_whole_pictures() -> None:
    """In a real network too, up to what tiles cannot see beyond their edges; the shrunk picture's are others."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network("labnet-tiny", 2)
    frame = synthetic_frame(48, 48)
    with torch.inference_mode(), recorded_statistics(network) as sums:
        network(torch.from_numpy(batch_from_frame(frame)))
    whole = combine_statistics([sums])
    together = largest_change(synchronous_statistics(network, frame, TILE, 2, OVERLAP_PX), whole)
    assert together < 0.02
    assert largest_change(reference_statistics(network, frame, TILE), whole) > 2 * together


def test_the_card_holds_what_was_measured_and_survives_json() -> None:
    model = with_tile_needs(loaded(Centred()), TILE)
    assert model.card.tile_needs is not None
    assert model.card.tile_needs.measured_on == TileSpec(32, 60)
    assert from_plain(ModelCard, to_plain(model.card), "card") == model.card
    assert from_plain(ModelCard, to_plain(loaded(Centred()).card), "card").tile_needs is None


def test_a_network_of_one_size_is_refused_with_the_way_out() -> None:
    class OneSize(Blurs):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.reshape(1, 3, 32, 32))

    model = loaded(OneSize(1))
    with raises(WeightsError, found=TileSpec(32, 60)) as caught:
        with_tile_needs(replace(model), TILE)
    assert "--no-tile-needs" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("blurs", "tile_px", "overlap_px", "fits"),
    [(0, 64, 4, True), (6, 64, 12, True), (6, 24, 6, False), (29, 32, 8, False)],
)
def test_the_overlap_is_twice_the_halo_and_a_quarter_of_the_tile_at_most(
    blurs: int, tile_px: int, overlap_px: int, fits: bool
) -> None:
    tile = TileSpec(tile_px, tile_px)
    model = with_tile_needs(loaded(Spreads(blurs), overlap_px=8), tile)
    needs = model.card.tile_needs
    assert needs is not None
    assert model.card.overlap_px == needs.overlap_px == overlap_px
    assert needs.measured_on == TileSpec(tile_px, 2 * tile_px - overlap_px)
    assert bool(overlap_note(needs)) != fits
    if fits:
        assert needs.own_db > 50


class Spreads(nn.Module):
    """Each output pixel depends on the one `distance` pixels to the left, as strongly as on its own."""

    def __init__(self, distance: int) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, x: Tensor) -> Tensor:
        shifted = nn.functional.pad(x, (self.distance, 0, 0, 0), mode="replicate")[..., : x.shape[-1]]
        return ((x + shifted) / 2).repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize("tile", ["8x8", "16x16", "16x64", "64x16"])
def test_tiles_that_cannot_overlap_are_named_as_they_were_given(tile: str) -> None:
    with raises(TileError, found=TileSpec.parse(tile), wanted=17):
        measured_size(TileSpec.parse(tile), 16)
