"""SHAC: windows that run on, resets inside them, bootstraps, saving, and a known optimum."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from pwm_sdk.algorithms.shac import SHAC
from pwm_sdk.algorithms.shac_config import SHACConfig
from pwm_sdk.algorithms.streams import Streams
from pwm_sdk.envs.factory import make_env
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.normalizers import RunningMeanStd
from pwm_sdk.rollout import LatentRollout
from pwm_sdk.simulators.mass_spring import MassSpring
from pwm_sdk.simulators.suite import make_simulator
from pwm_sdk.training.evaluate import evaluate
from pwm_sdk.training.loop import fit


class Counter:
    """z' = z + 1 + 0 a, reward z + a; starts are -1, -2, ...; it ends at `limit` or in time."""

    latent_dim = action_dim = observation_dim = 1

    def __init__(self, episode_length: int = 100, limit: float = math.inf) -> None:
        self.episode_length, self.limit, self.starts = episode_length, limit, 0

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def features(self, latent: Tensor) -> Tensor:
        return latent

    def reset(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        first, self.starts = self.starts + 1, self.starts + count
        return -torch.arange(first, first + count).float().unsqueeze(-1)

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        following = latent + 1 + 0 * action
        return following, latent + action, following >= self.limit


class LinearQuadratic:
    """z' = A z + B a, reward -(z' Q z + a' R a): the optimum is known, see `optimum`."""

    latent_dim = observation_dim = 2
    action_dim = 1
    episode_length = 20
    gamma = 0.95

    def __init__(self) -> None:
        self.a, self.b = torch.tensor([[1.0, 0.2], [0.0, 1.0]]), torch.tensor([[0.0], [0.2]])
        self.q, self.r = torch.diag(torch.tensor([1.0, 0.1])), 0.1 * torch.eye(1)

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return observation

    def features(self, latent: Tensor) -> Tensor:
        return latent

    def reset(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(count, 2, generator=generator)

    def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
        cost = (latent @ self.q * latent).sum(-1) + (action @ self.r * action).sum(-1)
        return latent @ self.a.T + action @ self.b.T, -cost.unsqueeze(-1)

    def optimum(self) -> Tensor:
        """Gain K of a = -K z, the fixed point of the Riccati recursion."""
        a, b, p, k = self.a, self.b, self.q, torch.zeros(1, 2)
        for _ in range(500):
            k = torch.linalg.solve(self.r + self.gamma * b.T @ p @ b, self.gamma * b.T @ p @ a)
            p = self.q + self.gamma * a.T @ p @ (a - b @ k)
        return k


class Gain(nn.Module):
    """a = -K z: a `StochasticPolicy` without noise."""

    action_dim = 1

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(1, 2))

    def loc(self, latent: Tensor) -> Tensor:
        return -latent @ self.gain.T

    def squash(self, loc: Tensor, noise: Tensor | None = None) -> Tensor:
        return loc

    def forward(self, latent: Tensor) -> Tensor:
        return self.loc(latent)


class Quadratic(nn.Module):
    """V(z) = -z' L L' z, the form that values of linear systems have."""

    def __init__(self) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.eye(2))

    def values(self, latent: Tensor) -> Tensor:
        return self(latent).unsqueeze(0)

    def forward(self, latent: Tensor) -> Tensor:
        return -(latent @ self.root).square().sum(-1, keepdim=True)


def assemble(model, config: SHACConfig, **settings) -> SHAC:
    actor = FirstOrderActor.published(model.observation_dim, model.action_dim, (8,))
    return SHAC(model, actor, Critic.published(model.observation_dim, (8,), 2), config, **settings)


def silence(shac: SHAC) -> None:
    """Let the policy say 0 without noise, and the slow critic 0."""
    with torch.no_grad():
        for part in (*shac.actor.parameters(), *shac.target.parameters()):
            part.zero_()
        shac.actor.log_std.fill_(-20.0)
        shac.actor.min_std = 1e-9


