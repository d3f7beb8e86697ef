"""A small environment that misbehaves on request, and a table of what it can do wrong.

Observation: how many steps were taken and the last native action; reward 1; five steps long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

AT = 2  # the step in which things go wrong, counted from 0
WHO = r"environment 0 \(Faulty\)"
VECTOR = spaces.Box(-np.inf, np.inf, (2,), np.float32)
UNIT = spaces.Box(-1.0, 1.0, (1,), np.float32)


class Faulty(gymnasium.Env):
    """Does one thing wrong; see `FAULTS`."""

    def __init__(self, fault: str = "", length: int | None = 5) -> None:
        self.observation_space, self.action_space = VECTOR, UNIT
        self.fault, self.length, self.given = FAULTS.get(fault), length, []
        for name, space in (self.fault.spaces if self.fault else {}).items():
            setattr(self, name, space)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count, first = 0, (np.zeros(2, np.float32), {})
        return first if self.fault is None else self.fault.reset(*first)

    def step(self, action: np.ndarray) -> Any:
        self.given.append(np.array(action))
        observation = np.array([self.count + 1, np.ravel(action)[0]], np.float32)
        result = observation, 1.0, False, self.count + 1 == self.length, {}
        wrong = self.fault is not None and self.count == AT
        self.count += 1
        return self.fault.step(*result) if wrong else result


class Slow(Faulty):
    """Takes its time over every step."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def step(self, action: np.ndarray) -> Any:
        time.sleep(self.seconds)
        return super().step(action)


class Fault(NamedTuple):
    """What goes wrong and what is said of it; "" where nothing should be."""

    says: str
    step: Callable[..., Any] = lambda *result: result
    reset: Callable[..., Any] = lambda *first: first
    spaces: dict[str, Any] = {}  # noqa: RUF012 - never changed


def seen(value: Any, says: str) -> Fault:
    return Fault(says, step=lambda _, *rest: (value, *rest))


def first(value: Any, says: str) -> Fault:
    return Fault(says, reset=lambda _, info: (value, info))


def paid(value: Any, says: str = "") -> Fault:
    return Fault(says, step=lambda o, _, *rest: (o, value, *rest))


def ended(terminated: Any, truncated: Any, says: str = "") -> Fault:
    return Fault(says, step=lambda o, r, _, __, info: (o, r, terminated, truncated, info))


def told(info: Any, says: str = "") -> Fault:
    return Fault(says, step=lambda *result: (*result[:4], info))


def moved(space: Any, says: str = "") -> Fault:
    return Fault(says, spaces={"action_space": space})


def shown(space: Any, says: str = "") -> Fault:
    return Fault(says, spaces={"observation_space": space})


def fail(error: Exception) -> Any:
    raise error


FINITE = rf"observation of {WHO} must be finite, got"
SHAPE = rf"observation of {WHO} must have shape \(2,\), got"
REAL = rf"observation of {WHO} must be 2 real numbers, got"
REWARD = rf"reward of {WHO} must be"
ACTION = rf"action_space of {WHO} must"
OBSERVATION = rf"observation_space of {WHO} must be a Box of shape \(n,\), got .*FlattenObservation"
IN = f" in step {AT}"
box = spaces.Box
UPSIDE_DOWN, NAN_BOUNDS = box(-1.0, 1.0, (1,)), box(-1.0, 1.0, (1,))
UPSIDE_DOWN.low, UPSIDE_DOWN.high = UPSIDE_DOWN.high, UPSIDE_DOWN.low
NAN_BOUNDS.low = np.full(1, np.nan, np.float32)

