"""Foreign layouts: what is missing, unknown, of the wrong shape or of other tasks is named."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from vectors import path as golden

from pwm_sdk import MT30, MT80, Critic, FirstOrderActor, Task, TaskSet, WorldModel
from pwm_sdk.checkpoints.foreign import open_foreign
from pwm_sdk.checkpoints.pwm import pwm_actor, pwm_critic, pwm_statistics, pwm_world_model
from pwm_sdk.checkpoints.tdmpc2 import tdmpc2_policy_prior, tdmpc2_q_ensemble, tdmpc2_world_model

NORMED = ("weight", "bias", "ln.weight", "ln.bias")


def mlp(prefix: str, widths: list[int], plain: bool = False) -> dict[str, Tensor]:
    """Weights of an MLP as TD-MPC2 names them."""
    state = {}
    for i, (before, after) in enumerate(pairwise(widths)):
        shapes = ((after, before), (after,), (after,), (after,))
        for name, shape in zip(NORMED, shapes, strict=True):
            if not (plain and i == len(widths) - 2 and name.startswith("ln")):
                state[f"{prefix}{i}.{name}"] = torch.randn(shape)
    return state


def tdmpc2(**more: Any) -> dict[str, Any]:
    """A TD-MPC2 file of 3 tasks: embedding 4, observation 5, action 2, latent 8, widths 16."""
    state: dict[str, Any] = {"_task_emb.weight": torch.randn(3, 4)}
    state |= mlp("_encoder.state.", [9, 12, 8]) | mlp("_dynamics.", [14, 16, 16, 8])
    state |= mlp("_reward.", [14, 16, 16, 11], plain=True)
    state |= mlp("_pi.", [12, 16, 16, 4], plain=True)
    for name in ("_Qs", "_target_Qs"):
        shapes = [(16, 14), (16,), (16,), (16,), (16, 16), (16,), (16,), (16,), (11, 16), (11,)]
        state |= {f"{name}.params.{i}": torch.randn(2, *s) for i, s in enumerate(shapes)}
    return {"model": state | more}


def tasks(*sizes: int, observation: int = 5, action: int = 2) -> TaskSet:
    """Tasks with these action sizes."""
    members = [Task(f"t{i}", i, "own", 3, size, 100) for i, size in enumerate(sizes)]
    return TaskSet(members, observation_dim=observation, action_dim=action)


def saved(folder: Path, contents: Any) -> Path:
    """Write a file as other programs do."""
    torch.save(contents, folder / "file.pt")
    return folder / "file.pt"


def test_sizes_are_read_from_shapes() -> None:
    settings, weights = tdmpc2_world_model(tdmpc2())
    assert settings == {
        "observation_dim": 5,
        "action_dim": 2,
        "num_tasks": 3,
        "task_dim": 4,
        "latent_dim": 8,
        "hidden": [16, 16],
        "encoder_hidden": [12],
        "num_bins": 11,
        "simnorm_size": 8,
        "action_dims": None,
    }
    WorldModel.published(**settings).load_state_dict(weights)
    settings, weights = tdmpc2_q_ensemble(tdmpc2())
    shared = {"latent_dim": 8, "action_dim": 2, "task_dim": 4, "hidden": [16, 16]}
    assert settings == {**shared, "ensemble": 2, "num_bins": 11}
    assert {name: list(value.shape) for name, value in weights.items()} == {
        "layers.0.weight": [2, 16, 14],
        "layers.0.bias": [2, 16],
        "norms.0.weight": [2, 16],
        "norms.0.bias": [2, 16],
        "layers.1.weight": [2, 16, 16],
        "layers.1.bias": [2, 16],
        "norms.1.weight": [2, 16],
        "norms.1.bias": [2, 16],
        "head.weight": [2, 11, 16],
        "head.bias": [2, 11],
    }
    settings, weights = tdmpc2_policy_prior(tdmpc2())
    assert settings == shared
    assert set(weights) == {
        *(f"net.{i}.{name}" for i in (0, 1) for name in NORMED),
        "net.2.weight",
        "net.2.bias",
    }


def test_target_q_functions_are_others() -> None:
    contents = tdmpc2()
    found = tdmpc2_q_ensemble(contents, target=True).weights["head.bias"]
    assert torch.equal(found, contents["model"]["_target_Qs.params.9"])


def test_masks_log_std_and_termination_of_new_files() -> None:
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    more = {"_action_masks": mask, "log_std_min": torch.tensor(-5), "log_std_dif": torch.tensor(6)}
    end = mlp("_termination.", [12, 16, 16, 1], plain=True)
    contents = tdmpc2(**more, **end)
    settings, weights = tdmpc2_world_model(contents)
    assert settings["action_dims"] == [1, 2, 1]
    assert settings["episodic"] is True
    assert torch.equal(weights["termination_head.2.bias"], end["_termination.2.bias"])
    assert tdmpc2_policy_prior(contents).settings["log_std"] == [-5.0, 1.0]


def test_q_functions_saved_by_a_newer_tensordict(tmp_path: Path) -> None:
    """Without batch sizes, and with the empty modules that tensordict 0.14 adds on the way."""
    contents = open_foreign(golden("g7_tdmpc2_ckpt_new.pt"))
    state = {key: value for key, value in contents["model"].items() if "__" not in key}
    assert len(state) < len(contents["model"])
    for part in ("_Qs", "_target_Qs", "_detach_Qs"):
        state[f"{part}.module.0.weight"] = torch.empty(4, 2, device="meta")
    newer = open_foreign(saved(tmp_path, {"model": state}))
    for read in (tdmpc2_world_model, tdmpc2_q_ensemble, tdmpc2_policy_prior):
        settings, weights = read(newer)
        expected = read(contents)
        assert settings == expected.settings
        assert weights.keys() == expected.weights.keys()
        assert all(torch.equal(weights[name], expected.weights[name]) for name in weights)
    newer["model"]["_other.module.0.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"known layout, got \['_other\.module\.0\.weight'\]"):
        tdmpc2_world_model(newer)


def test_unknown_q_like_keys_are_left_out() -> None:
    contents = tdmpc2(**{"_detach_Qs_params.module.0.weight": torch.zeros(0), "_Qs.__x": None})
    assert tdmpc2_world_model(contents).settings["num_tasks"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_dynamics.1.bias": None}, r"must have the key '_dynamics\.1\.bias', got none"),
        ({"_task_emb.weight": torch.zeros(3)}, r"_task_emb.weight must have shape \[any, any\]"),
        (
            {"_dynamics.1.weight": torch.zeros(16)},
            r"_dynamics\.1\.weight must have shape \[any, 16\], got \[16\]",
        ),
        (
            {"_reward.0.weight": torch.zeros(16, 13)},
            r"_reward\.0\.weight must have shape \[any, 14\], got \[16, 13\]",
        ),
        (
            {"_dynamics.2.weight": torch.zeros(9, 16)},
            r"_dynamics\.2\.weight must have shape \[8, 16\], got \[9, 16\]",
        ),
        ({"_encoder.rgb.0.weight": torch.zeros(1)}, r"known layout, got \['_encoder\.rgb\.0"),
        ({"_encoder.state.0.bias": torch.zeros(12).int()}, "floating-point numbers, got torch.int"),
        ({"_encoder.state.0.bias": "x"}, "floating-point numbers, got str"),
        (mlp("_reward.", [14, 17, 16, 11], plain=True), r"_reward must have the hidden widths"),
        (mlp("_reward.", [14, 16, 16, 1], plain=True), r"_reward must end in at least 2 bins"),
        (mlp("_encoder.state.", [4, 12, 8]), "room for latent, .* got observation size 0"),
        ({"_action_masks": torch.tensor([[0.0, 1.0]] * 3)}, "ones followed by zeros"),
        ({"_action_masks": torch.ones(2, 2)}, r"_action_masks must have shape \[3, 2\]"),
    ],
)
def test_bad_world_models_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    contents = tdmpc2(**change)
    contents["model"] = {k: v for k, v in contents["model"].items() if v is not None}
    with pytest.raises(ValueError, match=message):
        WorldModel.from_checkpoint(saved(tmp_path, contents))


def test_latents_that_no_simnorm_divides_are_named() -> None:
    state = mlp("_encoder.state.", [5, 12, 9]) | mlp("_dynamics.", [11, 16, 16, 9])
    state |= mlp("_reward.", [11, 16, 16, 11], plain=True)
    with pytest.raises(ValueError, match="latents must be divisible by 8, got 9"):
        tdmpc2_world_model({"model": state})


@pytest.mark.parametrize(
    ("read", "key", "shape"),
    [
        (tdmpc2_q_ensemble, "_Qs.params.4", (2, 16, 15)),
        (tdmpc2_q_ensemble, "_Qs.params.9", (3, 11)),
        (tdmpc2_policy_prior, "_pi.2.weight", (6, 16)),
    ],
)
def test_bad_q_functions_and_policies_are_named(read: Callable, key: str, shape: tuple) -> None:
    with pytest.raises(ValueError, match=rf"{key} must have shape .* got \[{shape[0]}, "):
        read(tdmpc2(**{key: torch.zeros(shape)}))
    contents = tdmpc2()
    del contents["model"][key]
    with pytest.raises(ValueError, match=rf"must have the key '{key}'"):
        read(contents)


def test_other_tasks_or_sizes_are_named(tmp_path: Path) -> None:
    file = saved(tmp_path, tdmpc2())
    assert WorldModel.from_checkpoint(file, tasks(1, 2, 2)).settings["action_dims"] == [1, 2, 2]
    for wrong in (MT30, MT80, tasks(1, 2), tasks(1, 2, 2, observation=6), tasks(1, 2, 2, action=3)):
        with pytest.raises(ValueError, match=r"file\.pt \(3 tasks, observation size 5, action siz"):
            WorldModel.from_checkpoint(file, wrong)
    swapped = TaskSet(reversed(list(tasks(1, 2, 2))), observation_dim=5)
    with pytest.raises(ValueError, match=r"indices 0 to 2 in order, got \[2, 1, 0\]"):
        WorldModel.from_checkpoint(file, swapped)
    masked = saved(tmp_path, tdmpc2(_action_masks=torch.ones(3, 2)))
    with pytest.raises(ValueError, match=r"action sizes \[2, 2, 2\] of .*, got \[1, 2, 2\]"):
        WorldModel.from_checkpoint(masked, tasks(1, 2, 2))


def test_our_own_files_are_compared_with_tasks_too(tmp_path: Path) -> None:
    model = WorldModel.published(5, 2, latent_dim=8, hidden=(8,))
    model.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="got 3 tasks"):
        WorldModel.from_checkpoint(tmp_path / "model.safetensors", tasks(1, 2, 2))
    alone = Task("alone", 0, "own", 5, 2, 100)
    again = WorldModel.from_checkpoint(tmp_path / "model.safetensors", alone)
    assert again.settings == model.settings


@pytest.mark.parametrize("contents", [{"weights": {}}, [1, 2], {"model": {}, "actor": {}}])
def test_unknown_files_are_named(tmp_path: Path, contents: Any) -> None:
    with pytest.raises(ValueError, match=r"laid out as by TD-MPC2 or PWM, got .*file\.pt"):
        WorldModel.from_checkpoint(saved(tmp_path, contents))


def test_a_file_without_the_module_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold a Critic, got a checkpoint of TD-MPC2"):
        Critic.from_checkpoint(saved(tmp_path, tdmpc2()))
    with pytest.raises(ValueError, match=r"must have a state dict 'model', got .*file\.pt"):
        WorldModel.from_checkpoint(saved(tmp_path, {"model": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"a PWM file must have a state dict 'actor', got"):
        FirstOrderActor.from_checkpoint(saved(tmp_path, {"world_model": {}}))


def changed(part: str, change: dict[str, Any]) -> dict[str, Any]:
    """The PWM file with one part changed; None takes a key away."""
    contents = open_foreign(golden("g7_pwm_ckpt_plain.pt"))
    state = {**contents[part], **change}
    return {**contents, part: {key: value for key, value in state.items() if value is not None}}


@pytest.mark.parametrize(
    ("read", "part", "change", "message"),
    [
        (pwm_actor, "actor", {"logstd": None}, "key 'logstd'"),
        (pwm_actor, "actor", {"logstd": torch.zeros(1, 5)}, r"logstd must have shape \[any\]"),
        (pwm_actor, "actor", {"mu_net.9.weight": None}, r"key 'mu_net\.9\.weight'"),
        (pwm_actor, "actor", {"mu_net.2.bias": torch.zeros(1)}, r"mu_net\.2\.bias must have shape"),
        (pwm_actor, "actor", {"other": torch.zeros(1)}, r"known layout, got \['other'\]"),
        (pwm_critic, "critic", {"params.6": None}, r"key 'params\.6'"),
        (pwm_critic, "critic", {"params.4": torch.zeros(3, 1, 1)}, r"params\.4 must have shape"),
        (pwm_critic, "critic", {"params.9": torch.zeros(3, 2)}, r"params\.9 must have shape"),
        (pwm_critic, "critic", {"other": torch.zeros(1)}, r"known layout, got \['other'\]"),
        (pwm_world_model, "world_model", {"_pi.0.weight": torch.zeros(1)}, "known layout"),
        (pwm_world_model, "world_model", {"_encoder.1.weight": None}, r"key '_encoder\.1\.weight'"),
        (pwm_statistics, "rew_rms", {"var": None}, r"rew_rms must have \['var'\]"),
    ],
)
def test_bad_pwm_files_are_named(read: Callable, part: str, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(changed(part, change))


def test_statistics_of_pwm() -> None:
    for name in ("g7_pwm_ckpt_pickled.pt", "g7_pwm_ckpt_plain.pt"):
        contents = open_foreign(golden(name))
        found = pwm_statistics(contents)
        assert set(found) == {"rew_rms", "ret_rms"}  # the program kept none of observations
        assert torch.equal(found["rew_rms"]["mean"], contents["rew_rms"]["mean"])
        assert float(found["ret_rms"]["count"]) == pytest.approx(contents["ret_rms"]["count"])
