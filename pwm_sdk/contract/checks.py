"""The contract, as checkers for users' own models and pools."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pwm_sdk.calls import checked, least
from pwm_sdk.contract.abilities import lacks
from pwm_sdk.contract.memory import has_memory
from pwm_sdk.contract.models import (
    FactoredModel,
    LatentModel,
    MemoryModel,
    looked_up,
    sees_features,
)
from pwm_sdk.contract.pools import Pool
from pwm_sdk.functional.context import Context
from pwm_sdk.functional.gradients import slopes
from pwm_sdk.keys import SUCCESS, TERMINATED, TRUNCATED


@checked()
def check_latent_model(model: object, observation: Tensor, task: Tensor | None = None) -> None:
    """Check that `model` is a differentiable `LatentModel`.

    Args:
        model: the model to check.
        observation: a few observations `[B, O]`, B at least 2.
        task: task ids `[B]`, for a model with tasks.

    Raises:
        ValueError: naming the first point where the contract is broken: attributes, shapes,
            dtypes, rows that influence each other, gradients that do not reach the action or the
            latent, as in a `step` or `features` that detaches the graph, a `step` that is not
            what `next`, `reward` and `terminated` say, for a model that has them, or an `observe`
            that is not `encode` where nothing was seen before.
    """
    if observation.dim() != 2 or len(observation) < 2:
        raise ValueError(
            f"observation must have shape [B, O] with B >= 2, got {list(observation.shape)}"
        )
    for name in ("latent_dim", "action_dim"):
        if not isinstance(getattr(model, name, None), int):
            raise ValueError(f"model.{name} must be an int, got {getattr(model, name, None)!r}")
    for name in ("encode", "step"):
        if not callable(getattr(model, name, None)):
            raise ValueError(f"model.{name} must be a method, got {getattr(model, name, None)!r}")
    own: Any = model
    for name, *given in (("encode", observation, task), ("step", observation, observation, task)):
        _takes(name, getattr(own, name), given)
    batch = len(observation)
    latent = own.encode(observation, task)
    _shape("encode(observation)", latent, (batch, own.latent_dim))
    latent = latent.detach().requires_grad_()
    action = torch.zeros(
        batch, own.action_dim, dtype=latent.dtype, device=latent.device
    ).requires_grad_()
    next_latent, reward, *_ = _step(own, latent, action, task)
    slopes("next latent", next_latent, {"action": action, "latent": latent})
    slopes("reward", reward, {"latent": latent, "action": action}, any_of=True)
    if sees_features(model):
        seen = model.features(latent)
        _shape("features(latent)", seen, (batch, seen.shape[-1] if seen.dim() else 0))
        slopes("features(latent)", seen, {"latent": latent})
    _compare_parts(own, latent, action, task)
    if has_memory(model):
        _check_memory(model, observation, task)
    alone, *_ = _step(own, latent[:1], action[:1], None if task is None else task[:1])
    if not torch.allclose(alone, next_latent[:1], rtol=1e-4, atol=1e-5):
        raise ValueError(
            "step must treat rows independently, got another next latent for a batch of one"
        )


def _compare_parts(model: LatentModel, latent: Tensor, action: Tensor, task: Tensor | None) -> None:
    """Check that `step` is `next`, `reward` and `terminated`, those of them that there are."""
    context = looked_up(model, task)
    next_latent, reward, *ends = _step(model, latent, action, context)
    episodic = getattr(model, "episodic", bool(ends))
    if episodic is not bool(ends):
        said = f"episodic must tell whether step returns terminated ({bool(ends)})"
        raise ValueError(f"{said}, got {episodic!r}")
    if lacks(model, FactoredModel) not in ([], ["factored"], ["episodic", "factored"]):
        return
    parts: dict[str, Any] = {
        "next": (next_latent, latent, action),
        "reward": (reward, latent, action),
    }
    if ends and hasattr(model, "terminated"):
        parts[TERMINATED] = (ends[0], next_latent)
    for name, (expected, *inputs) in parts.items():
        given = getattr(model, name)(*inputs, context)
        _shape(name, given, tuple(expected.shape))
        if not torch.allclose(given.to(expected), expected, rtol=1e-4, atol=1e-5):
            apart = float((given.detach().double() - expected.detach().double()).abs().max())
            raise ValueError(
                f"step must be next, reward and terminated, got another {name} in step than in "
                f"{type(model).__name__}.{name}, by up to {apart:.3g}"
            )


def _check_memory(model: MemoryModel, observation: Tensor, task: Tensor | None) -> None:
    """Check that `observe` is `encode` at first, carries the latent on, and keeps rows apart."""
    latent = model.encode(observation, task).detach().requires_grad_()
    action = latent.new_full((len(latent), model.action_dim), 0.5)
    first = torch.ones(len(latent), 1, dtype=torch.bool, device=latent.device)
    _takes("observe", model.observe, [latent, action, observation, first, task])
    begun = model.observe(latent, action, observation, first, task)
    _shape("observe(latent, action, observation, first)", begun, tuple(latent.shape))
    if not torch.allclose(begun, latent, rtol=1e-4, atol=1e-5):
        raise ValueError("observe must be encode where first is True, got another latent")
    first[0] = False
    mixed = model.observe(latent, action, observation, first, task)
    slopes("observed latent", mixed[:1], {"latent": latent})
    one = None if task is None else task[:1]
    alone = model.observe(latent[:1], action[:1], observation[:1], first[:1], one)
    if not torch.allclose(torch.cat((alone, latent[1:])), mixed, rtol=1e-4, atol=1e-5):
        raise ValueError(
            "observe must treat rows independently, got another latent for a batch of one"
        )


def _step(model: LatentModel, latent: Tensor, action: Tensor, task: Context) -> tuple[Tensor, ...]:
    own: Any = model  # which takes what it looked up in place of ids
    result = own.step(latent, action, task)
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        raise ValueError(
            f"step must return (latent, reward) or (latent, reward, terminated), got {type(result)}"
        )
    _shape("next latent", result[0], tuple(latent.shape))
    _shape("reward", result[1], (len(latent), 1))
    if len(result) == 3:
        _shape("terminated", result[2], (len(latent), 1))
        if result[2].dtype != torch.bool:
            raise ValueError(f"terminated must be bool, got {result[2].dtype}")
    return result


def _takes(name: str, method: Callable[..., Any], given: list[Any]) -> None:
    """Check that a method can be called as everything here calls it."""
    try:
        inspect.signature(method).bind(*given)
    except TypeError as error:
        expected = {
            "encode": ("observation", "task"),
            "step": ("latent", "action", "task"),
            "observe": ("latent", "action", "observation", "first", "task"),
        }[name]
        raise ValueError(
            f"{name} must take {', '.join(expected)} by position, got: {error}"
        ) from error


def _shape(name: str, value: object, shape: tuple[int, ...]) -> None:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        raise ValueError(
            f"{name} must have shape {list(shape)}, got {list(getattr(value, 'shape', []))}"
        )
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must be finite, got {value}")


@checked(steps=least(1))
def check_pool(pool: Pool, steps: int = 1000) -> None:
    """Check that `pool` keeps the contract of a `Pool`, by stepping it; its episodes are lost.

    Args:
        pool: the pool to check. It is left open, at the start of episodes of no seed.
        steps: most steps until an episode must have ended, for what is said of ends to be checked.

    Raises:
        ValueError: naming the first point where the contract is broken: sizes of its lists,
            observations, rewards and flags of other types, seeds that do not reproduce an episode,
            actions out of bounds that are not clipped, actions of another size or that are not
            finite, places that it does not have, steps outside an episode that are not refused, a
            row that is started without its caller, or that starts others with it.
    """
    rows = list(range(len(pool)))
    if not rows:
        raise ValueError("pool must hold at least one environment, got none")
    for name in ("tasks", "action_dims", "names"):
        if len(getattr(pool, name)) != len(rows):
            raise ValueError(
                f"pool.{name} must have {len(rows)} entries, got {len(getattr(pool, name))}"
            )
    seeds = [7 + i for i in rows]
    first = _observed(pool.reset_many(rows, seeds), None)
    up = [np.ones(size, np.float32) for size in pool.action_dims]
    one = _steps(pool, rows, up, first)
    if not _alike(_observed(pool.reset_many(rows, seeds), first), first):
        raise ValueError("seeds of pool must reproduce start states, got other observations")
    if not _alike(_steps(pool, rows, [3 * action for action in up], first), one):
        raise ValueError("pool must clip actions to [-1, 1], got another step for 3 than for 1")
    pool.reset_many(rows, seeds)
    _refused("pool.step_many", pool, rows, [np.append(action, 0.0) for action in up], "wide")
    _refused("pool.step_many", pool, rows, [action * np.nan for action in up], "NaN")
    _refused("pool.step_many", pool, [len(rows)], up[:1], "an index that it has not")
    _check_rows_alone(pool, rows, seeds, first)
    _check_ends(pool, rows, steps)
    pool.reset_many(rows)


def _check_rows_alone(pool: Pool, rows: list[int], seeds: list[int], first: list[Any]) -> None:
    """Check that an episode that starts leaves those of the other rows alone."""
    if len(rows) == 1:
        return
    idle = [np.zeros(size, np.float32) for size in pool.action_dims]
    found = []
    for restart in (False, True):
        pool.reset_many(rows, seeds)
        _steps(pool, rows, idle, first)
        if restart:
            pool.reset_many([0])
        found.append(_steps(pool, rows, idle, first)[1:])
    if not _alike(*found):
        raise ValueError("pool must reset rows alone, got a reset of row 0 that changed others")


def _check_ends(pool: Pool, rows: list[int], steps: int) -> None:
    """Check that an episode that ended stays so until the caller starts another."""
    rng = np.random.default_rng(0)
    first = pool.reset_many(rows)
    for _ in range(steps):
        actions = [rng.uniform(-1, 1, size).astype(np.float32) for size in pool.action_dims]
        found = _steps(pool, rows, actions, first)
        ended = [i for i in rows if found[i].terminated or found[i].truncated]
        if ended:
            _refused("pool.step_many", pool, ended, [actions[i] for i in ended], "an ended episode")
            pool.reset_many(ended)
            _steps(pool, ended, [actions[i] for i in ended], [first[i] for i in ended])
            return


def _steps(pool: Pool, rows: list[int], actions: list[Any], first: list[Any]) -> list[Any]:
    """Step some rows, which show observations as `first`, and check what comes back."""
    found = list(pool.step_many(rows, actions))
    if len(found) != len(rows):
        raise ValueError(f"pool.step_many must return {len(rows)} steps, got {len(found)}")
    _observed([step.observation for step in found], first)
    for step in found:
        if not isinstance(step.reward, float) or not np.isfinite(step.reward):
            raise ValueError(f"reward of a step must be a finite float, got {step.reward!r}")
        for name in (SUCCESS, TERMINATED, TRUNCATED):
            if not isinstance(getattr(step, name), bool):
                raise ValueError(f"{name} of a step must be a bool, got {getattr(step, name)!r}")
    return found


def _observed(observations: Iterable[Any], first: list[Any] | None) -> list[Any]:
    """Check observations `[O]` float32, of the shapes of `first`."""
    found = list(observations)
    for i, seen in enumerate(found):
        said = f"{getattr(seen, 'dtype', type(seen))} of shape {list(np.shape(seen))}"
        fine = isinstance(seen, np.ndarray) and seen.dtype == np.float32 and seen.ndim == 1
        if not fine or (first is not None and seen.shape != first[i].shape):
            raise ValueError(f"observations of pool must be float32 vectors, got {said}")
        if not np.isfinite(seen).all():
            raise ValueError(f"observations of pool must be finite, got {seen} of row {i}")
    return [seen.copy() for seen in found]


def _alike(one: Sequence[Any], two: Sequence[Any]) -> bool:
    """Compare observations, or steps, up to the rounding of batches of another size."""
    pairs = zip(one, two, strict=True)
    if isinstance(one[0], np.ndarray):
        return all(np.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in pairs)
    return all(
        _alike([np.append(a.observation, a.reward)], [np.append(b.observation, b.reward)])
        for a, b in pairs
    )


def _refused(name: str, pool: Pool, rows: list[int], actions: list[Any], what: str) -> None:
    call: Callable[..., Any] = pool.step_many
    try:
        call(rows, actions)
    except (ValueError, RuntimeError):
        return
    raise ValueError(f"{name} must refuse {what}, got no error")
