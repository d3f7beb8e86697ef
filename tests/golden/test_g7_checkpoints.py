"""Published checkpoints: all weights in our modules, results equal to those of the programs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from vectors import load, path

from pwm_sdk import Critic, FirstOrderActor, PolicyPrior, QEnsemble, Task, TaskSet, WorldModel
from pwm_sdk.checkpoints.foreign import open_foreign
from pwm_sdk.checkpoints.tdmpc2 import tdmpc2_policy_prior, tdmpc2_q_ensemble

STYLES = ("old", "new")
PWM_FILES = ("g7_pwm_ckpt_pickled.pt", "g7_pwm_ckpt_plain.pt")
EXPECTED = load("g7_tdmpc2_ckpt_expected.npz")


def tasks_of(data: dict[str, Tensor]) -> TaskSet:
    """Tasks of the sizes that the checkpoint was trained for."""
    observation, action = int(data["cfg/obs_dim"]), int(data["cfg/action_dim"])
    sizes = data["cfg/action_dims"].tolist()
    tasks = [Task(f"t{i}", i, "own", observation, size, 100) for i, size in enumerate(sizes)]
    return TaskSet(tasks, observation_dim=observation, action_dim=action)


def check_world_model(model: WorldModel, data: dict[str, Tensor], close) -> None:
    """Compare latents and rewards with the published ones."""
    task, action = data["in/task"], data["in/action"]
    latent = model.encode(data["in/obs"], task)
    close(latent, data["out/encode"])
    close(model.next(latent, action, task), data["out/next"])
    close(model.reward_logits(latent, action, task), data["out/reward_logits"])
    close(model.reward(latent, action, task), data["out/reward"])


@pytest.mark.parametrize("with_tasks", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_world_model_of_tdmpc2(style: str, with_tasks: bool, close) -> None:
    tasks = tasks_of(EXPECTED) if with_tasks else None
    model = WorldModel.from_checkpoint(path(f"g7_tdmpc2_ckpt_{style}.pt"), tasks)
    check_world_model(model.requires_grad_(False), EXPECTED, close)
    layers = int(EXPECTED["cfg/num_enc_layers"])
    assert model.settings["encoder_hidden"] == [int(EXPECTED["cfg/enc_dim"])] * (layers - 1)
    assert model.settings["hidden"] == [int(EXPECTED["cfg/mlp_dim"])] * 2
    assert model.settings["task_dim"] == int(EXPECTED["cfg/task_dim"])
    if with_tasks or style == "new":  # the new style has the masks in the file
        assert model.settings["action_dims"] == EXPECTED["cfg/action_dims"].tolist()


def test_both_styles_hold_the_same_weights() -> None:
    old, new = (open_foreign(path(f"g7_tdmpc2_ckpt_{style}.pt")) for style in STYLES)
    for target in (False, True):
        left, right = tdmpc2_q_ensemble(old, target), tdmpc2_q_ensemble(new, target)
        assert left.settings == right.settings
        assert left.weights.keys() == right.weights.keys()
        assert all(torch.equal(left.weights[name], right.weights[name]) for name in left.weights)


def normed(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Linear, LayerNorm, Mish."""
    x = F.linear(x, weight, bias)
    return F.mish(F.layer_norm(x, x.shape[-1:], scale, shift))


def joint(model: WorldModel) -> Tensor:
    """What Q functions read: latent, task embedding, action."""
    return model.inputs(EXPECTED["out/encode"], EXPECTED["in/action"], EXPECTED["in/task"])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("target", [False, True])
def test_q_functions_of_tdmpc2(style: str, target: bool, close) -> None:
    file = path(f"g7_tdmpc2_ckpt_{style}.pt")
    settings, weights = tdmpc2_q_ensemble(open_foreign(file), target)
    width = int(EXPECTED["cfg/mlp_dim"])
    assert settings == {
        "latent_dim": int(EXPECTED["cfg/latent_dim"]),
        "action_dim": int(EXPECTED["cfg/action_dim"]),
        "task_dim": int(EXPECTED["cfg/task_dim"]),
        "hidden": [width, width],
        "ensemble": int(EXPECTED["cfg/num_q"]),
        "num_bins": EXPECTED["out/Q_logits_all"].shape[-1],
    }
    inputs = joint(WorldModel.from_checkpoint(file).requires_grad_(False))
    expected = EXPECTED["out/Q_target_logits_all" if target else "out/Q_logits_all"]
    for head in range(settings["ensemble"]):
        x, w = inputs, {name: value[head] for name, value in weights.items()}
        for i in range(2):
            x = normed(
                x, *(w[f"{p}.{i}.{n}"] for p in ("layers", "norms") for n in ("weight", "bias"))
            )
        close(F.linear(x, w["head.weight"], w["head.bias"]), expected[head])


