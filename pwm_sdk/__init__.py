"""The flat public API of pwm_sdk, imported on first use: a name that is not here is private."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pwm_sdk.algorithms.behaviour_cloning import BehaviourCloning, BehaviourCloningConfig
    from pwm_sdk.algorithms.dreamer_v3 import DreamerV3
    from pwm_sdk.algorithms.dreamer_v3_config import DreamerV3Config
    from pwm_sdk.algorithms.ppo import PPO, PPOConfig
    from pwm_sdk.algorithms.published import PublishedModel, ReturnDeviation
    from pwm_sdk.algorithms.pwm import PWM
    from pwm_sdk.algorithms.pwm_config import PWMConfig
    from pwm_sdk.algorithms.sac import SAC, SACConfig
    from pwm_sdk.algorithms.shac import SHAC
    from pwm_sdk.algorithms.shac_config import SHACConfig
    from pwm_sdk.algorithms.tdmpc2 import TDMPC2
    from pwm_sdk.algorithms.tdmpc2_config import TDMPC2Config
    from pwm_sdk.checkpoints.atomic import write_atomic
    from pwm_sdk.checkpoints.foreign import open_foreign
    from pwm_sdk.checkpoints.pwm import pwm_statistics
    from pwm_sdk.checkpoints.tdmpc2 import tdmpc2_policy_prior, tdmpc2_q_ensemble
    from pwm_sdk.data.chunks import from_tdmpc2_chunks, to_tdmpc2_chunks
    from pwm_sdk.data.exports import to_minari
    from pwm_sdk.data.replay import ReplayBuffer, make_episode
    from pwm_sdk.envs.factory import make_env, make_gym, register_task
    from pwm_sdk.envs.pool import EnvPool
    from pwm_sdk.envs.simulated import SimulatorEnv
    from pwm_sdk.functional.gradients import clip_cotangent
    from pwm_sdk.functional.rewards import tolerance
    from pwm_sdk.models.actor import FirstOrderActor
    from pwm_sdk.models.critic import Critic
    from pwm_sdk.models.disagreement import Disagreement
    from pwm_sdk.models.initial import init_orthogonal, init_uniform
    from pwm_sdk.models.layers import init_fan_in
    from pwm_sdk.models.normalizers import ReturnScale, RunningMeanStd
    from pwm_sdk.models.policy_prior import PolicyPrior
    from pwm_sdk.models.q_ensemble import QEnsemble
    from pwm_sdk.models.sizes import ModelSize, model_size
    from pwm_sdk.models.world_model import WorldModel
    from pwm_sdk.objectives.policy import (
        actor_loss,
        behaviour_loss,
        critic_loss,
        imagined_returns,
        lambda_targets,
    )
    from pwm_sdk.objectives.tdmpc2 import joint_loss, prior_loss, td_targets
    from pwm_sdk.objectives.world_model import (
        pwm_model_loss,
        step_errors,
        world_model_errors,
        world_model_loss,
    )
    from pwm_sdk.optim import frozen, minibatches, optimize, soft_update
    from pwm_sdk.planner.mppi import MPPI
    from pwm_sdk.planner.policy_value import PolicyValue
    from pwm_sdk.protocols import (
        LatentModel,
        Policy,
        SimulatorModel,
        StochasticPolicy,
        ValueFunction,
    )
    from pwm_sdk.rollout import LatentRollout
    from pwm_sdk.simulators.mass_spring import MassSpring
    from pwm_sdk.simulators.mujoco import MuJoCoModel
    from pwm_sdk.simulators.suite import make_simulator
    from pwm_sdk.tasks import MT30, MT80, Task, TaskSet
    from pwm_sdk.testing import check_latent_model
    from pwm_sdk.training.collect import Episode, LatentBehaviour, RandomBehaviour, run_episodes
    from pwm_sdk.training.evaluate import evaluate, evaluate_members, summarize
    from pwm_sdk.training.metrics import exploitation_gap
    from pwm_sdk.training.offline import train_offline
    from pwm_sdk.training.online import GrowingBatch
    from pwm_sdk.training.planning import PlannerBehaviour
    from pwm_sdk.training.settings import Learner, RoundConfig
    from pwm_sdk.training.transitions import ObservationBehaviour, RecurrentBehaviour, transitions

__version__ = "0.1.0"

__all__ = [
    "MPPI",
    "MT30",
    "MT80",
    "PPO",
    "PWM",
    "SAC",
    "SHAC",
    "TDMPC2",
    "BehaviourCloning",
    "BehaviourCloningConfig",
    "Critic",
    "Disagreement",
    "DreamerV3",
    "DreamerV3Config",
    "EnvPool",
    "Episode",
    "FirstOrderActor",
    "GrowingBatch",
    "LatentBehaviour",
    "LatentModel",
    "LatentRollout",
    "Learner",
    "MassSpring",
    "ModelSize",
    "MuJoCoModel",
    "ObservationBehaviour",
    "PPOConfig",
    "PWMConfig",
    "PlannerBehaviour",
    "Policy",
    "PolicyPrior",
    "PolicyValue",
    "PublishedModel",
    "QEnsemble",
    "RandomBehaviour",
    "RecurrentBehaviour",
    "ReplayBuffer",
    "ReturnDeviation",
    "ReturnScale",
    "RoundConfig",
    "RunningMeanStd",
    "SACConfig",
    "SHACConfig",
    "SimulatorEnv",
    "SimulatorModel",
    "StochasticPolicy",
    "TDMPC2Config",
    "Task",
    "TaskSet",
    "ValueFunction",
    "WorldModel",
    "actor_loss",
    "behaviour_loss",
    "check_latent_model",
    "clip_cotangent",
    "critic_loss",
    "evaluate",
    "evaluate_members",
    "exploitation_gap",
    "from_tdmpc2_chunks",
    "frozen",
    "imagined_returns",
    "init_fan_in",
    "init_orthogonal",
    "init_uniform",
    "joint_loss",
    "lambda_targets",
    "make_env",
    "make_episode",
    "make_gym",
    "make_simulator",
    "minibatches",
    "model_size",
    "open_foreign",
    "optimize",
    "prior_loss",
    "pwm_model_loss",
    "pwm_statistics",
    "register_task",
    "run_episodes",
    "soft_update",
    "step_errors",
    "summarize",
    "td_targets",
    "tdmpc2_policy_prior",
    "tdmpc2_q_ensemble",
    "to_minari",
    "to_tdmpc2_chunks",
    "tolerance",
    "train_offline",
    "transitions",
    "world_model_errors",
    "world_model_loss",
    "write_atomic",
]

_MODULE_OF = {
    "BehaviourCloning": "pwm_sdk.algorithms.behaviour_cloning",
    "BehaviourCloningConfig": "pwm_sdk.algorithms.behaviour_cloning",
    "Critic": "pwm_sdk.models.critic",
    "Disagreement": "pwm_sdk.models.disagreement",
    "DreamerV3": "pwm_sdk.algorithms.dreamer_v3",
    "DreamerV3Config": "pwm_sdk.algorithms.dreamer_v3_config",
    "EnvPool": "pwm_sdk.envs.pool",
    "Episode": "pwm_sdk.training.collect",
    "FirstOrderActor": "pwm_sdk.models.actor",
    "GrowingBatch": "pwm_sdk.training.online",
    "LatentBehaviour": "pwm_sdk.training.collect",
    "LatentModel": "pwm_sdk.protocols",
    "LatentRollout": "pwm_sdk.rollout",
    "Learner": "pwm_sdk.training.settings",
    "MPPI": "pwm_sdk.planner.mppi",
    "MT30": "pwm_sdk.tasks",
    "MT80": "pwm_sdk.tasks",
    "MassSpring": "pwm_sdk.simulators.mass_spring",
    "ModelSize": "pwm_sdk.models.sizes",
    "MuJoCoModel": "pwm_sdk.simulators.mujoco",
    "ObservationBehaviour": "pwm_sdk.training.transitions",
    "PPO": "pwm_sdk.algorithms.ppo",
    "PPOConfig": "pwm_sdk.algorithms.ppo",
    "PWM": "pwm_sdk.algorithms.pwm",
    "PWMConfig": "pwm_sdk.algorithms.pwm_config",
    "PlannerBehaviour": "pwm_sdk.training.planning",
    "Policy": "pwm_sdk.protocols",
    "PolicyPrior": "pwm_sdk.models.policy_prior",
    "PolicyValue": "pwm_sdk.planner.policy_value",
    "PublishedModel": "pwm_sdk.algorithms.published",
    "QEnsemble": "pwm_sdk.models.q_ensemble",
    "RandomBehaviour": "pwm_sdk.training.collect",
    "RecurrentBehaviour": "pwm_sdk.training.transitions",
    "ReplayBuffer": "pwm_sdk.data.replay",
    "ReturnDeviation": "pwm_sdk.algorithms.published",
    "ReturnScale": "pwm_sdk.models.normalizers",
    "RoundConfig": "pwm_sdk.training.settings",
    "RunningMeanStd": "pwm_sdk.models.normalizers",
    "SAC": "pwm_sdk.algorithms.sac",
    "SACConfig": "pwm_sdk.algorithms.sac",
    "SHAC": "pwm_sdk.algorithms.shac",
    "SHACConfig": "pwm_sdk.algorithms.shac_config",
    "SimulatorEnv": "pwm_sdk.envs.simulated",
    "SimulatorModel": "pwm_sdk.protocols",
    "StochasticPolicy": "pwm_sdk.protocols",
    "TDMPC2": "pwm_sdk.algorithms.tdmpc2",
    "TDMPC2Config": "pwm_sdk.algorithms.tdmpc2_config",
    "Task": "pwm_sdk.tasks",
    "TaskSet": "pwm_sdk.tasks",
    "ValueFunction": "pwm_sdk.protocols",
    "WorldModel": "pwm_sdk.models.world_model",
    "actor_loss": "pwm_sdk.objectives.policy",
    "behaviour_loss": "pwm_sdk.objectives.policy",
    "check_latent_model": "pwm_sdk.testing",
    "clip_cotangent": "pwm_sdk.functional.gradients",
    "critic_loss": "pwm_sdk.objectives.policy",
    "evaluate": "pwm_sdk.training.evaluate",
    "evaluate_members": "pwm_sdk.training.evaluate",
    "exploitation_gap": "pwm_sdk.training.metrics",
    "from_tdmpc2_chunks": "pwm_sdk.data.chunks",
    "frozen": "pwm_sdk.optim",
    "imagined_returns": "pwm_sdk.objectives.policy",
    "init_fan_in": "pwm_sdk.models.layers",
    "init_orthogonal": "pwm_sdk.models.initial",
    "init_uniform": "pwm_sdk.models.initial",
    "joint_loss": "pwm_sdk.objectives.tdmpc2",
    "lambda_targets": "pwm_sdk.objectives.policy",
    "make_env": "pwm_sdk.envs.factory",
    "make_episode": "pwm_sdk.data.replay",
    "make_gym": "pwm_sdk.envs.factory",
    "make_simulator": "pwm_sdk.simulators.suite",
    "minibatches": "pwm_sdk.optim",
    "model_size": "pwm_sdk.models.sizes",
    "open_foreign": "pwm_sdk.checkpoints.foreign",
    "optimize": "pwm_sdk.optim",
    "prior_loss": "pwm_sdk.objectives.tdmpc2",
    "pwm_model_loss": "pwm_sdk.objectives.world_model",
    "pwm_statistics": "pwm_sdk.checkpoints.pwm",
    "register_task": "pwm_sdk.envs.factory",
    "run_episodes": "pwm_sdk.training.collect",
    "soft_update": "pwm_sdk.optim",
    "step_errors": "pwm_sdk.objectives.world_model",
    "summarize": "pwm_sdk.training.evaluate",
    "td_targets": "pwm_sdk.objectives.tdmpc2",
    "tdmpc2_policy_prior": "pwm_sdk.checkpoints.tdmpc2",
    "tdmpc2_q_ensemble": "pwm_sdk.checkpoints.tdmpc2",
    "to_minari": "pwm_sdk.data.exports",
    "to_tdmpc2_chunks": "pwm_sdk.data.chunks",
    "tolerance": "pwm_sdk.functional.rewards",
    "train_offline": "pwm_sdk.training.offline",
    "transitions": "pwm_sdk.training.transitions",
    "world_model_errors": "pwm_sdk.objectives.world_model",
    "world_model_loss": "pwm_sdk.objectives.world_model",
    "write_atomic": "pwm_sdk.checkpoints.atomic",
}


def __getattr__(name: str) -> object:
    """Import the module of a public name when the name is first used.

    Args:
        name: a name of ``__all__``.

    Returns:
        The object of that name, kept in this module for the next use.

    Raises:
        AttributeError: if ``name`` is not public.
    """
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'pwm_sdk' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*__all__, "__version__"})
