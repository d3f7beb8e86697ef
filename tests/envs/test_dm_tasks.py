"""The custom dm_control tasks by numbers worked out by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from dm_control.suite import reacher as stock_reacher
from dm_control.utils import rewards

from pwm_sdk.envs.dm_tasks import cheetah, cup, hopper, pendulum, reacher, walker
from pwm_sdk.envs.dm_tasks.registry import CUSTOM_TASKS
from pwm_sdk.envs.dm_tasks.tolerance import gaussian, linear
from pwm_sdk.envs.factory import make_gym
from pwm_sdk.tasks import MT30


def test_exactly_the_custom_tasks_of_mt30_are_here() -> None:
    assert sorted(CUSTOM_TASKS) == sorted(task.name for task in MT30 if task.custom)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.2, 1.0), (5.0, 1.0), (0.6, 0.1), (0.0, 1e-4), (0.9, 0.1**0.25), (-math.inf, 0.0)],
)
def test_gaussian(value: float, expected: float) -> None:
    """0.1 to the power of the squared distance in margins."""
    assert gaussian(value, 1.2, margin=0.6) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "expected"), [(6.0, 1.0), (9.0, 1.0), (4.5, 0.75), (3.0, 0.5), (0.0, 0.0), (-1, 0.0)]
)
def test_linear(value: float, expected: float) -> None:
    assert linear(value, 6.0, margin=3.0, at_margin=0.5) == expected


@pytest.mark.parametrize(("value", "expected"), [(-0.5, 1), (0.75, 0.5), (-0.75, 0.5), (1.0, 0)])
def test_linear_on_both_sides(value: float, expected: float) -> None:
    assert linear(value, -0.5, 0.5, margin=0.5, at_margin=0.0) == expected


def test_tolerances_are_the_suites_to_the_bit() -> None:
    for value in np.random.default_rng(0).uniform(-3, 3, 500):
        expected = rewards.tolerance(value, (1.2, math.inf), margin=0.6)
        assert gaussian(value, 1.2, margin=0.6) == expected
        options = {"margin": 1.5, "value_at_margin": 0.5, "sigmoid": "linear"}
        expected = rewards.tolerance(value, (-1.0, 1.0), **options)
        assert linear(value, -1.0, 1.0, margin=1.5, at_margin=0.5) == expected


def test_an_unstable_simulation_is_not_rewarded() -> None:
    assert math.isnan(gaussian(math.nan, 1.2, margin=0.6))
    assert math.isnan(linear(math.nan, 1.2, margin=0.6, at_margin=0.0))


@pytest.mark.parametrize(
    ("height", "upright", "velocity", "speed", "expected"),
    [
        (1.3, 1.0, -1.0, 1.0, 1.0),
        (1.3, 1.0, 1.0, 1.0, 1 / 6),  # forwards: as good as standing still
        (1.3, 1.0, -4.0, 8.0, 3.5 / 6),  # half the speed: (5 / 2 + 1) / 6
        (0.6, 0.0, -8.0, 8.0, 0.2),  # (3 * 0.1 + 0.5) / 4
    ],
)
def test_walker(
    height: float, upright: float, velocity: float, speed: float, expected: float
) -> None:
    physics = SimpleNamespace(
        torso_height=lambda: height,
        torso_upright=lambda: upright,
        horizontal_velocity=lambda: velocity,
    )
    assert walker.backwards(physics, speed=speed) == pytest.approx(expected, rel=1e-12)


def cheetah_with(speed: float, torso: float, bfoot: float, ffoot: float) -> SimpleNamespace:
    heights = {("torso", "z"): torso, ("bfoot", "z"): bfoot, ("ffoot", "z"): ffoot}
    data = SimpleNamespace(xpos=heights)
    return SimpleNamespace(speed=lambda: speed, named=SimpleNamespace(data=data))


def test_cheetah_runs_backwards() -> None:
    speeds = (-9.0, -8.0, -2.0, 0.0, 3.0)
    seen = [cheetah.run_backwards(cheetah_with(speed, 0, 0, 0)) for speed in speeds]
    assert seen == [1.0, 1.0, 0.25, 0.0, 0.0]


def test_cheetah_runs_on_one_foot() -> None:
    """Back foot down: its share of `up` is 0.1 of 3/5; speed 3: (5 / 2 + 1) / 6."""
    physics = cheetah_with(3.0, torso=1.2, bfoot=0.6, ffoot=1.2)
    raised_front = cheetah.run_on_one_foot(physics, raised="ffoot")
    raised_back = cheetah.run_on_one_foot(physics, raised="bfoot")
    assert raised_front == pytest.approx(3.5 / 6, rel=1e-12)
    assert raised_back == pytest.approx((0.3 + 2.0) / 5.0 * 3.5 / 6, rel=1e-12)


def test_cheetah_jumps() -> None:
    """Mean heights 1.2 and 0.6: tolerances 1 and 0.1; speed 0.75 is half as good as standing."""
    physics = cheetah_with(-0.75, torso=1.0, bfoot=1.4, ffoot=0.2)
    assert cheetah.jump(physics) == pytest.approx((5.5 / 6 + 1.0 / 6) / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("height", "speed", "expected"),
    [(1.0, -1.0, 1.0), (0.6, -0.25, 0.25), (2.0, 1.0, 0.0), (0.59, -1.0, 0.0), (2.1, -1.0, 0.0)],
)
def test_hopper(height: float, speed: float, expected: float) -> None:
    physics = SimpleNamespace(height=lambda: height, speed=lambda: speed)
    assert hopper.hop_backwards(physics) == expected


def test_pendulum() -> None:
    speeds = (0.0, -4.5, 9.0, -20.0)
    seen = [pendulum.spin(SimpleNamespace(angular_velocity=lambda w=w: [w])) for w in speeds]
    assert seen == [0.0, 0.5, 1.0, 1.0]


def cup_with(offset: list[float], velocity: list[float], inside: float) -> SimpleNamespace:
    class Velocity:
        def __getitem__(self, names: list[str]) -> np.ndarray:
            assert names == ["ball_x", "ball_z"]
            return np.array(velocity)

    data = SimpleNamespace(qvel=Velocity())
    return SimpleNamespace(
        in_target=lambda: inside,
        ball_to_target=lambda: np.array(offset),
        named=SimpleNamespace(data=data),
    )


def test_cup() -> None:
    """Distance 0.25 is half as good as 0.5; speed 3 half as good as 6 and counts twice."""
    assert cup.spin(cup_with([0.15, -0.2], [0.0, 0.0], 0.0)) == pytest.approx(0.5 / 3)
    assert cup.spin(cup_with([0.3, 0.4], [-1.8, 2.4], 0.0)) == pytest.approx(2 / 3)
    assert cup.spin(cup_with([0.0, 0.0], [6.0, 0.0], 1.0)) == 0.0


def test_cup_starts_inside_in_most_episodes() -> None:
    env = make_gym("cup-spin", seed=0)
    inside = []
    for _ in range(60):
        env.reset()
        physics = env.unwrapped.simulator.physics
        assert physics.data.ncon == 0
        inside.append(bool(physics.in_target()))
    assert 45 <= sum(inside) < 60  # 0.9 of the episodes, and some that start inside by chance


def test_reacher_has_three_links() -> None:
    """Stretched out along x, the finger is 3 times 9 cm away and 1 cm high."""
    env = make_gym("reacher-three-easy", seed=0)
    env.reset()
    physics = env.unwrapped.simulator.physics
    with physics.reset_context():
        physics.data.qpos[:] = 0.0
    np.testing.assert_allclose(physics.named.data.geom_xpos["finger"], [0.27, 0, 0.01], atol=1e-12)
    assert physics.model.actuator_gear[:, 0].tolist() == [0.05] * 3
    assert physics.model.dof_damping.tolist() == [0.01] * 3
    limits = np.rad2deg(physics.model.jnt_range[1:])
    np.testing.assert_allclose(limits, [[-80, 80], [-80, 80]])
    assert physics.model.jnt_limited.tolist() == [0, 1, 1]


def test_reacher_is_rewarded_within_the_radii() -> None:
    for name, radius in (("reacher-three-easy", 0.06), ("reacher-three-hard", 0.025)):
        simulator = make_gym(name, seed=0).unwrapped.simulator
        simulator.reset()
        for distance, expected in ((radius - 1e-4, 1.0), (radius + 1e-4, 0.0)):
            with simulator.physics.reset_context():
                simulator.physics.data.qpos[:] = 0.0
                simulator.physics.named.model.geom_pos["target", :2] = [0.27 - distance, 0.0]
            assert simulator.task.get_reward(simulator.physics) == expected


def test_reacher_wants_the_stock_model() -> None:
    model = stock_reacher.get_model_and_assets()[0].decode()
    three = reacher.three_link_arm(model)
    with pytest.raises(ValueError, match="model must be the stock reacher's"):
        reacher.three_link_arm(three)
    with pytest.raises(ValueError, match="model must be the stock reacher's"):
        reacher.three_link_arm("<mujoco/>")


@pytest.mark.parametrize(
    ("custom", "stock"),
    [
        ("walker-run-backwards", "walker-run"),
        ("cheetah-jump", "cheetah-run"),
        ("hopper-hop-backwards", "hopper-hop"),
        ("pendulum-spin", "pendulum-swingup"),
    ],
)
def test_starts_as_the_stock_task(custom: str, stock: str) -> None:
    first, second = make_gym(custom, seed=8), make_gym(stock, seed=8)
    for _ in range(2):
        np.testing.assert_array_equal(first.reset()[0], second.reset()[0])
