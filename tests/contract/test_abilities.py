"""Whatever the library asks a part for is stated by a protocol."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

from pwm_sdk.contract import models, parts, policies
from pwm_sdk.contract.abilities import lacks
from pwm_sdk.contract.policies import is_stochastic
from pwm_sdk.models.actor import FirstOrderActor
from pwm_sdk.models.critic import Critic
from pwm_sdk.models.policy_prior import PolicyPrior
from pwm_sdk.models.world_model import WorldModel
from pwm_sdk.planner.mppi import MPPI

PACKAGE = Path(models.__file__).parent.parent
PARTS = {
    "model", "imagined", "simulator", "actor", "policy", "critic", "part", "q", "value", "planner",
    "prior",
}  # fmt: skip
# of any module, tensor, array or mapping, of a `Task`, a TorchRL environment, an MjModel
OTHERS = {
    "parameters", "compile", "shape", "dtype", "detach", "keys", "index", "action_spec", "opt",
    "tolist", "iterate_episodes",
}  # fmt: skip


def asked_for() -> dict[str, str]:
    """Return the names that are asked for by `hasattr` or `getattr`, with the file."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id not in ("hasattr", "getattr") or len(node.args) < 2:
                continue
            owner, name = ast.unparse(node.args[0]).split(".")[-1], node.args[1]
            if owner in PARTS and isinstance(name, ast.Constant):
                found[str(name.value)] = path.name
    return found


def stated() -> set[str]:
    every = [
        v
        for kinds in (models, policies, parts)
        for v in vars(kinds).values()
        if getattr(v, "_is_protocol", False)
    ]
    return {name for kind in every for name in lacks(object(), kind)}


# parts of the package that still ask objects themselves: to be emptied
WAITING = {"envs", "data"}
# what is no part: an optimizer, an operating system, foreign files and simulators, numbers
NO_PARTS = {
    "optim.py": {"_step_supports_amp_scaling", "parameters"},
    "training/online.py": {"_step_supports_amp_scaling"},
    "checkpoints/fit.py": {"name"},
    "checkpoints/foreign.py": {"register_at_fork"},
    "checkpoints/runs.py": {"tolist"},
    "execution/half_weights.py": {"half_weights", "name"},  # of layers
    "runs/processes.py": {"sched_getaffinity"},
    "runs/script.py": {"__self__", "f.name"},
    "simulators/forces.py": {"name"},  # of mujoco's data
    "simulators/mujoco.py": {"opt"},
    "simulators/spec.py": {"compile"},
    "tasks.py": {
        "spec", "id", "max_episode_steps", "step", "__index__", "name", "shape", "field",
    },
}  # fmt: skip


def probes() -> list[tuple[str, int, str]]:
    """Return file, line and name of every `hasattr` and `getattr` outside contract and calls."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).as_posix()
        if {place, place.split("/")[0]} & (WAITING | {"contract", "calls"}):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id in ("hasattr", "getattr"):
                name = node.args[1]
                known = name.value if isinstance(name, ast.Constant) else ast.unparse(name)
                found.append((place, node.lineno, str(known)))
    return found


def test_parts_are_asked_in_the_contract_alone() -> None:
    wrong = [p for p in probes() if p[2] not in NO_PARTS.get(p[0], set())]
    assert not wrong, "ask by a function of pwm_sdk.contract"


def test_exceptions_are_needed() -> None:
    used = {(place, name) for place, _, name in probes()}
    assert {(place, name) for place, names in NO_PARTS.items() for name in names} == used


@pytest.mark.parametrize("name", sorted(asked_for()))
def test_every_name_that_is_asked_for_is_stated(name: str) -> None:
    private = name.startswith("_")
    assert private or name in stated() | OTHERS, f"{asked_for()[name]} asks for {name}"


def test_the_packages_own_parts_have_the_abilities() -> None:
    model = WorldModel.published(
        3, 2, latent_dim=8, hidden=(4,), num_tasks=2, standardize=True, episodic=True
    )
    for kind in (
        models.LatentModel, models.TaskModel, models.FactoredModel,
        models.EpisodicModel, models.TrainableModel, models.SharedStatistics,
        models.EmbeddedModel,
    ):  # fmt: skip
        assert not lacks(model, kind), kind
    actor, critic = FirstOrderActor.published(8, 2), Critic.published(8)
    for kind in (
        policies.StochasticPolicy, policies.ExploringPolicy, policies.LearnedNoise,
        policies.MaskedPolicy, policies.ScoredPolicy, policies.PopulationPart,
    ):  # fmt: skip
        assert not lacks(actor, kind), kind
    assert not lacks(critic, policies.EnsembleValue, policies.PopulationPart)
    prior = PolicyPrior(8, 2, task_dim=96)
    assert not lacks(prior, policies.TaskPart)
    assert not lacks(prior.given(model.context(torch.tensor([0]))), policies.SampledPolicy)
    assert not lacks(MPPI(model, actor, critic), policies.Planner, policies.TaskPart)


def test_what_is_lacking_is_named() -> None:
    assert lacks(nn.Linear(1, 1), models.TaskModel, models.FeatureModel) == [
        "context", "features", "num_tasks",
    ]  # fmt: skip
    actor = FirstOrderActor.published(8, 2, (4,))
    assert is_stochastic(torch.compile(actor, backend="eager"))
    assert not is_stochastic(Critic.published(8, (4,)))
