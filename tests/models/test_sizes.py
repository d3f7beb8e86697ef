"""Published sizes: widths and numbers of parameters."""

from __future__ import annotations

import pytest
import torch

from pwm_sdk.models.sizes import model_size
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.tasks import MT30, MT80

# size -> parameters of the world model for MT80, as published
WORLD_MODEL = {1: 640_741, 5: 1_650_277, 19: 6_772_837, 48: 19_188_581, 317: 108_347_045}
WIDTHS = {  # encoder, latent (MT30, MT80), other networks, Q functions, embedding (MT30, MT80)
    1: ([256], (128, 128), 384, 2, (96, 96)),
    5: ([256], (512, 512), 512, 5, (64, 96)),
    19: ([1024, 1024], (512, 768), 1024, 5, (64, 96)),
    48: ([1792] * 3, (768, 768), 1792, 5, (64, 96)),
    317: ([4096] * 4, (1376, 1376), 4096, 8, (96, 96)),
}


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("size", WORLD_MODEL)
def test_world_models_have_the_published_number_of_parameters(size: int) -> None:
    with torch.device("meta"):
        assert parameters(WorldModel.from_size(size, MT80)) == WORLD_MODEL[size]


@pytest.mark.parametrize("size", WORLD_MODEL)
def test_without_tasks_only_the_embedding_is_missing(size: int) -> None:
    """Three networks lose the inputs of the embedding, and the table of 80 rows goes."""
    (first, *_), _, hidden, _, (_, task_dim) = WIDTHS[size]
    with torch.device("meta"):
        model = WorldModel.from_size(size, observation_dim=39, action_dim=6)
    fewer = task_dim * (first + 2 * hidden + 80)
    assert parameters(model) == WORLD_MODEL[size] - fewer
    assert model.num_tasks == 0


@pytest.mark.parametrize("size", WIDTHS)
def test_widths(size: int) -> None:
    encoder, latents, hidden, ensemble, embeddings = WIDTHS[size]
    for tasks, latent, embedding in zip((MT30, MT80), latents, embeddings, strict=True):
        with torch.device("meta"):
            model = WorldModel.from_size(size, tasks)
        assert [layer.out_features for layer in model.encoder] == [*encoder, latent]
        assert [layer.out_features for layer in model.dynamics] == [hidden, hidden, latent]
        assert [layer.out_features for layer in model.reward_head] == [hidden, hidden, 101]
        assert model.task_embedding.shape == (len(tasks), embedding)
        assert model_size(size, tasks).ensemble == ensemble
        assert (model.observation_dim, model.action_dim) == (24 if tasks is MT30 else 39, 6)
    assert model_size(size).task_dim == 0
    assert model_size(size).latent_dim == latents[1]


def test_a_model_of_a_size_masks_the_actions_of_its_tasks() -> None:
    model = WorldModel.from_size(1, MT80)
    assert model.action_mask.sum(-1).tolist() == [task.action_dim for task in MT80]


def test_a_subset_keeps_its_ids() -> None:
    some = MT80.subset(["reacher-easy", "mw-reach"])
    model = WorldModel.from_size(1, some)
    assert model.num_tasks == 66
    assert model.action_mask.sum(-1)[[4, 5, 65]].tolist() == [2, 6, 4]


def test_overrides_replace_the_settings_of_a_size(tmp_path) -> None:
    model = WorldModel.from_size(1, MT30, num_bins=0, activation="silu", action_dims=None)
    assert model.num_bins == 0
    assert model.action_mask is None
    model.save(tmp_path / "model.safetensors")
    again = WorldModel.from_checkpoint(tmp_path / "model.safetensors")
    assert again.settings == model.settings


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"size must be one of \[1, 5, 19, 48, 317\], got 7"):
        model_size(7)
    with pytest.raises(ValueError, match="observation_dim must be given where tasks is None"):
        WorldModel.from_size(1, action_dim=6)
    with pytest.raises(ValueError, match="action_dim must be given where tasks is None"):
        WorldModel.from_size(1, observation_dim=39)
