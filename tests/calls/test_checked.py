"""The decorator itself: what it reads from annotations, and what it leaves alone."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from legal_parts import parts, pwm
from torch import Tensor, nn

from pwm_sdk import fit, run_episodes, run_identity
from pwm_sdk.calls import (
    anywhere,
    checked,
    has,
    least,
    may_be_infinite,
    or_nothing,
    outside,
    shaped,
)
from pwm_sdk.checks import in_unit


@checked(gamma=in_unit, limit=may_be_infinite)
def mix(
    latent: Tensor,
    gamma: float | Tensor,
    count: int = 1,
    *rest: Tensor,
    names: Sequence[str] = (),
    limit: float = 1.0,
    seed: int | None = None,
    on_step: Callable[[], None] | None = None,
) -> Any:
    return gamma, count, seed


@checked(task=anywhere, part=(has("step"), or_nothing))
class Thing(nn.Module):
    def __init__(self, latent_dim: int, part: Any = 3) -> None:
        super().__init__()
        self.latent_dim, self.weight = latent_dim, nn.Parameter(torch.zeros(1))

    def forward(self, latent: Tensor, noise: Tensor | None = None) -> Tensor:
        return latent

    @classmethod
    def made(cls, size: int) -> Any:
        return cls(size, None)


@checked(width=least(1))
@dataclass(frozen=True)
class Settings:
    width: int = 1
    rate: float = 0.1


LATENT = torch.zeros(4, 3)


def test_numbers_of_numpy_come_in_as_pythons() -> None:
    found = mix(LATENT, np.float32(0.5), np.int64(2), seed=np.uint32(3))
    assert found == (0.5, 2, 3)
    assert [type(value) for value in found] == [float, int, int]
    settings = Settings(np.int32(4), np.float64(0.25))
    assert [type(settings.width), type(settings.rate)] == [int, float]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent": [1.0]}, r"latent must be a tensor, got \[1.0\]"),
        ({"latent": LATENT.long()}, "latent must be floating point, got torch.int64"),
        ({"latent": torch.zeros(())}, r"latent must have shape \[.., D\], got \[\]"),
        ({"gamma": float("nan")}, "gamma must be a finite number or a tensor, got nan"),
        ({"gamma": torch.tensor([0.5, 2.0])}, r"gamma must lie in \[0, 1\], got \[0.5, 2.0\]"),
        ({"gamma": torch.ones(2, device="meta")}, "gamma must be on cpu as latent, got meta"),
        ({"count": True}, "count must be an integer, got True"),
        ({"names": "abc"}, "names must be a sequence of items, each a string, got 'abc'"),
        ({"limit": float("nan")}, "limit must be a number, got nan"),
        ({"seed": -1}, r"seed must be an integer in 0..2\*\*32 - 1, got -1"),
        ({"on_step": 3}, "on_step must be callable, got 3"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        mix(**{"latent": LATENT, "gamma": 0.5, **settings})


def test_values_that_passed_once_do_not_let_others_pass() -> None:
    mix(LATENT, 0.5, 1)
    for wrong in (True, 1.0):  # equal to 1, and hashed alike
        with pytest.raises(ValueError, match="count must be an integer"):
            mix(LATENT, 0.5, wrong)
    mix(LATENT, 0.5, limit=float("inf"))


def test_tensors_fit_the_object_and_each_other() -> None:
    thing = Thing.made(3)
    thing(LATENT, torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"latent must have size 3, got \[4, 2\]"):
        thing(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"noise must have leading shape \[4\] as latent"):
        thing(LATENT, torch.zeros(5, 2))
    with pytest.raises(ValueError, match="latent must be on cpu as self, got meta"):
        thing(LATENT.to("meta"))
    with pytest.raises(ValueError, match="part must have step, got 4"):
        Thing(3, 4)


def test_a_shape_may_be_told() -> None:
    @checked(table=shaped(None, 2))
    def read(table: Tensor) -> int:
        return len(table)

    assert read(torch.zeros(5, 2)) == 5
    with pytest.raises(ValueError, match=r"table must have shape \[any, 2\], got \[5, 3\]"):
        read(torch.zeros(5, 3))


def test_rest_and_unknown_arguments_are_pythons_matter() -> None:
    mix(LATENT, 0.5, 1, LATENT, LATENT)
    with pytest.raises(ValueError, match="rest must be a tensor, got 3"):
        mix(LATENT, 0.5, 1, 3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        mix(LATENT, 0.5, other=1)
    with pytest.raises(TypeError, match="positional argument"):
        Settings(1, 0.1, 3)
    with pytest.raises(TypeError, match="missing 2 required positional arguments"):
        Thing.forward()


def test_what_is_compiled_is_not_checked() -> None:
    torch.compiler.reset()  # what other tests compiled, or gave up compiling
    compiled = torch.compile(Thing.made(3), backend="eager", fullgraph=True)
    assert compiled(LATENT).shape == LATENT.shape


def test_classes_are_copied_and_pickled() -> None:
    assert pickle.loads(pickle.dumps(Settings(2))) == copy.deepcopy(Settings(2)) == Settings(2)
    assert pickle.loads(pickle.dumps(mix)) is mix


class Wider(Thing):
    """Overrides a method with another signature, and calls the checked one."""

    def forward(self, latent: Tensor, extra: int = 0) -> Tensor:  # pyright: ignore
        return super().forward(latent)


def test_a_subclass_may_have_another_signature() -> None:
    assert Wider(3)(LATENT, extra=2).shape == LATENT.shape
    with pytest.raises(ValueError, match="latent must be a tensor, got 'x'"):
        Wider(3)("x", extra=2)


def test_replaced_settings_are_checked() -> None:
    assert type(dataclasses.replace(Settings(), width=np.int64(3)).width) is int
    with pytest.raises(ValueError, match=r"width must be an integer, got 1.5"):
        dataclasses.replace(Settings(), width=1.5)


def test_what_passed_once_passes_for_the_same_sizes_types_and_places_alone() -> None:
    thing = Thing(3)
    thing(LATENT)
    for wrong in (LATENT.T, LATENT.double(), LATENT.long(), LATENT.to("meta"), LATENT[:0, :0]):
        with pytest.raises(ValueError, match="latent must"):
            thing(wrong)
    thing.latent_dim = 4
    with pytest.raises(ValueError, match="latent must have size 4"):
        thing(LATENT)
    thing.latent_dim = 3
    with pytest.raises(ValueError, match="latent must be on meta as self, got cpu"):
        thing.to("meta")(LATENT)


def test_numbers_of_another_type_than_the_weights_are_refused_unless_they_are_cast() -> None:
    thing = Thing(3)
    with torch.autocast("cpu", torch.bfloat16):
        thing(LATENT.bfloat16())
    with pytest.raises(ValueError, match=r"latent must be torch.float32 as the weights, got"):
        thing(LATENT.bfloat16())
    thing.double()(LATENT.double())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_door_open(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    @checked()
    def run(step: Callable[[], None]) -> None:
        step()

    with pytest.raises(error):
        run(fail)
    with pytest.raises(ValueError, match="latent must be"):
        mix("x", 0.5)


def test_threads_and_callbacks_of_a_checked_call_are_checked() -> None:
    found: list[Any] = []

    def wrong() -> None:
        with pytest.raises(ValueError, match="latent must be a tensor"):
            mix("x", 0.5)
        found.append(mix(LATENT, 0.5))

    @checked()
    def run(step: Callable[[], None]) -> None:
        worker = threading.Thread(target=wrong)
        worker.start()
        worker.join()
        outside(step)()
        mix("x", 0.5)  # the caller's own: not checked again

    run(wrong)
    assert len(found) == 2


def test_steps_of_loops_call_back_with_the_door_open() -> None:
    p, learner = parts(), pwm()
    with pytest.raises(ValueError, match=r"factor must be at least 0.0, got -1.0"):
        fit(learner, p.replay, 1, hooks=[lambda step, metrics: learner.set_learning_rates(-1.0)])
    with pytest.raises(ValueError, match="std must be positive"):
        run_episodes(p.pool, p.policy, [1], on_step=lambda: p.actor.set_std(-1.0))


def test_transformed_calls_are_checked_without_reading_numbers() -> None:
    gammas = torch.tensor([0.5, 0.9])
    found = torch.vmap(lambda gamma: mix(LATENT, gamma)[0] * LATENT)(gammas)
    assert found.shape == (2, *LATENT.shape)
    slope = torch.func.grad(lambda latent: Thing(3)(latent).sum())(LATENT)
    torch.testing.assert_close(slope, torch.ones_like(LATENT))


def test_numbers_beyond_floats_and_sparse_ones_are_refused_by_name() -> None:
    for huge in (10**400, 10**5000):
        with pytest.raises(ValueError, match="limit must be a number, got"):
            mix(LATENT, 0.5, limit=huge)
        with pytest.raises(ValueError, match="seed must be an integer in"):
            mix(LATENT, 0.5, seed=huge)
    with pytest.raises(ValueError, match=r"gamma must be dense, got torch.sparse_coo"):
        mix(LATENT, torch.full((4,), 0.5).to_sparse())


def test_runs_of_equal_settings_are_the_same_run() -> None:
    of_numpy = {"lr": np.float64(0.1), "steps": np.int64(3), "sizes": np.array([1, 2])}
    assert run_identity(of_numpy, seed=np.int64(1)) == run_identity(
        {"lr": 0.1, "steps": 3, "sizes": [1, 2]}, seed=1
    )
    with pytest.raises(ValueError, match="seed must be of JSON values, got <object object"):
        run_identity({}, seed=object())
