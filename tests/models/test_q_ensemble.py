"""The Q ensemble: heads, reductions, masks, dropout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vectors import path as golden

from pwm_sdk.checkpoints.foreign import open_foreign
from pwm_sdk.checkpoints.tdmpc2 import tdmpc2_q_ensemble
from pwm_sdk.functional.losses import two_hot_loss
from pwm_sdk.models.conditioning import TaskContext
from pwm_sdk.models.policy_prior import PolicyPrior
from pwm_sdk.models.q_ensemble import QEnsemble
from pwm_sdk.models.sizes import model_size
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.tasks import MT30, MT80


def small_q(**settings) -> QEnsemble:
    """Three heads with weights in every layer."""
    q = QEnsemble(8, 2, **{"hidden": (16, 12), "ensemble": 3, "dropout": 0.0, **settings})
    for parameter in q.parameters():
        nn.init.normal_(parameter, std=0.3)
    return q


def one_head(q: QEnsemble, head: int, x: Tensor) -> Tensor:
    """A head as a plain network."""
    for layer, norm in zip(q.layers, q.norms, strict=True):
        x = F.linear(x, layer.weight[head], layer.bias[head])
        x = F.mish(F.layer_norm(x, x.shape[-1:], norm.weight[head], norm.bias[head]))
    return F.linear(x, q.head.weight[head], q.head.bias[head])


@pytest.mark.parametrize("lead", [(5,), (2, 5)])
def test_heads_are_independent_networks(lead: tuple[int, ...]) -> None:
    q, latent, action = small_q(), torch.rand(*lead, 8), torch.rand(*lead, 2)
    logits = q.logits(latent, action)
    assert logits.shape == (3, *lead, 101)
    joint = torch.cat((latent, action), -1)
    for head in range(3):
        torch.testing.assert_close(logits[head], one_head(q, head, joint))
    some = q.logits(latent, action, heads=torch.tensor([2, 0]))
    torch.testing.assert_close(some, logits[[2, 0]])


def test_values_are_the_least_or_the_mean_of_the_chosen_heads() -> None:
    q, latent, action = small_q(), torch.rand(5, 8), torch.rand(5, 2)
    values, heads = q.decode(q.logits(latent, action)), torch.tensor([1, 2])
    least = q.value(latent, action, heads=heads)
    torch.testing.assert_close(least, torch.minimum(values[1], values[2]))
    mean = q.value(latent, action, heads=heads, reduce="mean")
    torch.testing.assert_close(mean, (values[1] + values[2]) / 2)


def test_heads_are_drawn_from_the_generator() -> None:
    q = small_q(ensemble=5)
    draws = [q.draw_heads(torch.Generator().manual_seed(s)).tolist() for s in range(50)]
    assert all(len(set(pair)) == 2 for pair in draws)
    assert {head for pair in draws for head in pair} == {0, 1, 2, 3, 4}
    assert q.draw_heads(torch.Generator().manual_seed(7)).tolist() == draws[7]
    assert small_q(ensemble=1).draw_heads().tolist() == [0]


def test_values_start_at_zero_and_actions_a_task_lacks_do_not_count() -> None:
    fresh = QEnsemble(8, 2, hidden=(16,))
    assert float(fresh.value(torch.rand(4, 8), torch.rand(4, 2)).detach().abs().max()) < 1e-5
    q, latent = small_q(task_dim=4), torch.rand(2, 8)
    context = TaskContext(torch.rand(2, 4), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    a, b = (q.logits(latent, torch.tensor([[0.5, x]] * 2), context) for x in (0.1, 0.9))
    assert torch.equal(a[:, 0], b[:, 0])
    assert not torch.equal(a[:, 1], b[:, 1])
    given = q.given(context)
    assert given(latent, torch.rand(2, 2)).shape == (2, 1)


def test_dropout_is_on_in_training_only() -> None:
    q, latent, action = small_q(dropout=0.5), torch.rand(5, 8), torch.rand(5, 2)
    assert not torch.equal(q.logits(latent, action), q.logits(latent, action))
    q.eval()
    assert torch.equal(q.logits(latent, action), q.logits(latent, action))


def test_errors_of_outputs_by_hand() -> None:
    scalar = small_q(num_bins=0)
    logits = torch.tensor([[[1.0]], [[4.0]]])
    error = scalar.error(logits, torch.tensor([[3.0]]))
    torch.testing.assert_close(error, torch.tensor([[[4.0]], [[1.0]]]))
    q, target = small_q(), torch.randn(5, 1)
    outputs = q.logits(torch.rand(5, 8), torch.rand(5, 2))
    torch.testing.assert_close(q.error(outputs, target)[1], two_hot_loss(outputs[1], target))


@pytest.mark.parametrize(
    ("size", "tasks", "total"),
    [
        (1, MT30, 1_426_427), (1, MT80, 1_435_067), (5, MT30, 5_241_066), (5, MT80, 5_389_930),
        (19, MT30, 16_031_210), (19, MT80, 18_970_218), (48, MT30, 48_242_410),
        (48, MT80, 48_791_146), (317, MT30, 317_316_889), (317, MT80, 317_383_129),
    ],
)  # fmt: skip
def test_all_networks_together_have_the_published_number_of_parameters(size, tasks, total) -> None:
    with torch.device("meta"):
        model = WorldModel.from_size(size, tasks)
        q = QEnsemble.for_model(model, ensemble=model_size(size, tasks).ensemble)
        parts = (model, q, PolicyPrior.for_model(model))
    assert sum(p.numel() for part in parts for p in part.parameters()) == total


def test_file_round_trip(tmp_path) -> None:
    q, latent, action = small_q(), torch.rand(5, 8), torch.rand(5, 2)
    q.save(tmp_path / "q.safetensors")
    again = QEnsemble.from_checkpoint(tmp_path / "q.safetensors")
    assert torch.equal(again.logits(latent, action), q.logits(latent, action))


def test_captured_by_the_compiler_without_a_break() -> None:
    q, latent, action = small_q(), torch.rand(5, 8), torch.rand(5, 2)
    compiled = torch.compile(q.logits, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(latent, action), q.logits(latent, action))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="ensemble and hidden must hold something, got 0"):
        QEnsemble(8, 2, ensemble=0)
    with pytest.raises(ValueError, match=r"num_bins must be 0 .* or at least 2, got 1"):
        QEnsemble(8, 2, num_bins=1)
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), got 1.0"):
        QEnsemble(8, 2, dropout=1.0)
    q = small_q()
    with pytest.raises(ValueError, match="latent and action must have sizes 8 and 2, got"):
        q.logits(torch.zeros(3, 8), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="reduce must be 'min' or 'mean', got 'max'"):
        q.value(torch.zeros(3, 8), torch.zeros(3, 2), reduce="max")


@pytest.mark.parametrize("style", ["old", "new"])
def test_target_q_functions_of_a_file_of_tdmpc2(style: str, tmp_path: Path) -> None:
    file = golden(f"g7_tdmpc2_ckpt_{style}.pt")
    expected = tdmpc2_q_ensemble(open_foreign(file), target=True)
    target = QEnsemble.from_checkpoint(file, target=True)
    for name, value in target.state_dict().items():
        assert torch.equal(value, expected.weights[name])
    learned = QEnsemble.from_checkpoint(file)
    assert not torch.equal(learned.head.weight, target.head.weight)
    learned.save(tmp_path / "q.safetensors")
    with pytest.raises(ValueError, match="path must be a file of TD-MPC2 for target Q functions"):
        QEnsemble.from_checkpoint(tmp_path / "q.safetensors", target=True)
    with pytest.raises(ValueError, match="must hold a QEnsemble, got a checkpoint of PWM"):
        QEnsemble.from_checkpoint(golden("g7_pwm_ckpt_plain.pt"), target=True)
