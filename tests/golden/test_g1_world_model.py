"""The world model against the published one: latents, rewards, embeddings, open-loop rollouts."""

from __future__ import annotations

import torch
from published_weights import prefixed, world_model
from vectors import load

from pwm_sdk.functional.twohot import two_hot_mean
from pwm_sdk.models.sizes import model_size
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.tasks import MT80


def test_multi_task_model(close) -> None:
    data = load("g1_world_model_small.npz")
    model = world_model(prefixed(data, "w/"), data, masked=True)
    close(model.action_mask, data["w_aux/_action_masks"])
    observation, action, task = data["in/obs"], data["in/action"], data["in/task"]
    latent = model.encode(observation[0], task)
    close(latent, data["out/encode"])
    close(model.encode(observation, task), data["out/encode_seq"])
    close(model.next(latent, action[0], task), data["out/next"])
    close(model.reward_logits(latent, action[0], task), data["out/reward_logits"])
    close(model.reward(latent, action[0], task), data["out/reward_two_hot_inv"])
    close(model.task_embedding, data["out/task_emb_after"])
    close(model.encode(observation[0], torch.tensor(0)), data["out/encode_task_int0"])
    roll_out(model, data, latent, close)


def roll_out(model: WorldModel, data, latent, close) -> None:
    """Compare open-loop predictions step by step."""
    action, task = data["in/action"], data["in/task"]
    for t in range(len(action)):
        close(latent, data["out/rollout_z"][t])
        close(model.reward_logits(latent, action[t], task), data["out/rollout_reward_logits"][t])
        latent, reward = model.step(latent, action[t], task)
        close(reward, data["out/rollout_reward"][t])
    close(latent, data["out/rollout_z"][-1])


def test_single_task_model(close) -> None:
    data = load("g1_world_model_single.npz")
    model = world_model(prefixed(data, "w/"), data)
    latent = model.encode(data["in/obs"])
    close(latent, data["out/encode"])
    close(model.next(latent, data["in/action"]), data["out/next"])
    close(model.reward_logits(latent, data["in/action"]), data["out/reward_logits"])
    close(model.reward(latent, data["in/action"]), data["out/reward_two_hot_inv"])


def test_size_1_of_mt80(close) -> None:
    data = {
        key: value.float() if key.startswith("w/") else value
        for key, value in load("g1_world_model_size1_mt80.npz").items()
    }
    model = WorldModel.from_size(1, MT80)
    theirs = world_model(prefixed(data, "w/"), data, masked=True)
    model.load_state_dict(theirs.state_dict())  # strict: the same names and shapes
    close(model.action_mask, data["w_aux/_action_masks"])
    assert model_size(1, MT80).ensemble == int(data["cfg/num_q"])
    close(model.encode(data["in/obs"], data["in/task"]), data["out/encode_seq"])
    roll_out(model, data, model.encode(data["in/obs"][0], data["in/task"]), close)


def test_pwm_model(close) -> None:
    """PWM imagines with the "almost" inverse, our `two_hot_mean`."""
    data = load("g1_pwm_policy.npz")
    model = world_model(prefixed(data, "w/wm."), data)
    task = data["in/task"]
    latent = model.encode(data["in/obs"], task)
    close(latent, data["out/z"])
    close(model.next(latent, data["out/action"], task), data["out/next_z"])
    logits = model.reward_logits(latent, data["out/action"], task)
    close(logits, data["out/reward_logits"])
    close(two_hot_mean(logits), data["out/reward_almost"])
    close(model.decode_reward(logits), data["out/reward_two_hot_inv"])
