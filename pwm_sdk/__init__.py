"""The flat public API of pwm_sdk, imported on first use: a name that is not here is private."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pwm_sdk.algorithms.pwm import PWM
    from pwm_sdk.algorithms.pwm_config import PWMConfig
    from pwm_sdk.checkpoints.atomic import write_atomic
    from pwm_sdk.checkpoints.foreign import open_foreign
    from pwm_sdk.checkpoints.pwm import pwm_statistics
    from pwm_sdk.checkpoints.tdmpc2 import tdmpc2_policy_prior, tdmpc2_q_ensemble
    from pwm_sdk.data.chunks import from_tdmpc2_chunks, to_tdmpc2_chunks
    from pwm_sdk.data.exports import to_minari
    from pwm_sdk.data.replay import ReplayBuffer, make_episode
    from pwm_sdk.envs.factory import make_env, make_gym, register_task
    from pwm_sdk.envs.pool import EnvPool
    from pwm_sdk.models.actor import FirstOrderActor
    from pwm_sdk.models.critic import Critic
    from pwm_sdk.models.disagreement import Disagreement
    from pwm_sdk.models.layers import init_fan_in
    from pwm_sdk.models.normalizers import ReturnScale
    from pwm_sdk.models.world_model import WorldModel
    from pwm_sdk.objectives.policy import (
        actor_loss,
        behaviour_loss,
        critic_loss,
        imagined_returns,
        lambda_targets,
    )
    from pwm_sdk.objectives.world_model import world_model_errors, world_model_loss
    from pwm_sdk.optim import frozen, minibatches, optimize, soft_update
    from pwm_sdk.protocols import LatentModel, Policy, StochasticPolicy, ValueFunction
    from pwm_sdk.rollout import LatentRollout
    from pwm_sdk.tasks import MT30, MT80, Task, TaskSet
    from pwm_sdk.testing import check_latent_model
    from pwm_sdk.training.collect import Episode, LatentBehaviour, RandomBehaviour, run_episodes
    from pwm_sdk.training.evaluate import evaluate, summarize
    from pwm_sdk.training.metrics import exploitation_gap
    from pwm_sdk.training.online import GrowingBatch
    from pwm_sdk.training.settings import Learner, RoundConfig

__version__ = "0.1.0"

__all__ = [
    "MT30",
    "MT80",
    "PWM",
    "Critic",
    "Disagreement",
    "EnvPool",
    "Episode",
    "FirstOrderActor",
    "GrowingBatch",
    "LatentBehaviour",
    "LatentModel",
    "LatentRollout",
    "Learner",
    "PWMConfig",
    "Policy",
    "RandomBehaviour",
    "ReplayBuffer",
    "ReturnScale",
    "RoundConfig",
    "StochasticPolicy",
    "Task",
    "TaskSet",
    "ValueFunction",
    "WorldModel",
    "actor_loss",
    "behaviour_loss",
    "check_latent_model",
    "critic_loss",
    "evaluate",
    "exploitation_gap",
    "from_tdmpc2_chunks",
    "frozen",
    "imagined_returns",
    "init_fan_in",
    "lambda_targets",
    "make_env",
    "make_episode",
    "make_gym",
    "minibatches",
    "open_foreign",
    "optimize",
    "pwm_statistics",
    "register_task",
    "run_episodes",
    "soft_update",
    "summarize",
    "tdmpc2_policy_prior",
    "tdmpc2_q_ensemble",
    "to_minari",
    "to_tdmpc2_chunks",
    "world_model_errors",
    "world_model_loss",
    "write_atomic",
]

_MODULE_OF = {
    "MT30": "pwm_sdk.tasks",
    "MT80": "pwm_sdk.tasks",
    "PWM": "pwm_sdk.algorithms.pwm",
    "Critic": "pwm_sdk.models.critic",
    "Disagreement": "pwm_sdk.models.disagreement",
    "EnvPool": "pwm_sdk.envs.pool",
    "Episode": "pwm_sdk.training.collect",
    "FirstOrderActor": "pwm_sdk.models.actor",
    "GrowingBatch": "pwm_sdk.training.online",
    "LatentBehaviour": "pwm_sdk.training.collect",
    "LatentModel": "pwm_sdk.protocols",
    "LatentRollout": "pwm_sdk.rollout",
    "Learner": "pwm_sdk.training.settings",
    "PWMConfig": "pwm_sdk.algorithms.pwm_config",
    "Policy": "pwm_sdk.protocols",
    "RandomBehaviour": "pwm_sdk.training.collect",
    "ReplayBuffer": "pwm_sdk.data.replay",
    "ReturnScale": "pwm_sdk.models.normalizers",
    "RoundConfig": "pwm_sdk.training.settings",
    "StochasticPolicy": "pwm_sdk.protocols",
    "Task": "pwm_sdk.tasks",
    "TaskSet": "pwm_sdk.tasks",
    "ValueFunction": "pwm_sdk.protocols",
    "WorldModel": "pwm_sdk.models.world_model",
    "actor_loss": "pwm_sdk.objectives.policy",
    "behaviour_loss": "pwm_sdk.objectives.policy",
    "check_latent_model": "pwm_sdk.testing",
    "critic_loss": "pwm_sdk.objectives.policy",
    "evaluate": "pwm_sdk.training.evaluate",
    "exploitation_gap": "pwm_sdk.training.metrics",
    "from_tdmpc2_chunks": "pwm_sdk.data.chunks",
    "frozen": "pwm_sdk.optim",
    "imagined_returns": "pwm_sdk.objectives.policy",
    "init_fan_in": "pwm_sdk.models.layers",
    "lambda_targets": "pwm_sdk.objectives.policy",
    "make_env": "pwm_sdk.envs.factory",
    "make_episode": "pwm_sdk.data.replay",
    "make_gym": "pwm_sdk.envs.factory",
    "minibatches": "pwm_sdk.optim",
    "open_foreign": "pwm_sdk.checkpoints.foreign",
    "optimize": "pwm_sdk.optim",
    "pwm_statistics": "pwm_sdk.checkpoints.pwm",
    "register_task": "pwm_sdk.envs.factory",
    "run_episodes": "pwm_sdk.training.collect",
    "soft_update": "pwm_sdk.optim",
    "summarize": "pwm_sdk.training.evaluate",
    "tdmpc2_policy_prior": "pwm_sdk.checkpoints.tdmpc2",
    "tdmpc2_q_ensemble": "pwm_sdk.checkpoints.tdmpc2",
    "to_minari": "pwm_sdk.data.exports",
    "to_tdmpc2_chunks": "pwm_sdk.data.chunks",
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
