"""Defaults, published settings, and files that were written before the defaults changed."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.world_model import WorldModel

FILES = Path(__file__).parent / "files"  # written with version 1, and what their modules returned
OUTPUTS = json.loads((FILES / "outputs_v1.json").read_text())
LATENT, NOISE = torch.linspace(-1, 1, 6).view(2, 3), torch.linspace(-0.5, 0.5, 4).view(2, 2)
FAR = torch.linspace(-30, 30, 6).view(2, 3)  # observations beyond any clip


def recorded(name: str) -> Tensor:
    return torch.tensor(OUTPUTS[name])


def test_actors_of_version_1_act_as_they_did() -> None:
    actor = FirstOrderActor.from_checkpoint(FILES / "actor_v1.safetensors")
    torch.testing.assert_close(actor(LATENT, NOISE), recorded("actor"))
    assert actor.settings["noise"] == "pre_tanh"
    assert actor.settings["norm"] == "post_activation"
    other = FirstOrderActor.from_checkpoint(FILES / "actor_recipe_v1.safetensors")
    torch.testing.assert_close(other(LATENT, NOISE), recorded("actor_recipe"))
    assert other.settings["noise"] == "post_tanh"
    assert other.settings["norm"] == "pre_activation"


def test_critics_of_version_1_value_as_they_did() -> None:
    critic = Critic.from_checkpoint(FILES / "critic_v1.safetensors")
    torch.testing.assert_close(critic(LATENT), recorded("critic"))
    assert critic.settings["reduce"] == "min"


def test_models_of_version_1_have_no_statistics_and_imagine_as_they_did(tmp_path) -> None:
    """Their files leave out the arguments that were not given."""
    model = WorldModel.from_checkpoint(FILES / "world_model_v1.safetensors")
    latent = model.encode(FAR)
    torch.testing.assert_close(latent, recorded("latent"))
    torch.testing.assert_close(model.step(latent, NOISE)[1], recorded("reward"))
    assert model.observation_mean is None
    model.save(tmp_path / "again.safetensors")
    again = WorldModel.from_checkpoint(tmp_path / "again.safetensors")
    assert again.settings == model.settings
    assert torch.equal(again.encode(FAR), latent)


@pytest.mark.parametrize(
    ("kind", "sizes"), [(FirstOrderActor, (3, 2)), (Critic, (3,)), (WorldModel, (3, 2))]
)
def test_published_settings_are_arguments_of_their_own(kind: Any, sizes: tuple[int, ...]) -> None:
    arguments = inspect.signature(kind).parameters
    assert kind.published_settings.keys() <= arguments.keys()
    assert not any(argument.kind == argument.VAR_KEYWORD for argument in arguments.values())
    made = kind.published(*sizes)
    for name, value in kind.published_settings.items():
        expected = list(value) if isinstance(value, tuple) else value
        assert made.settings[name] == expected
    usual = kind(*sizes).settings
    assert usual != made.settings
    assert kind.published(*sizes, activation="relu").settings["activation"] == "relu"


def test_published_widths() -> None:
    assert FirstOrderActor.published(3, 2).settings["hidden"] == [400, 200, 100]
    assert Critic.published(3).settings["hidden"] == [400, 200]
    assert Critic.published(3).ensemble == 3
    assert WorldModel.published(3, 2).latent_dim == 512
    assert WorldModel.from_size(5, observation_dim=3, action_dim=2).settings == (
        WorldModel.published(3, 2).settings
    )


def test_observations_pass_as_they_are_until_statistics_are_set() -> None:
    torch.manual_seed(0)
    model = WorldModel(3, 2, latent_dim=8, hidden=(8,), encoder_hidden=(8,))
    raw = WorldModel(3, 2, latent_dim=8, hidden=(8,), encoder_hidden=(8,), standardize=False)
    raw.encoder.load_state_dict(model.encoder.state_dict())
    assert torch.equal(model.encode(FAR), raw.encode(FAR))  # no clip either
    model.set_observation_statistics(torch.ones(3), torch.ones(3))
    clipped = (FAR - 1.0).clamp(-10.0, 10.0)
    torch.testing.assert_close(model.encode(FAR), raw.encode(clipped))


def test_embeddings_are_as_wide_as_asked_whatever_the_first_weights() -> None:
    sizes = {"latent_dim": 8, "hidden": (8,), "encoder_hidden": (8,), "num_tasks": 100}
    usual = WorldModel(3, 2, task_dim=25, **sizes).task_embedding.detach()
    assert float(usual.std()) == pytest.approx(1 / 5, rel=0.1)
    asked = WorldModel(3, 2, task_dim=25, task_init=0.5, **sizes).task_embedding.detach()
    assert float(asked.std()) == pytest.approx(0.5, rel=0.1)
