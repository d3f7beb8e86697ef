"""What an update keeps for its backward pass, counted: one value, no weights of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_updates import CONFIG, MEMBERS, PUBLISHED, Kind, assemble, starts
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from pwm_sdk.algorithms.pwm import PWM, PWMConfig
from pwm_sdk.execution.settings import Execution

KINDS, CONFIGS = (None, 2, MEMBERS), (CONFIG, PUBLISHED)
B, H = 8, CONFIG.horizon


def watched(pwm: PWM) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Inputs and outputs of networks in the actor's pass, until its step, by name."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    over: list[bool] = []
    pwm.actor_optimizer.register_step_post_hook(lambda *_: over.append(True))
    model = pwm.model
    networks = {
        "critic": pwm.critic.net,
        "encoder": model.encoder,
        "dynamics": model.dynamics,
        "reward": model.reward_head,
    }
    for name, network in networks.items():
        calls = seen[name] = []

        def note(module: Any, given: Any, out: Tensor, calls: list = calls) -> None:
            if not over:
                calls.append((given[0], out))

        network.register_forward_hook(note)
    return seen


@pytest.mark.parametrize("config", CONFIGS, ids=["ours", "theirs"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_value_and_one_batch_of_rewards_are_in_the_graph(kind: Kind, config: PWMConfig) -> None:
    pwm = assemble(kind, config=config)
    seen = watched(pwm)
    pwm.update(starts(pwm.population))
    policies = pwm.population or 1
    ((last, value),) = seen["critic"]  # of the last latents only
    assert last.shape[-2] == B
    assert value.requires_grad
    ((judged, logits),) = seen["reward"]  # all steps at once
    assert judged.shape[:-1].numel() == policies * B * H
    assert logits.requires_grad
    ((_, latent),) = seen["encoder"]
    assert not latent.requires_grad
    assert [out.shape[:-1].numel() for _, out in seen["dynamics"]] == [policies * B] * H


def test_values_of_every_step_are_in_the_graph_where_they_are_asked_for() -> None:
    """The count above can fail: lambda-returns need a value at each step."""
    pwm = assemble(None, config=PWMConfig.paper(horizon=H, actor_lam=0.95))
    seen = watched(pwm)
    pwm.update(starts(None))
    ((after, value),) = seen["critic"]
    assert after.shape[-2] == B * H
    assert value.requires_grad


def test_targets_keep_no_graph() -> None:
    pwm = assemble(None, config=PWMConfig.paper(horizon=H, critic_epochs=1, critic_splits=1))
    grads = []
    pwm.critic.register_forward_hook(lambda module, given, out: grads.append(out.requires_grad))
    pwm.update(starts(None))
    assert grads == [True, False]  # the last value, the targets; the fit reads `values`


@pytest.mark.parametrize("config", CONFIGS, ids=["ours", "theirs"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_model_takes_no_gradient_and_is_given_back(kind: Kind, config: PWMConfig) -> None:
    pwm = assemble(kind, Execution(check_every=1), config)
    model, batch = pwm.model, starts(pwm.population)
    model.encoder[0].weight.requires_grad_(False)  # it was so before, and stays so
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    inside: list[bool] = []
    model.dynamics.register_forward_hook(
        lambda *_: inside.extend(p.requires_grad for p in model.parameters())
    )
    pwm.update(batch)
    batch["observation"][:] = torch.nan
    with pytest.raises(ValueError, match="must be finite"):
        pwm.update(batch)
    assert len(inside) == 2 * H * len(before)
    assert not any(inside)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert all(p.requires_grad for p in pwm.critic.parameters())
    assert all(p.grad is None for p in model.parameters())


def kept_inputs(pwm: PWM, run: Callable[[], object]) -> tuple[int, int]:
    """How many inputs of the model's products autograd saves in `run`, and how many there are."""
    inputs: list[Tensor] = []
    saved: set[int] = set()
    kept: list[Tensor] = []  # alive, or their place in memory would be taken by others

    def pack(x: Tensor) -> Tensor:
        saved.add(x.untyped_storage().data_ptr())
        kept.append(x)
        return x

    layers = [m for m in pwm.model.modules() if isinstance(m, nn.Linear)]
    hooks = [m.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for m in layers]
    with saved_tensors_hooks(pack, lambda x: x):
        run()
    for hook in hooks:
        hook.remove()
    return sum(x.untyped_storage().data_ptr() in saved for x in inputs), len(inputs)


@pytest.mark.parametrize("config", CONFIGS, ids=["ours", "theirs"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_saved_for_weights_of_the_model(kind: Kind, config: PWMConfig) -> None:
    """The gradient of a weight needs the input of its product; that of the input does not."""
    pwm, batch = assemble(kind, config=config), starts(2 if kind else None)
    # Two products of the encoder, two of the dynamics at each step, and two of the reward.
    assert kept_inputs(pwm, lambda: pwm.update(batch)) == (0, 2 + 2 * H + 2)
    free = kept_inputs(pwm, lambda: pwm.rollout(torch.rand(*batch.shape, 16), batch["task"]))
    assert free == (2 * H + 2, 2 * H + 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it traces
@pytest.mark.parametrize("config", CONFIGS, ids=["ours", "theirs"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_graph_for_all_steps(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, config: PWMConfig
) -> None:
    """One graph of a step, one of the targets' values and one of a critic loss, ever."""
    graphs, runs = [], []

    def counted(function: Any) -> Any:
        def backend(graph: Any, inputs: Any) -> Any:
            graphs.append(graph)
            return lambda *given: runs.append(graph) or graph(*given)

        return torch.compile(function, backend=backend, fullgraph=True)

    for module in ("rollout", "execution.runner", "algorithms.critic_fit"):
        monkeypatch.setattr(f"pwm_sdk.{module}.compiled", counted)
    torch._dynamo.reset()
    pwm = assemble(kind, Execution(compile=True), config)
    for _ in range(2):
        pwm.update(starts(pwm.population))
    torch._dynamo.reset()
    assert len(graphs) == 3
    steps = config.critic_epochs * config.critic_splits
    assert [runs.count(graph) for graph in graphs] == [2 * H, 2, 2 * steps]
