"""SHAC: learn through the physics itself, on one core.

python examples/04_shac_in_a_simulator.py [task] [CPU seconds] [seed]
"""

import sys
import time

import torch

from pwm_sdk import (
    SHAC,
    Critic,
    FirstOrderActor,
    RunningMeanStd,
    SHACConfig,
    evaluate,
    make_env,
    make_simulator,
)

SETTINGS = {
    "hopper-forward": {"environments": 16, "horizon": 16, "actor_lr": 1e-3, "critic_lr": 1e-3,
                       "actor_lam": 0.5, "cotangent_clip": 50.0},
    "mass-spring": {"horizon": 24, "actor_lr": 8e-3, "actor_lam": 0.9, "saturation": 0.1,
                    "cotangent_clip": 300.0},
    "soft-body": {"horizon": 16, "cotangent_clip": 10.0},
}  # fmt: skip
task = sys.argv[1] if len(sys.argv) > 1 else "cartpole-swingup"
budget = float(sys.argv[2]) if len(sys.argv) > 2 else 4.0
seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0

torch.set_num_threads(1)
torch.manual_seed(seed)
simulator = make_simulator(task, threads=1)
if hasattr(simulator, "bridge"):
    simulator.bridge.centred = False  # half the cost, enough for learning
size, hidden = simulator.observation_dim, (64, 64) if simulator.action_dim < 100 else (128, 128)
std, min_std = (0.1, 0.03) if task == "mass-spring" else (0.5, 0.1)  # many muscles: little noise
style = {"activation": "elu", "std": std, "min_std": min_std, "output_gain": 0.1}
actor = FirstOrderActor.published(size, simulator.action_dim, hidden, **style)
critic = Critic.published(size, hidden, ensemble=1, activation="elu", scale=10.0)
config = SHACConfig(**{"environments": 32, "critic_epochs": 4, **SETTINGS.get(task, {})})
normalizer = RunningMeanStd((size,))
shac = SHAC(simulator, actor, critic, config, normalizer=normalizer)

env = make_env(task, seed=100 + seed)
print("before", evaluate(env, shac.policy(), episodes=1)["return"])
start = shown = time.process_time()
while (spent := time.process_time() - start) < budget:
    shac.set_learning_rates(max(0.05, 1.0 - spent / budget))
    metrics = shac.update()
    if time.process_time() - shown > budget / 8:
        shown = time.process_time()
        values = {name: round(float(value), 3) for name, value in metrics.items()}
        print(f"{spent:.0f} s, {shac.steps} steps", values, flush=True)
print("after", evaluate(env, shac.policy(), episodes=10 if budget > 30 else 1), shac.steps, "steps")