FAULTS: dict[str, Fault] = {
    # observations
    "nan": seen([np.nan, 0.0], rf"{FINITE} nan in entry 0{IN}"),
    "inf": seen([0.0, -np.inf], rf"{FINITE} -inf in entry 1{IN}"),
    "overflow": seen(np.array([0.0, 1e39]), rf"{FINITE} 1e\+39 in entry 1{IN}"),
    "nan at reset": first([np.nan, 0.0], rf"{FINITE} nan in entry 0 at reset"),
    "overflow at reset": first(np.full(2, -1e300), rf"{FINITE} -1e\+300 in entry 0 at reset"),
    "longer": seen(np.zeros(3), rf"{SHAPE} \(3,\){IN}"),
    "longer at reset": first(np.zeros(3), rf"{SHAPE} \(3,\) at reset"),
    "a row": seen(np.zeros((1, 2)), rf"{SHAPE} \(1, 2\){IN}"),
    "a number": seen(0.0, rf"{SHAPE} \(\){IN}"),
    "a dict": seen({"a": 0.0}, rf"{REAL} dict{IN}"),
    "no observation": seen(None, rf"{REAL} None{IN}"),
    "text": seen(["a", "b"], rf"{REAL} list{IN}"),
    "complex": seen(np.zeros(2, complex), rf"{REAL} ndarray of complex128, shape \(2,\){IN}"),
    "objects": seen(np.zeros(2, object), rf"{REAL} ndarray of object, shape \(2,\){IN}"),
    "ragged": seen([[0.0], [1.0, 2.0]], rf"{REAL} list{IN}"),
    "meta": seen(torch.zeros(2, device="meta"), rf"{REAL} Tensor of torch.float32, .*{IN}"),
    "a list": seen([3, 0], ""),
    "a tuple": seen((3.0, 0), ""),
    "integers": seen(np.array([3, 0]), ""),
    "bools": seen(np.ones(2, bool), ""),
    "float16": seen(np.ones(2, np.float16), ""),
    "inf of float16": seen(np.array([0, np.inf], np.float16), rf"{FINITE} inf in entry 1{IN}"),
    "large": seen(np.array([3.4e38, -1e30]), ""),
    "read-only": seen(np.broadcast_to(np.float32(1.0), 2), ""),
    "tensor with gradient": seen(torch.zeros(2, requires_grad=True), ""),
    "bfloat16": seen(torch.zeros(2, dtype=torch.bfloat16), ""),
    # rewards
    "nan reward": paid(np.nan, rf"{REWARD} finite, got nan{IN}"),
    "inf reward": paid(np.float64("inf"), rf"{REWARD} finite, got inf{IN}"),
    "huge reward": paid(1e39, rf"{REWARD} finite, got 1e\+39{IN}"),
    "no reward": paid(None, rf"{REWARD} one number, got None{IN}"),
    "rewards": paid(np.ones(2), rf"{REWARD} one number, got shape \(2,\){IN}"),
    "empty reward": paid(np.ones(0), rf"{REWARD} one number, got shape \(0,\){IN}"),
    "reward in words": paid("much", rf"{REWARD} one number, got 'much'{IN}"),
    "reward in a dict": paid({"a": 1.0}, rf"{REWARD} one number, got dict{IN}"),
    "reward as numpy": paid(np.float32(1.0)),
    "reward ()": paid(np.array(1.0)),
    "reward (1,)": paid(np.ones(1)),
    "reward (1, 1)": paid(np.ones((1, 1), np.float32)),
    "reward as integer": paid(np.int64(1)),
    "reward as bool": paid(True),
    "reward with gradient": paid(torch.ones((), requires_grad=True)),
    "reward as bfloat16": paid(torch.ones(1, dtype=torch.bfloat16)),
    "long integer as reward": paid(10**400, rf"{REWARD} one number, got 10{{59}}{IN}"),
    "complex reward": paid(1j, rf"{REWARD} one number, got complex{IN}"),
    # flags and infos
    "terminated None": ended(None, False, rf"terminated of {WHO} must be True or False, got None"),
    "truncated None": ended(False, None, rf"truncated of {WHO} must be True or False, got None"),
    "terminated half": ended(0.5, False, rf"terminated of {WHO} must be True or False, got 0.5"),
    "truncated yes": ended(False, "yes", rf"truncated of {WHO} must be True or False, got 'yes'"),
    "two flags": ended(
        np.zeros(2, bool), False, rf"terminated of {WHO} must be True or False, got"
    ),
    "flags as numpy": ended(np.bool_(False), np.zeros(1, bool)),
    "flags as integers": ended(0, np.int64(0)),
    "no info": told(None, rf"info of {WHO} must be a dict, got None{IN}"),
    "success nan": told({"success": np.nan}, rf"success of {WHO} must be True or False, got nan"),
    "success in words": told({"success": "no"}, rf"success of {WHO} must be True or False, got"),
    "success half": told({"success": 0.5}, rf"success of {WHO} must be True or False, got 0.5"),
    "successes": told({"success": [True, False]}, rf"success of {WHO} must be True or False, got"),
    "success None": told({"success": None}),
    "success as tensor": told({"success": torch.ones(1)}),
    "flags as tensors": ended(torch.tensor(False), torch.zeros(1)),
    "info is a tuple": told((), rf"info of {WHO} must be a dict, got tuple{IN}"),
    # interfaces
    "four values": Fault(
        rf"step of {WHO} must return .* got 4 values \(gym before 0.26",
        step=lambda o, r, te, tr, i: (o, r, te or tr, i),
    ),
    "six values": Fault(rf"step of {WHO} must return", step=lambda *result: (*result, 0)),
    "step returns None": Fault(rf"step of {WHO} must return .* None", step=lambda *_: None),
    "reset without info": Fault(rf"reset of {WHO} must return", reset=lambda o, _: o),
    "reset of two entries": Fault(rf"reset of {WHO} must return", reset=lambda o, _: (0.0, 1.0)),
    "reset returns None": Fault(rf"reset of {WHO} must return .* None", reset=lambda *_: None),
    "raises": Fault(
        rf"{WHO} must run{IN}, got KeyError: 'lost'", step=lambda *_: fail(KeyError("lost"))
    ),
    "raises at reset": Fault(
        rf"{WHO} must be reset, got OSError: off", reset=lambda *_: fail(OSError("off"))
    ),
    # spaces
    "Discrete actions": moved(spaces.Discrete(3), rf"{ACTION} be a Box .*TransformAction"),
    "MultiDiscrete actions": moved(spaces.MultiDiscrete([2, 3]), rf"{ACTION} be a Box"),
    "MultiBinary actions": moved(spaces.MultiBinary(2), rf"{ACTION} be a Box"),
    "Dict actions": moved(spaces.Dict(a=UNIT), rf"{ACTION} be a Box"),
    "Tuple actions": moved(spaces.Tuple((UNIT, VECTOR)), rf"{ACTION} be a Box"),
    "matrix actions": moved(box(-1, 1, (2, 2)), rf"{ACTION} be a Box of shape \(n,\)"),
    "no actions": moved(box(-1, 1, (0,)), rf"{ACTION} be a Box of shape \(n,\)"),
    "actions unsaid": moved(None, rf"{ACTION} be a Box of shape \(n,\), got None"),
    "integer actions": moved(box(0, 10, (1,), np.int64), rf"{ACTION} hold floats"),
    "unbounded actions": moved(box(-np.inf, np.inf, (1,)), rf"{ACTION} be bounded, .*ClipAction"),
    "half-bounded actions": moved(box(0, np.inf, (1,)), rf"{ACTION} be bounded"),
    "actions upside down": moved(UPSIDE_DOWN, rf"{ACTION} be bounded by numbers whose"),
    "actions without numbers": moved(NAN_BOUNDS, rf"{ACTION} be bounded by numbers whose"),
    "number as action": moved(box(-1, 1, ()), rf"{ACTION} be a Box of shape \(n,\)"),
    "endless span": moved(box(-3.4e38, 3.4e38, (1,)), rf"{ACTION} be bounded by numbers whose"),
    "one action": moved(box(0.5, 0.5, (1,))),
    "other bounds": moved(box(0.0, 1.0, (1,), np.float64)),
    "Discrete observation": shown(spaces.Discrete(2), OBSERVATION),
    "MultiDiscrete observation": shown(spaces.MultiDiscrete([2, 3]), OBSERVATION),
    "Dict observation": shown(spaces.Dict(a=VECTOR), OBSERVATION),
    "Tuple observation": shown(spaces.Tuple((VECTOR, UNIT)), OBSERVATION),
    "image": shown(box(0, 255, (8, 8, 3), np.uint8), OBSERVATION),
    "matrix observation": shown(box(-1, 1, (2, 1)), OBSERVATION),
    "observation unsaid": shown(None, OBSERVATION),
}
