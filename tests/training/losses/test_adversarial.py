"""RealNet-GAN's parts: features of a user's VGG19, a U-Net discriminator, and training that resumes with both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models import build_network
from sr_edge.models.registry import find_architecture
from sr_edge.training import Recipe, TrainingProgress, train_model
from sr_edge.training.data import CropSource, Originals, PairSet
from sr_edge.training.degradations import find_degradation
from sr_edge.training.loop import Training, train
from sr_edge.training.losses.adversarial import Adversarial
from sr_edge.training.losses.discriminator import UNetDiscriminator
from sr_edge.training.losses.vgg import WIDTHS, VGG19Features, load_vgg19, perceptual_loss
from tests.expected_errors import raises

SMALL = ((4, 1), (6, 2), (6, 1), (8, 1), (8, 1))
RECIPE = Recipe(
    steps=4, batch=2, patch_px=16, warm_up_steps=1, mixed_precision=False, validate_every=4, checkpoint_every=2,
    perceptual_weight=1.0, adversarial_weight=0.1,
)  # fmt: skip


@pytest.fixture
def vgg_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "vgg19.pth"
    extra = {"classifier.0.weight": torch.zeros(2, 2)}
    torch.save({**VGG19Features(SMALL).state_dict(), **extra}, path)
    return path


def test_vgg19_has_torchvisions_keys_and_looks_before_activation() -> None:
    with torch.device("meta"):
        network = VGG19Features()
    keys = [key for key in network.state_dict() if key.endswith("weight")]
    assert keys == [f"features.{at}.weight" for at in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)]
    assert network.feature_indices == [2, 7, 16, 25, 34] and len(WIDTHS) == 5


def test_features_are_those_of_the_file(vgg_file: Path) -> None:
    network = load_vgg19(vgg_file, SMALL)
    picture = torch.rand(1, 3, 16, 16)
    first = network.features[0]((picture - network.get_buffer("mean")) / network.get_buffer("deviation"))
    actual = network(picture)
    assert torch.equal(actual[0], first) and bool((actual[1] < 0).any())
    assert perceptual_loss(network, picture, picture).item() == 0.0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_without_the_weights_of_vgg_training_is_refused(vgg_file: Path, pictures: Path, tmp_path: Path) -> None:
    with raises(UsageError, wanted="--vgg FILE"):
        train_model("realnet-tiny", 4, pictures, pictures, tmp_path / "out", RECIPE)
    with raises(WeightsError, found=list(VGG19Features().state_dict())):
        load_vgg19(vgg_file)


def test_the_discriminator_judges_every_pixel_under_spectral_norm() -> None:
    torch.manual_seed(0)
    network = UNetDiscriminator(4)
    assert network(torch.rand(2, 3, 16, 24)).shape == (2, 1, 16, 24)
    normal = [name for name, module in network.named_modules() if hasattr(module, "parametrizations")]
    convolutions = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    assert set(convolutions) - set(normal) == {"first", "judge"}


def objective(vgg_file: Path) -> Adversarial:
    torch.manual_seed(5)
    return Adversarial(RECIPE, UNetDiscriminator(4), load_vgg19(vgg_file, SMALL))


def test_a_discriminator_learns_to_tell_originals(vgg_file: Path) -> None:
    learner = objective(vgg_file)
    assert learner.discriminator is not None
    real, made = torch.rand(2, 3, 16, 16), torch.full((2, 3, 16, 16), 0.5)
    gap = []
    for _ in range(30):
        gap.append((learner.discriminator(real) - learner.discriminator(made)).mean().item())
        learner.update(made, real)
    assert gap[-1] > gap[0] + 0.01


def test_realnet_gan_trains_and_continues_identically(pictures: Path, tmp_path: Path, vgg_file: Path) -> None:
    def network() -> nn.Module:
        torch.manual_seed(3)
        return build_network("realnet-tiny", 2)

    def training(out: str, progress: Callable[[TrainingProgress], None] = lambda _: None) -> Training:
        architecture, _ = find_architecture("realnet-tiny")
        degradation = find_degradation("", architecture)
        crops = CropSource(Originals.from_folder(pictures, 2, 16), degradation)
        return Training(
            crops,
            PairSet.from_folder(pictures, 2, degradation),
            tmp_path / out,
            RECIPE,
            progress,
            paired_input=architecture.paired_input,
        )

    def kill(now: TrainingProgress) -> None:
        if now.step == 3:
            raise ZeroDivisionError

    whole = train(network(), training("whole"), objective(vgg_file))
    with pytest.raises(ZeroDivisionError):
        train(network(), training("parts", kill), objective(vgg_file))
    parts = train(network(), training("parts"), objective(vgg_file))
    first, second = load_file(whole), load_file(parts)
    assert all(torch.equal(first[key], second[key]) for key in first)