def test_finds_the_optimal_gain_of_a_linear_quadratic_system() -> None:
    model, actor = LinearQuadratic(), Gain()
    config = SHACConfig(
        environments=64, horizon=4, gamma=model.gamma, actor_lr=0.03, critic_lr=0.03,
        critic_epochs=2, critic_splits=2, target_tau=0.2,
    )  # fmt: skip
    shac = SHAC(model, actor, Quadratic(), config, generator=torch.Generator().manual_seed(0))
    fit(shac, None, 400)
    torch.testing.assert_close(actor.gain.detach(), model.optimum(), atol=0.03, rtol=0)


def test_windows_run_on_and_first_episodes_are_staggered() -> None:
    streams = Streams(Counter(episode_length=6), 3)
    rollout = LatentRollout(streams, torch.zeros_like, 2)
    assert streams.age.flatten().tolist() == [0, 2, 4]
    seen = [
        rollout(streams.begin(), restart=streams.restart)["latent"].squeeze(-1) for _ in range(3)
    ]
    # Rows start at -1, -2, -3 and restart at -4 (third row, after 2 steps) and -5 (second).
    expected = [[-1, 0, 1, 2, 3, 4], [-2, -1, 0, 1, -5, -4], [-3, -2, -4, -3, -2, -1]]
    assert torch.cat(seen, 1).tolist() == expected
    assert streams.state.flatten().tolist() == [-6.0, -3.0, 0.0]


def test_only_whole_episodes_are_reported() -> None:
    streams = Streams(Counter(episode_length=2), 2)
    rollout = LatentRollout(streams, torch.zeros_like, 3)
    rollout(streams.begin(), restart=streams.restart)
    # First row: -1 + 0; the second row's first episode began in the middle, then -3 - 2.
    assert torch.cat(streams.finished).tolist() == [-1.0, -5.0]


# Rewards are -1, 0 | -2, -1, where the bar is the cut; the value is 100 everywhere, gamma and
# lambda are 1/2. Behind the second piece stands the slow critic's value, so its return is
# -2 - 1/2 + 100/4 = 22.5. Behind the first stands the same where time cut it, -1 + 0/2 + 100/4
# = 24, and nothing where it terminated: -1. Lambda-returns of the second piece: -1 + 100/2 = 49 and
# -2 + (100 + 49)/4 = 35.25. Of the first: 0 + 100/2 = 50 and -1 + (100 + 50)/4 = 36.5; where it
# terminated, 0 and -1 + (100 + 0)/4 = 24. The actor's lambda-return is the mean of the four.
@pytest.mark.parametrize(
    ("ends", "lam", "expected"),
    [
        (False, None, 24.0 + 22.5),
        (True, None, -1.0 + 22.5),
        (False, 0.5, (36.5 + 50.0 + 35.25 + 49.0) / 4),
        (True, 0.5, (24.0 + 0.0 + 35.25 + 49.0) / 4),
    ],
)
def test_values_stand_behind_cuts_but_not_behind_terminations(
    ends: bool, lam: float | None, expected: float
) -> None:
    model = Counter(limit=1.0) if ends else Counter(episode_length=2)
    shac = assemble(model, SHACConfig(environments=1, horizon=4, gamma=0.5, actor_lam=lam))
    shac.actor = shac.rollout.policy = torch.zeros_like
    shac.target = lambda seen: torch.full_like(seen[..., :1], 100.0)
    trajectory = shac._window()
    after = trajectory["next"]
    marks = after["terminated" if ends else "truncated"].flatten().tolist()
    assert marks == [False, True, False, ends is False]
    assert trajectory["latent"].flatten().tolist() == [-1.0, 0.0, -2.0, -1.0]
    assert after["reward"].flatten().tolist() == [-1.0, 0.0, -2.0, -1.0]
    assert bool(after["truncated"][0, -1])
    assert float(shac._returns(after)) == pytest.approx(expected)


