"""One update of TD-MPC2 against the published one: targets, losses, gradients, weights."""

from __future__ import annotations

import pytest
from networks import NAMES, policy_prior, q_ensemble
from published_weights import Data, prefixed, world_model
from tensordict import TensorDict
from torch import Tensor
from vectors import load

from pwm_sdk.algorithms.tdmpc2 import TDMPC2
from pwm_sdk.algorithms.tdmpc2_config import TDMPC2Config
from pwm_sdk.objectives.tdmpc2 import td_targets

FILES = ["g2_tdmpc2_update_rho050.npz", "g2_tdmpc2_update_rho099.npz"]
PARTS = {"_encoder.state.": "encoder.", "_dynamics.": "dynamics.", "_reward.": "reward_head."}
both = pytest.mark.parametrize("name", FILES)


class Recorded(TDMPC2):
    """The published update with the recorded draws, in the order in which they are asked for."""

    def __init__(self, data: Data) -> None:
        model = world_model(prefixed(data, "w/"), data, masked=True).requires_grad_(True)
        gamma, rho = data["out/discount"].tolist(), float(data["cfg/rho"])
        config = TDMPC2Config.published(gamma=gamma, rho=rho)
        super().__init__(model, q_ensemble(data), policy_prior(data), config)
        theirs = q_ensemble(data, "w/_target_Qs.params.")
        self.target.load_state_dict(theirs.state_dict())
        self.noise = [data[f"in/{name}"].transpose(0, 1) for name in ("td_pi_eps", "pi_eps")]
        self.heads = [data["in/td_qidx"], data["in/pi_qidx"]]

    def _noise(self, shape, like: Tensor) -> Tensor:
        noise = self.noise.pop(0)
        assert noise.shape == tuple(shape)
        return noise

    def _heads(self) -> Tensor:
        return self.heads.pop(0)


def windows(data: Data) -> TensorDict:
    """Batch-first windows of a file's time-major tensors."""
    names = {"obs": "observation", "action": "action", "reward": "reward"}
    tensors = {our: data[f"in/{name}"].transpose(0, 1) for name, our in names.items()}
    return TensorDict({**tensors, "task": data["in/task"]}, [len(data["in/task"])])


def relative(actual: Tensor, expected: Tensor) -> None:
    """Gradients: within 1e-4 of the largest."""
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


def parameter(learner: TDMPC2, name: str) -> Tensor:
    """Our parameter of a published name."""
    if name == "_task_emb.weight":
        return learner.model.task_embedding
    if name.startswith("_pi."):
        return learner.prior.get_parameter(name.replace("_pi.", "net."))
    for theirs, part in (("_Qs.params.", learner.q), ("_target_Qs.params.", learner.target)):
        if name.startswith(theirs):
            return part.get_parameter(q_name(name.removeprefix(theirs)))
    part = next(theirs for theirs in PARTS if name.startswith(theirs))
    return learner.model.get_parameter(name.replace(part, PARTS[part]))


def q_name(name: str) -> str:
    """Ours of `8` (old style) or `2.weight` (new style)."""
    layer, _, rest = name.partition(".")
    if not rest:
        return NAMES[int(layer)]
    return NAMES[4 * int(layer) + ["weight", "bias", "ln.weight", "ln.bias"].index(rest)]


@both
def test_targets(close, name: str) -> None:
    data = load(name)
    learner, batch = Recorded(data), windows(data)
    model, task = learner.model, data["in/task"]
    targets = td_targets(
        learner.target,
        learner.prior,
        batch,
        model.encode(batch["observation"][:, 1:], task.unsqueeze(-1)),
        model.context(task),
        data["out/discount"][task],
        noise=data["in/td_pi_eps"].transpose(0, 1),
        heads=data["in/td_qidx"],
    )
    close(targets.transpose(0, 1), data["out/td_targets"])


@both
def test_losses_and_gradients_of_model_and_values(close, name: str) -> None:
    data = load(name)
    learner = Recorded(data)
    _, joint = learner.losses(windows(data), data["in/task"])
    for part, value in joint._asdict().items():
        close(value, data[f"out/{part}_loss"])
    joint.total.backward()
    norms = prefixed(data, "out/gradnorm/")
    parameters = [*learner.model.parameters(), *learner.q.parameters()]
    assert len(norms) == len(parameters)
    for theirs, expected in norms.items():
        relative(parameter(learner, theirs).grad.norm(), expected)
    for theirs, expected in prefixed(data, "out/grad/").items():
        relative(parameter(learner, theirs).grad, expected)


@both
def test_a_whole_update(close, name: str) -> None:
    data = load(name)
    learner = Recorded(data)
    metrics = learner.update(windows(data))
    relative(metrics["grad_norm"], data["out/grad_norm"])
    close(metrics["prior_loss"], data["out/pi_loss"])
    close(metrics["entropy"], data["out/pi_entropy"])
    close(metrics["scaled_entropy"], data["out/pi_scaled_entropy"])
    close(metrics["scale"], data["out/pi_scale"])
    close(learner.scale.view(1), data["after/scale_value"])
    relative(metrics["prior_grad_norm"], data["out/pi_grad_norm"])
    for theirs, expected in prefixed(data, "out/pi_gradnorm/").items():
        relative(learner.prior.get_parameter(f"net.{theirs}").grad.norm(), expected)
    after = prefixed(data, "after/")
    after.pop("scale_value")
    for theirs, expected in after.items():
        close(parameter(learner, theirs), expected)
    relative(learner._carried, data["out/task_emb_grad_left_over_after_pi_update"])


@both
def test_what_the_prior_leaves_on_the_embedding_joins_the_next_step(name: str) -> None:
    """Two gradients of the same step differ by what was left, and by nothing else."""
    data = load(name)
    left, gradients = data["out/task_emb_grad_left_over_after_pi_update"], []
    for carried in (None, left):
        learner, seen = Recorded(data), []
        learner._carried = carried
        learner.model.task_embedding.register_hook(seen.append)
        learner.update(windows(data))
        gradients.append(seen[0])  # of the model's step; the prior's comes second
    relative(gradients[1] - gradients[0], left)
