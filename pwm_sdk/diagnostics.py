"""What a first-order policy climbs: gradients of its return and the return's landscape."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.func import functional_call, vmap

from pwm_sdk import keys
from pwm_sdk.functional.returns import alive_steps
from pwm_sdk.protocols import LatentModel, SimulatorModel, StochasticPolicy, features
from pwm_sdk.rollout import LatentRollout


class EncodedSimulator:
    """A simulator seen through a world model's encoder, as a `LatentModel`.

    A policy on the world model's latents can then act, and be differentiated, in both: steps and
    rewards are the simulator's, and `features` are the encodings of its observations.

    Args:
        simulator: the dynamics; its latent stays the latent.
        encoder: a `LatentModel` of one task, whose `encode` maps the simulator's observations.
    """

    def __init__(self, simulator: SimulatorModel, encoder: LatentModel) -> None:
        self.simulator, self.encoder = simulator, encoder
        self.latent_dim, self.action_dim = simulator.latent_dim, simulator.action_dim

    def encode(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the simulator's states `[.., D]` of what its own `encode` takes."""
        return self.simulator.encode(observation, task)

    def features(self, latent: Tensor) -> Tensor:
        """Return the world model's latents of states `[.., D]`."""
        return self.encoder.encode(features(self.simulator, latent))

    def step(
        self, latent: Tensor, action: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Advance the simulator one step."""
        return self.simulator.step(latent, action, task)


def policy_gradients(
    model: LatentModel,
    policy: nn.Module,
    latent: Tensor,
    horizons: Sequence[int],
    *,
    gamma: float = 1.0,
    estimator: str = "pathwise",
    noise: Tensor | None = None,
    task: Tensor | None = None,
) -> Tensor:
    r"""Estimate the gradient of the H-step return by a policy's parameters, from each start alone.

    .. math:: J_H = \sum_{t<H} \gamma^t c_t r_t, \quad c_t = \prod_{s<t} (1 - d_s)

    "pathwise" differentiates model and rewards, as first-order policy learning does. "score" needs
    the returns only:

    .. math:: g = \sum_{t<H} c_t \nabla \ln \pi(a_t | z_t)
        \left(\sum_{t \le k<H} \gamma^k c_k r_k - b_t\right)

    with b the mean over the other rows, which leaves the expectation as it is. Each row acts with a
    copy of the parameters, so a horizon takes one pass back whatever the batch.

    Args:
        model: where to act: a world model, a simulator, or an `EncodedSimulator`.
        policy: a `StochasticPolicy` or a deterministic policy, with parameters; for "score" with
            `log_prob(loc, noise)`, as `FirstOrderActor` has.
        latent: starts `[B, D]`. Rows that repeat one start show the spread over noise.
        horizons: every H wanted, at least 1.
        gamma: discount per step.
        estimator: "pathwise" or "score".
        noise: standard normal `[max H, B, A]`, the same in two models for a fair comparison; None:
            drawn here.
        task: ids `[B]`, for a model of several tasks.

    Returns:
        `[len(horizons), B, N]`, N parameters in the order of `policy.parameters()`.

    Raises:
        ValueError: for another estimator, no or senseless horizons, or a policy that does not fit.

    Source: Williams (1992), REINFORCE, for "score"; Mohamed et al. (arXiv 1906.10652) for both.
    """
    if estimator not in ("pathwise", "score"):
        raise ValueError(f"estimator must be 'pathwise' or 'score', got {estimator!r}")
    if not horizons or min(horizons) < 1:
        raise ValueError(f"horizons must be at least 1, got {list(horizons)}")
    copies = _copies(policy, len(latent))
    stochastic = isinstance(copies, StochasticPolicy)
    if noise is None and stochastic:
        seen = features(model, latent)
        shape = (max(horizons), len(latent), copies.action_dim)
        noise = torch.randn(shape, dtype=seen.dtype, device=seen.device)
    rollout = LatentRollout(model, copies, max(horizons))
    if estimator == "pathwise":
        totals = _totals(rollout(latent, task, noise), gamma).unbind(1)
        return torch.stack([copies.gradient(totals[h - 1]) for h in horizons])
    if not hasattr(policy, "log_prob") or noise is None or len(latent) < 2:
        raise ValueError(
            "score needs a stochastic policy with log_prob and at least two rows, "
            f"got {type(policy).__name__} and {len(latent)}"
        )
    with torch.no_grad():
        trajectory = rollout(latent, task, noise)
    return torch.stack(
        [
            copies.gradient(terms)
            for terms in _score_terms(trajectory, copies, noise, gamma, horizons)
        ]
    )


def gradient_statistics(gradients: Tensor, reference: Tensor | None = None) -> dict[str, Tensor]:
    r"""Describe how far a gradient can be relied on, from estimates of it.

    .. math:: \bar g = \frac{1}{B} \sum_i g_i, \quad v = \frac{1}{B-1} \sum_i \|g_i - \bar g\|^2,
        \quad ESNR = (\|\bar g\|^2 - v / B) / v

    Args:
        gradients: `[.., B, N]`, B at least 2 estimates, as of `policy_gradients`.
        reference: `[.., B', N]` estimates of what it should point along; None: no cosine.

    Returns:
        "norm" of the mean, "variance" v of one estimate, summed over parameters, "esnr" of one
        estimate, and with a reference "cosine" of the two means, each `[..]` float64. The ESNR is
        about 0, and can fall below, where the mean is no larger than chance.

    Raises:
        ValueError: for fewer than two estimates.

    Source: Parmas et al. (2023), expected signal-to-noise ratio; PWM (arXiv 2407.02466). Differs:
    without - v / B, the mean of B estimates of pure noise would have a ratio of 1 / B.
    """
    if gradients.dim() < 2 or gradients.shape[-2] < 2:
        raise ValueError(
            f"gradients must have shape [.., B, N] with B >= 2, got {list(gradients.shape)}"
        )
    gradients = gradients.double()
    mean = gradients.mean(-2)
    variance = gradients.var(-2).sum(-1)
    signal = mean.square().sum(-1) - variance / gradients.shape[-2]
    result = {"norm": mean.norm(dim=-1), "variance": variance, "esnr": signal / variance}
    if reference is not None:
        result["cosine"] = torch.cosine_similarity(mean, reference.double().mean(-2), -1)
    return result


@torch.no_grad()
def return_landscape(
    model: LatentModel,
    policy: nn.Module,
    latent: Tensor,
    direction: Tensor,
    offsets: Tensor,
    horizon: int,
    *,
    gamma: float = 1.0,
    noise: Tensor | None = None,
    task: Tensor | None = None,
) -> Tensor:
    """Return the H-step return along a line through a policy's parameters.

    Args:
        model: where to act.
        policy: the policy at offset 0; it is left as it is.
        latent: starts `[B, D]`.
        direction: `[N]`, in the order of `policy.parameters()`.
        offsets: `[K]`, multiples of the direction.
        horizon: H.
        gamma: discount per step.
        noise: standard normal `[H, B, A]`, the same at every offset; None: mean actions.
        task: ids `[B]`, for a model of several tasks.

    Returns:
        `[K, B]`, discounted sums of rewards.

    Raises:
        ValueError: for a direction that does not fit.
    """
    origin = nn.utils.parameters_to_vector(policy.parameters())
    if direction.shape != origin.shape:
        raise ValueError(
            f"direction must have shape {list(origin.shape)}, got {list(direction.shape)}"
        )
    moved: Any = copy.deepcopy(policy)
    if isinstance(moved, StochasticPolicy) and noise is None:
        shape = (horizon, len(latent), moved.action_dim)
        noise = features(model, latent).new_zeros(shape)
    rollout, returns = LatentRollout(model, moved, horizon), []
    for offset in offsets.tolist():
        nn.utils.vector_to_parameters(origin + offset * direction, moved.parameters())
        returns.append(_totals(rollout(latent, task, noise), gamma)[:, -1])
    return torch.stack(returns)


def _totals(trajectory: TensorDictBase, gamma: float) -> Tensor:
    """Discounted sums of the rewards of the first 1..H steps, `[B, H]`."""
    after: Any = trajectory[keys.NEXT]
    reward = after[keys.REWARD].squeeze(-1)
    alive = alive_steps(after[keys.TERMINATED], reward.dtype).squeeze(-1)
    discount = gamma ** torch.arange(reward.shape[1], dtype=reward.dtype, device=reward.device)
    return (reward * alive * discount).cumsum(1)


def _score_terms(
    trajectory: TensorDictBase, copies: Any, noise: Tensor, gamma: float, horizons: Sequence[int]
) -> list[Tensor]:
    """What to differentiate for the score estimate of each horizon, `[B]` each."""
    loc = copies.loc(trajectory[keys.LATENT])
    log_prob = copies.log_prob(loc, noise.movedim(0, 1)).squeeze(-1)
    after: Any = trajectory[keys.NEXT]
    log_prob = log_prob * alive_steps(after[keys.TERMINATED], log_prob.dtype).squeeze(-1)
    totals = _totals(trajectory, gamma)
    before, terms = totals.roll(1, 1), []
    before[:, 0] = 0.0
    for horizon in horizons:
        later = totals[:, horizon - 1 : horizon] - before[:, :horizon]
        baseline = (later.sum(0) - later) / (len(later) - 1)
        terms.append((log_prob[:, :horizon] * (later - baseline)).sum(1))
    return terms


class _Method(nn.Module):
    """One method of a policy as a module, for `functional_call`."""

    def __init__(self, policy: nn.Module, name: str) -> None:
        super().__init__()
        self.policy, self.name = policy, name

    def forward(self, *inputs: Tensor) -> Tensor:
        return getattr(self.policy, self.name)(*inputs)


class _Copies:
    """A deterministic policy that has parameters of its own for every row of a batch."""

    def __init__(self, policy: nn.Module, rows: int) -> None:
        self._policy = policy
        self._parameters = {
            f"policy.{name}": value.detach().repeat(rows, *[1] * value.dim()).requires_grad_()
            for name, value in policy.named_parameters()
        }
        if not self._parameters:
            raise ValueError(f"policy must have parameters, got {type(policy).__name__}")
        self._rows = rows

    def __call__(self, latent: Tensor) -> Tensor:
        return self._each("forward", latent)

    def gradient(self, values: Tensor) -> Tensor:
        """Return the gradient `[B, N]` of each row's value `[B]` by the row's parameters."""
        parts = torch.autograd.grad(
            values.sum(),
            list(self._parameters.values()),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return torch.cat([part.reshape(self._rows, -1) for part in parts], 1)

    def _each(self, name: str, *inputs: Tensor) -> Tensor:
        """Call a method on inputs `[B, X]` or `[B, H, X]`, each row with its own parameters."""
        method = _Method(self._policy, name)
        rows = [x.reshape(self._rows, -1, x.shape[-1]) for x in inputs]
        result = vmap(lambda mine, *x: functional_call(method, mine, x))(self._parameters, *rows)
        return result.reshape(*inputs[0].shape[:-1], -1)


class _StochasticCopies(_Copies):
    """The same of a stochastic policy."""

    @property
    def action_dim(self) -> int:
        """Size of an action."""
        policy: Any = self._policy
        return policy.action_dim

    def loc(self, latent: Tensor) -> Tensor:
        """Return means before squashing."""
        return self._each("loc", latent)

    def squash(self, loc: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return actions."""
        return self._each("squash", *((loc,) if noise is None else (loc, noise)))

    def log_prob(self, loc: Tensor, noise: Tensor) -> Tensor:
        """Return the log-density of the actions that noise led to, `[.., 1]`."""
        return self._each("log_prob", loc, noise)


def _copies(policy: nn.Module, rows: int) -> _Copies:
    kind = _StochasticCopies if isinstance(policy, StochasticPolicy) else _Copies
    return kind(policy, rows)
