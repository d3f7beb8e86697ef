"""Rules of the gate beside values: tasks, each object once, limits, order, and who is named."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from doubles import ACTING, Spy, Still, TensorBuffer, act
from faulty import UNIT, VECTOR, Faulty, Slow
from torchrl.envs import GymWrapper, SerialEnv, StepCounter, TransformedEnv

from pwm_sdk.envs.factory import make_env, make_gym
from pwm_sdk.envs.pool import EnvPool
from pwm_sdk.planner import MPPI
from pwm_sdk.policies.policy import ObservationPolicy
from pwm_sdk.training.collect import run_episodes
from pwm_sdk.training.evaluate import evaluate, evaluate_members
from pwm_sdk.training.transitions import transitions


def wrapped(env: gymnasium.Env) -> gymnasium.Env:
    return gymnasium.wrappers.TransformReward(gymnasium.wrappers.RecordEpisodeStatistics(env), abs)


def test_tasks_are_found_through_wrappers() -> None:
    def padded() -> Any:
        return make_gym("mw-reach", padded=True)

    many = [
        padded(),
        wrapped(padded()),
        GymWrapper(wrapped(padded())),
        TransformedEnv(make_env("mw-reach", padded=True), StepCounter()),
        TransformedEnv(GymWrapper(wrapped(padded())), StepCounter()),
    ]
    pool = EnvPool(many)
    assert pool.tasks == [65] * 5
    assert all("(mw-reach)" in known.where for known in pool.about)
    model = Spy()
    evaluate(wrapped(padded()), ObservationPolicy(Still(6), model=model), episodes=1)
    assert model.task == [65]


def test_tasks_are_never_guessed() -> None:
    planner = MPPI(Spy(), Still(), Still(), samples=4, elites=2, policy_samples=0)
    for policy in (Still(), planner):
        with pytest.raises(ValueError, match="task of environment 0 must be known to a"):
            evaluate(Faulty(), ObservationPolicy(policy, model=Spy()), episodes=1)
    with pytest.raises(ValueError, match="task of environment 0 must be known"):
        evaluate_members([Faulty()], ObservationPolicy(Still(population=1), model=Spy()), 1)
    with pytest.raises(ValueError, match="environment 0 must be one of the model's 80, got 90"):
        evaluate(Faulty(), ObservationPolicy(Still(), model=Spy()), episodes=1, task=90)
    model = Spy()
    evaluate(Faulty(), ObservationPolicy(Still(), model=model), episodes=1, task=0)
    assert model.task == [0]
    assert EnvPool([Faulty()]).tasks == [None]


def test_the_same_environment_twice_is_refused() -> None:
    env = make_gym("pendulum-swingup")
    for other in (env, wrapped(env), env.unwrapped, GymWrapper(env)):
        with pytest.raises(ValueError, match="envs must be different objects, got environment 0"):
            EnvPool([env, other])
    torchrl = TensorBuffer()
    with pytest.raises(ValueError, match="envs must be different objects"):
        EnvPool([TransformedEnv(torchrl, StepCounter()), torchrl])
    once = Faulty()
    with pytest.raises(ValueError, match="must be different objects"):
        evaluate([lambda: once, lambda: once], ObservationPolicy(act(0.0)))


def test_an_episode_is_not_gone_on_with_after_another_pool_began_one() -> None:
    env = make_gym("pendulum-swingup")
    first, second = EnvPool([env]), EnvPool([wrapped(env)])
    first.reset(0)
    first.step(0, np.zeros(1))
    second.reset(0)
    with pytest.raises(
        ValueError, match=r"environment 0 \(pendulum-swingup\) must end its episode"
    ):
        first.step(0, np.zeros(1))
    second.step(0, np.zeros(1))
    first.reset(0)
    first.step(0, np.zeros(1))


@pytest.mark.parametrize("workers", [0, 1])
def test_places_that_a_pool_does_not_have(workers: int) -> None:
    pool = EnvPool([Faulty, Faulty], workers)
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match=f"index must be one of the pool's 2, got {wrong}"):
            pool.reset(wrong)
    with pytest.raises(ValueError, match="seeds must have one entry for each of different envir"):
        pool.reset_many([0, 1], [3])
    with pytest.raises(ValueError, match=r"seeds must have .*, got 2 for \[0, 0\]"):
        pool.reset_many([0, 0])
    pool.reset_many([0, 1])
    with pytest.raises(ValueError, match=r"actions must have .*, got 3 for \[0, 1\]"):
        pool.step_many([0, 1], np.zeros((3, 1)))
    assert pool.step(1, np.zeros(1)).reward == 1.0
    pool.close()


@pytest.mark.parametrize("wrong", [Faulty(), Faulty, "mw-reach", None, 3])
def test_a_pool_is_made_of_a_sequence(wrong: Any) -> None:
    with pytest.raises(ValueError, match="envs must be a sequence of environments, got"):
        EnvPool(wrong)


def test_vector_environments_are_refused_with_what_helps() -> None:
    for many in (
        gymnasium.vector.SyncVectorEnv([Faulty, Faulty]),
        SerialEnv(2, lambda: GymWrapper(Faulty())),
    ):
        with pytest.raises((TypeError, ValueError), match=r"batch.*make_pool\(env\) steps all"):
            EnvPool([many])


def test_limits() -> None:
    endless = partial(Faulty, length=None)
    says = r"environment 0 \(Faulty\) must end its episode within 7 steps, got no end: .*TimeLimit"
    for workers in (0, 1):
        with pytest.raises(ValueError, match=says):
            evaluate(endless, ObservationPolicy(act(0.0)), 1, max_steps=7, workers=workers)
    with pytest.raises(ValueError, match="within 20000 steps"):
        evaluate(endless(), ObservationPolicy(act(0.0)), 1)
    assert evaluate(Faulty(), ObservationPolicy(act(0.0)), 1, max_steps=5)["return"] == 5.0
    for bad in ({"max_steps": 0}, {"max_steps": 1.5}, {"timeout": 0.0}, {"timeout": np.nan}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must"):
            EnvPool([Faulty()], **bad)


def test_slow_environments_are_named() -> None:
    with pytest.raises(ValueError, match=r"environment 0 \(Slow\) must answer within 0.01 s, got"):
        evaluate(Slow(0.05), ObservationPolicy(act(0.0)), 1, timeout=0.01)
    assert evaluate(Slow(0.0), ObservationPolicy(act(0.0)), 1, timeout=10.0)["return"] == 5.0


def test_order_of_calls() -> None:
    for env in (Faulty(), GymWrapper(Faulty()), make_gym("pendulum-swingup")):
        pool = EnvPool([env])
        with pytest.raises(RuntimeError, match=r"step must follow reset, .* of environment 0"):
            pool.step(0, np.zeros(1))
    pool = EnvPool([Faulty()])
    pool.reset(0, seed=np.uint32(3))  # pyright: ignore[reportArgumentType]
    assert pool._members[0].env.np_random_seed == 3
    for _ in range(5):
        pool.step(0, np.zeros(1))
    with pytest.raises(RuntimeError, match="step must follow reset"):
        pool.step(0, np.zeros(1))
    for bad in (-1, 2**32, 1.5, True, "3"):
        with pytest.raises(ValueError, match="seeds must be an integer"):
            pool.reset_many([0], [bad])


def test_workers_that_hang_are_ended(capfd: pytest.CaptureFixture) -> None:
    begin = time.perf_counter()
    pool = EnvPool([Faulty, partial(Slow, 60.0)], workers=2, timeout=0.5)
    processes = pool._workers._processes  # pyright: ignore
    with pytest.raises(ValueError, match=r"environments \[1\] must answer within 0.5 s, got no"):
        run_episodes(pool, ACTING, [1, 1])
    assert not any(process.is_alive() for process in processes)
    assert time.perf_counter() - begin < 30.0
    assert "Traceback" not in capfd.readouterr().err


class Old(gymnasium.Env):
    """Knows no seed, as in old gym."""

    observation_space, action_space = VECTOR, UNIT

    def reset(self):
        return np.zeros(2)


def test_what_makes_no_environment_is_named() -> None:
    with pytest.raises(ValueError, match=r"environment 0 \(Old\) must be reset.*take seed and opt"):
        run_episodes(EnvPool([Old()]), ACTING, [1])
    with pytest.raises(ValueError, match=r"environment 1 must be made by its func.*KeyEr"):
        EnvPool([Faulty, lambda: {}["a"]])
    with pytest.raises(TypeError, match=r"environment 0 must be .* EnvBase, got NoneType"):
        EnvPool([lambda: None])
    assert evaluate(Faulty, ObservationPolicy(act(0.0)), 1)["return"] == 5.0  # a class makes one
    for run in (
        lambda: run_episodes([Faulty()], ACTING, [1]),
        lambda: next(transitions([Faulty()], ACTING, 1)),
    ):
        with pytest.raises(
            ValueError, match=r"pool must be an object with max_steps, .*step_many, close, got"
        ):
            run()


def test_sizes_that_differ_are_said_alike() -> None:
    def many() -> list:
        return [make_gym("pendulum-swingup"), make_gym("reacher-easy")]

    says = r"observations of one size \(padded=True"
    with pytest.raises(ValueError, match=says):
        run_episodes(EnvPool(many()), ACTING, [1, 1])
    with pytest.raises(ValueError, match=says):
        next(transitions(EnvPool(many()), ACTING, 1))
    with pytest.raises(ValueError, match=r"action of environment 0 .* got \(6,\): padded=True"):
        evaluate(make_gym("pendulum-swingup"), ObservationPolicy(Still(6), model=Spy()), episodes=1)


def test_a_script_without_a_guard_is_told_of_it(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import gymnasium\nfrom functools import partial\n"
        "from pwm_sdk.envs.workers import Workers\n"
        "Workers([partial(gymnasium.make, 'Pendulum-v1')], 1)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 1
    assert 'if __name__ == "__main__":' in done.stderr.rpartition("RuntimeError")[2]
