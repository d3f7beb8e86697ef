"""Gradients in bf16 over thousands of rows, where sums in bf16 would lose them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_updates import CONFIG, MEMBERS, PUBLISHED, Kind, assemble, difference, outcome
from torch import Tensor

from pwm_sdk.algorithms.pwm import PWMConfig
from pwm_sdk.execution.settings import Execution
from pwm_sdk.models import layers
from pwm_sdk.models.layers import StackedMLP

# 1024 starts and 8 steps: 8192 rows in the actor's backward pass and in the critic's only step.
STARTS, ONE_STEP = 1024, {"horizon": 8, "critic_epochs": 1, "critic_splits": 1}
CONFIGS = [replace(CONFIG, **ONE_STEP), replace(PUBLISHED, **ONE_STEP)]
TOLERANCE = 0.04  # norm of the difference over the norm; up to 0.03 was seen


def errors(kind: Kind, config: PWMConfig, expected: dict[str, Tensor]) -> dict[str, float]:
    """Relative error of every tensor's gradient in bf16."""
    found = outcome(assemble(kind, Execution(precision="bf16"), config), count=STARTS)
    names = [name for name in expected if name.startswith("gradient")]
    return {name: difference(found[name], expected[name]) for name in names}


@pytest.mark.parametrize("config", CONFIGS, ids=["ours", "theirs"])
@pytest.mark.parametrize("kind", [None, 2, MEMBERS])
def test_every_gradient_over_thousands_of_rows_is_that_in_fp32(
    kind: Kind, config: PWMConfig
) -> None:
    pwm = assemble(kind, config=config)
    wrong = errors(kind, config, outcome(pwm, count=STARTS))
    assert len(wrong) == len([*pwm.actor.parameters(), *pwm.critic.parameters()])
    assert {name: error for name, error in wrong.items() if not error <= TOLERANCE} == {}


def test_a_layer_norm_in_bf16_would_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU it sums the gradients of scale and shift in bf16, even if these are in fp32."""
    expected, exact = sums(half=False), layers._layer_norm
    assert max(map(difference, sums(half=True), expected)) <= TOLERANCE
    monkeypatch.setattr(layers, "_layer_norm", lambda x, *rest: exact(x.bfloat16(), *rest).float())
    assert min(map(difference, sums(half=True), expected)) > 1.25 * TOLERANCE


def sums(half: bool) -> list[Tensor]:
    """Gradients of scales and shifts that LayerNorm itself sums, over 8192 rows."""
    torch.manual_seed(0)
    net = StackedMLP(32, (64, 32), 2, norm="pre_activation")
    x, wanted = torch.randn(8192, 32), torch.randn(8192, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        loss = (net(x) - wanted).square().mean()
    return list(torch.autograd.grad(loss, [*net.scales, *net.shifts]))
