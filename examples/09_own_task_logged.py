"""A Gymnasium environment of your own as a task: learned in a folder, with TensorBoard."""

from pathlib import Path

import gymnasium
import numpy as np

from pwm_sdk import Run, Task, evaluate, make_env, make_logger, online_pwm, register_task

ROUNDS, SCALE = 1, "tiny"  # of "small", ten rounds swing the pendulum up


class CheaperTorque(gymnasium.Wrapper):
    """The pendulum with torques that cost nothing."""

    def step(self, action):
        """Give back what Pendulum takes for torque."""
        observation, reward, *rest = self.env.step(action)
        torque = float(np.clip(action[0], -2.0, 2.0))
        return observation, float(reward) + 0.001 * torque**2, *rest


def make():
    """What is registered: a function, so that every pool makes environments of its own."""
    return CheaperTorque(gymnasium.make("Pendulum-v1"))


# Ids of Gymnasium need no registration: online_pwm("HalfCheetah-v5"), with gymnasium[mujoco]
register_task(Task.from_env(make, "cheap-pendulum"), make)
agent = online_pwm("cheap-pendulum", SCALE)
print(agent.code)  # the program that it stands for
folder = Path("runs/cheap-pendulum")
try:
    logger = make_logger(folder, ["csv", "tensorboard"])  # tensorboard --logdir runs
except ImportError as error:  # pip install "pwm-sdk[log]"
    print(f"without TensorBoard: {error}")
    logger = make_logger(folder)
with logger:
    run = Run(folder, agent, logger=logger, readings=1, episodes=1).train(rounds=ROUNDS)
print(sorted(path.name for path in folder.iterdir()))
print(evaluate(make_env("cheap-pendulum", seed=1), run.policy, episodes=2))
