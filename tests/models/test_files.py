"""Networks as files: what was saved comes back, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pwm_sdk import Critic, WorldModel


def small() -> WorldModel:
    return WorldModel(
        3,
        2,
        num_tasks=2,
        task_dim=4,
        latent_dim=8,
        hidden=(8,),
        action_dims=[1, 2],
        standardize=True,
    )


def test_a_model_comes_back_with_settings_and_weights(tmp_path: Path) -> None:
    model = small()
    model.set_observation_statistics(torch.ones(3), torch.full((3,), 2.0), task=1)
    model.save(tmp_path / "deep" / "model.safetensors")
    again = WorldModel.from_checkpoint(tmp_path / "deep" / "model.safetensors")
    observation, task = torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1])
    assert torch.equal(model.encode(observation, task), again.encode(observation, task))
    assert again.settings == model.settings
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["model.safetensors"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors"):
        WorldModel.from_checkpoint(tmp_path / "nowhere.safetensors")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    small().save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="undamaged"):
        WorldModel.from_checkpoint(path)


def test_another_class_or_a_stranger_is_refused(tmp_path: Path) -> None:
    small().save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"pwm_sdk\.Critic"):
        Critic.from_checkpoint(tmp_path / "model.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "stranger.safetensors")
    with pytest.raises(ValueError, match="got None"):
        WorldModel.from_checkpoint(tmp_path / "stranger.safetensors")


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    about = {"format": "pwm_sdk.Critic", "version": "99", "settings": "{}"}
    save_file({"x": torch.zeros(1)}, tmp_path / "new.safetensors", about)
    with pytest.raises(ValueError, match="version must be at most"):
        Critic.from_checkpoint(tmp_path / "new.safetensors")


class Wider(Critic):
    """Has an argument of its own, of which the settings know nothing."""

    def __init__(self, latent_dim: int, extra: int = 1) -> None:
        super().__init__(latent_dim, (8,))
        self.extra = extra


class Recorded(Wider):
    """Sets its own settings."""

    def __init__(self, latent_dim: int, extra: int = 1) -> None:
        super().__init__(latent_dim, extra)
        self.settings = {"latent_dim": latent_dim, "extra": extra}


def test_a_subclass_is_saved_with_its_own_settings_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"the arguments of Wider, .* got others in \['activ.*extra"
    ):
        Wider(3, extra=3).save(tmp_path / "wider.safetensors")
    assert not list(tmp_path.iterdir())
    Recorded(3, extra=3).save(tmp_path / "recorded.safetensors")
    assert Recorded.from_checkpoint(tmp_path / "recorded.safetensors").extra == 3


def test_weights_keep_their_type(tmp_path: Path) -> None:
    critic, path = Critic(3, (8,)).double(), tmp_path / "critic.safetensors"
    critic.save(path)
    again, latent = Critic.from_checkpoint(path), torch.rand(5, 3, dtype=torch.float64)
    assert torch.equal(again(latent), critic(latent))
    critic.net.head.float()
    with pytest.raises(ValueError, match="weights must be of one floating-point type, got"):
        critic.save(path)
