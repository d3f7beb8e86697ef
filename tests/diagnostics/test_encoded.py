"""One policy in a world model and in the simulator behind it."""

from __future__ import annotations

import pytest
import torch

from pwm_sdk.algorithms.dreamer_v3_config import DreamerV3Config
from pwm_sdk.algorithms.rssm_model import RSSMModel
from pwm_sdk.contract.checks import check_latent_model
from pwm_sdk.diagnostics.encoded import EncodedSimulator
from pwm_sdk.diagnostics.gradients import gradient_statistics, policy_gradients
from pwm_sdk.diagnostics.landscape import return_landscape
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.layers import init_fan_in
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.simulators.mass_spring import MassSpring


def test_an_actor_in_a_world_model_and_in_the_simulator_behind_it() -> None:
    """The gradient through encoder, policy and simulator agrees with central differences."""
    torch.manual_seed(0)
    simulator = MassSpring(2, 2, substeps=2)
    sizes = {"latent_dim": 8, "hidden": (16,), "encoder_hidden": (16,), "simnorm_size": 4}
    model = WorldModel.published(simulator.latent_dim, simulator.action_dim, **sizes).double()
    actor = FirstOrderActor.published(8, simulator.action_dim, (6,)).double()
    seen = EncodedSimulator(simulator, model)
    states = simulator.reset(3, torch.Generator().manual_seed(0)).double()
    check_latent_model(seen, states)
    noise = torch.randn(4, 3, simulator.action_dim).double()
    (gradients,) = policy_gradients(seen, actor, states, [4], noise=noise)
    direction = torch.randn(gradients.shape[-1]).double()
    (returns,) = return_landscape(
        seen, actor, states, direction, torch.tensor([-1e-5, 1e-5]), [4], noise=noise
    )
    low, high = returns
    torch.testing.assert_close(gradients @ direction, (high - low) / 2e-5, rtol=1e-4, atol=1e-8)
    latent = model.encode(states)
    imagined = policy_gradients(model, actor, latent, [2, 4], noise=noise, estimator="score")
    assert imagined.shape == (2, 3, gradients.shape[-1]) and bool(imagined.isfinite().all())


def test_both_estimates_of_an_actor_point_the_same_way() -> None:
    """In float32, with any noise: many score estimates agree with backpropagation."""
    torch.manual_seed(0)
    sizes = {"latent_dim": 8, "hidden": (16,), "encoder_hidden": (16,), "simnorm_size": 4}
    model = init_fan_in(WorldModel.published(3, 2, num_bins=0, **sizes))
    torch.nn.init.normal_(model.reward_head[-1].weight)
    start = model.encode(torch.randn(1, 3)).detach().expand(8000, -1)
    for kind in ("pre_tanh", "post_tanh"):
        actor = FirstOrderActor.published(8, 2, (6,), noise=kind, std=0.25)
        noise = torch.randn(2, 8000, 2)
        path, score = (
            policy_gradients(model, actor, start, [2], noise=noise, estimator=estimator)[0]
            for estimator in ("pathwise", "score")
        )
        assert float(gradient_statistics(score, path)["cosine"]) > 0.95


def test_an_encoder_with_memory_is_refused() -> None:
    model = RSSMModel(16, 6, DreamerV3Config(hidden=8, belief=8, blocks=2, bins=11))
    with pytest.raises(ValueError, match="encoder must have no memory"):
        EncodedSimulator(MassSpring(2, 2), model)