@pytest.mark.parametrize("style", STYLES)
def test_policy_prior_of_tdmpc2(style: str, close) -> None:
    settings, w = tdmpc2_policy_prior(open_foreign(path(f"g7_tdmpc2_ckpt_{style}.pt")))
    assert settings["hidden"] == [int(EXPECTED["cfg/mlp_dim"])] * 2
    assert settings.get("log_std", [-10.0, 2.0]) == [-10.0, 2.0]
    assert ("log_std" in settings) == (style == "new")
    model = WorldModel.from_checkpoint(path("g7_tdmpc2_ckpt_new.pt")).requires_grad_(False)
    context = model.context(EXPECTED["in/task"])
    x = torch.cat((EXPECTED["out/encode"], context.embedding), -1)
    for i in range(2):
        names = ("weight", "bias", "ln.weight", "ln.bias")
        x = normed(x, *(w[f"net.{i}.{name}"] for name in names))
    mean, raw = F.linear(x, w["net.2.weight"], w["net.2.bias"]).chunk(2, -1)
    close((mean * context.action_mask).tanh(), EXPECTED["out/pi_mean"])
    close((-10 + 6 * (raw.tanh() + 1)) * context.action_mask, EXPECTED["out/pi_log_std"])


@pytest.mark.parametrize("style", STYLES)
def test_q_functions_and_prior_load_as_modules(style: str, close) -> None:
    file = path(f"g7_tdmpc2_ckpt_{style}.pt")
    model = WorldModel.from_checkpoint(path("g7_tdmpc2_ckpt_new.pt")).requires_grad_(False)
    context, latent = model.context(EXPECTED["in/task"]), EXPECTED["out/encode"]
    q = QEnsemble.from_checkpoint(file).eval()
    close(q.logits(latent, EXPECTED["in/action"], context), EXPECTED["out/Q_logits_all"])
    mean, log_std = PolicyPrior.from_checkpoint(file).distribution(latent, context)
    close(mean.tanh(), EXPECTED["out/pi_mean"])
    close(log_std, EXPECTED["out/pi_log_std"])


def test_a_file_of_a_single_task(tmp_path, close) -> None:
    data = load("g1_world_model_single.npz")
    state = {k.removeprefix("w/"): v for k, v in data.items() if k.startswith("w/")}
    torch.save({"model": state}, tmp_path / "single.pt")
    model = WorldModel.from_checkpoint(tmp_path / "single.pt").requires_grad_(False)
    assert model.num_tasks == 0
    latent = model.encode(data["in/obs"])
    close(latent, data["out/encode"])
    close(model.next(latent, data["in/action"]), data["out/next"])
    close(model.reward(latent, data["in/action"]), data["out/reward_two_hot_inv"])


@pytest.mark.parametrize("name", PWM_FILES)
def test_model_actor_and_critics_of_pwm(name: str, close) -> None:
    check = torch.load(path("g7_pwm_ckpt_plain.pt"), weights_only=True)["check"]
    model = WorldModel.from_checkpoint(path(name)).requires_grad_(False)
    actor = FirstOrderActor.from_checkpoint(path(name)).requires_grad_(False)
    critic = Critic.from_checkpoint(path(name)).requires_grad_(False)
    latent = model.encode(check["obs"])
    close(latent, check["z"])
    close(actor(latent), check["action_deterministic"])
    values = critic.values(latent)
    close(values.reshape(check["values"].shape), check["values"])
    close(critic(latent).reshape(-1), check["values"].amin(0).reshape(-1))
    assert model.num_bins == 0  # a scalar reward