# Rewards are -1, 0 | -2, -1; the value is 8 everywhere, gamma and lambda are 1/2.
# The window: -1 + 0 / 2 + 8 / 4 = 1 and -2 - 1 / 2 + 8 / 4 = -1/2.
# Lambda-returns: behind a cut 0 + 8 / 2 = 4 and -1 + 8 / 2 = 3, and one step before
# -1 + (8 + 4) / 4 = 2 and -2 + (8 + 3) / 4 = 3/4; their mean is 2.4375.
@pytest.mark.parametrize(("lam", "expected"), [(None, 0.5), (0.5, 2.4375)])
def test_returns_are_those_of_the_pieces_by_hand(lam: float | None, expected: float) -> None:
    config = SHACConfig(environments=1, horizon=4, gamma=0.5, actor_lam=lam)
    shac = assemble(Counter(episode_length=2), config)
    silence(shac)
    with torch.no_grad():
        shac.target.net.head.bias.fill_(8.0)
    assert float(shac.update()["return"]) == pytest.approx(expected / 4, abs=1e-5)


def test_no_gradient_crosses_a_reset() -> None:
    class Push(Counter):
        def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
            return latent + action, latent + action

    streams = Streams(Push(episode_length=2), 1)
    actions = [torch.ones(1, 1, requires_grad=True) for _ in range(4)]
    given = iter(actions)
    trajectory = LatentRollout(streams, lambda seen: next(given), 4)(
        streams.begin(), restart=streams.restart
    )
    trajectory["next", "reward"][0, 2:].sum().backward()
    assert [a.grad is None or float(a.grad) for a in actions] == [0.0, 0.0, 2.0, 1.0]


# z' = 10 z + a and r_t = z_{t+1}, gamma 1/2, no value, a policy of zeros: only its head's bias has
# a gradient. The slopes of a return by z_3, z_2, z_1 are 10/8 = 1.25, 10/4 + 10 * 1.25 = 15 and
# 10/2 + 10 * 15 = 155; a clip at 5 cuts the second to 5, and the third, then 5 + 10 * 5 = 55, too.
# The bias gathers 1 + c_1, 1/2 + c_2, 1/4 + c_3 and 1/8, divided by H = 4.
@pytest.mark.parametrize(
    ("clip", "share", "norm"),
    [
        (None, 0.0, (1 + 155 + 0.5 + 15 + 0.25 + 1.25 + 0.125) / 4),
        (200.0, 0.0, (1 + 155 + 0.5 + 15 + 0.25 + 1.25 + 0.125) / 4),
        (5.0, 2 / 3, (1 + 5 + 0.5 + 5 + 0.25 + 1.25 + 0.125) / 4),
    ],
)
def test_the_clip_acts_at_each_step_and_its_share_is_logged(
    clip: float | None, share: float, norm: float
) -> None:
    class Explosive(Counter):
        def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
            following = 10 * latent + action
            return following, following

    config = SHACConfig(environments=2, horizon=4, gamma=0.5, cotangent_clip=clip)
    shac = assemble(Explosive(), config)
    silence(shac)
    metrics = shac.update()
    assert float(metrics["clipped"]) == pytest.approx(share)
    assert float(metrics["actor_grad_norm"]) == pytest.approx(norm, rel=1e-5)


def test_features_are_normalised_and_the_moments_follow() -> None:
    model = MassSpring(2, 2)
    normalizer = RunningMeanStd((16,))
    config = SHACConfig(environments=4, horizon=3, critic_epochs=1)
    shac = assemble(model, config, normalizer=normalizer)
    shac.update()
    assert float(normalizer.count) == pytest.approx(12, abs=1e-3)
    raw = model.reset(3)
    torch.testing.assert_close(shac.encode(raw), normalizer.normalize(raw))
    trajectory = shac._window()
    torch.testing.assert_close(trajectory["latent"], normalizer.normalize(trajectory["state"]))


def test_a_resumed_run_continues_to_the_bit() -> None:
    def fresh() -> SHAC:
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(1)
        config = SHACConfig(environments=4, horizon=3, critic_epochs=2, critic_splits=2)
        normalizer = RunningMeanStd((16,))
        return assemble(MassSpring(2, 2, episode_length=5), config, normalizer=normalizer,
                        generator=generator)  # fmt: skip

    straight, first, second = fresh(), fresh(), fresh()
    metrics = [straight.update() for _ in range(4)][-1]
    for _ in range(2):
        first.update()
    second.load_state_dict(first.state_dict())
    last = second.state_dict()["last_return"]
    assert last.dtype == first.state_dict()["last_return"].dtype
    assert torch.equal(last, first.state_dict()["last_return"])
    assert last.isfinite().all()  # an episode has ended: the next metrics tell of it
    resumed = [second.update() for _ in range(2)][-1]
    for name in ("return", "value_loss", "actor_grad_norm"):
        assert torch.equal(metrics[name], resumed[name])
    assert second.steps == straight.steps == 48


def test_a_state_from_a_file_goes_where_the_environments_are() -> None:
    streams = Streams(MassSpring(2, 2, episode_length=5), 4, device=torch.device("meta"))
    saved = Streams(MassSpring(2, 2, episode_length=5), 4).state_dict()
    streams.load_state_dict(saved)
    assert {value.device.type for value in streams.state_dict().values()} == {"meta"}


def test_bad_input_is_named() -> None:
    config = SHACConfig(environments=2, horizon=2)
    actor, critic = FirstOrderActor.published(1, 1, (4,)), Critic.published(1, (4,), 1)

    class NoStart(Counter):
        reset = property()

    with pytest.raises(ValueError, match="model must have reset, got NoStart"):
        SHAC(NoStart(), actor, critic, config)
    with pytest.raises(ValueError, match="actor must be one policy, got a population of 2"):
        SHAC(Counter(), FirstOrderActor.published(1, 1, (4,), population=2), critic, config)
    with pytest.raises(ValueError, match="environments must be at least 1, got 0"):
        SHAC(Counter(), actor, critic, SHACConfig(environments=0))


def test_a_state_that_turns_nan_stops_before_a_step() -> None:
    class Broken(Counter):
        def step(self, latent: Tensor, action: Tensor, task: Tensor | None = None):
            following = (latent + action) * float("nan")
            return following, following

    shac = assemble(Broken(), SHACConfig(environments=2, horizon=2))
    before = [p.detach().clone() for p in shac.actor.parameters()]
    with pytest.raises(ValueError, match="must be finite"):
        shac.update()
    assert all(torch.equal(a, b) for a, b in zip(before, shac.actor.parameters(), strict=True))


@pytest.mark.slow
def test_beats_a_random_policy_on_the_cartpole() -> None:
    """40k steps through MuJoCo: from a return near 10 to above 100 in the RK4 environment."""
    torch.manual_seed(0)
    model, generator = make_simulator("cartpole-swingup", threads=1), torch.Generator()
    model.bridge.centred = False
    actor = FirstOrderActor.published(5, 1, (64, 64), std=0.5, output_gain=0.1)
    critic = Critic.published(5, (64, 64), 1, scale=10.0)
    config = SHACConfig(environments=32, horizon=32, critic_epochs=4)
    shac = SHAC(model, actor, critic, config, normalizer=RunningMeanStd((5,)),
                generator=generator.manual_seed(0))  # fmt: skip
    env = make_env("cartpole-swingup", seed=0)
    before = evaluate(env, shac.policy(), episodes=2)["return"]
    fit(shac, None, 40)
    assert before < 40.0
    assert evaluate(env, shac.policy(), episodes=2)["return"] > 100.0
