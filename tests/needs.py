"""What an installation brings, by pyproject.toml, and which test files may do without more."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SIMULATORS = {"dm-control", "metaworld"}
# Files that cannot even be imported without a package: not collected where it is not brought.
WHOLE = {
    "envs/test_dm_tasks.py": "dm-control",
    "envs/test_dmcontrol.py": "dm-control",
    "simulators/test_real_models.py": "dm-control",
    "data/test_real_rows.py": "tyro",  # by a program of the benchmark
    "benchmarks": "rliable",
}
# Files with tests that ask for a simulator by name. In any other a missing one is a failure.
PARTLY = {
    "algorithms/test_shac.py",
    "algorithms/test_termination.py",
    "calls/test_calls.py",
    "calls/test_counts_and_seeds.py",
    "envs/test_engines.py",
    "envs/test_every_task.py",
    "envs/test_factory.py",
    "envs/test_gate_rules.py",
    "envs/test_global_state.py",
    "envs/test_latent_env.py",
    "envs/test_make_pool.py",
    "envs/test_metaworld.py",
    "envs/test_metaworld_versions.py",
    "envs/test_pool.py",
    "envs/test_simulated.py",
    "envs/test_tensordict_pool.py",
    "envs/test_workers.py",
    "functional/test_rewards.py",
    "golden/test_g6_dmcontrol.py",
    "golden/test_g6_metaworld.py",
    "simulators/test_domains.py",
    "simulators/test_forces.py",
    "simulators/test_suite.py",
    "test_docs.py",
    "test_examples.py",
    "training/test_border.py",
    "training/test_evaluate.py",
    "training/test_online.py",
}
_ABSENT = re.compile(r"\b(\w+) must be installed\b|No module named '(\w+)")


def normal(name: str) -> str:
    """Return the normalised name of a distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


def brought(extras: Iterable[str], python: str | None = None) -> set[str]:
    """Return the distributions that the package and some extras bring to a Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    found, texts, seen = set(), list(PROJECT["dependencies"]), set()
    waiting = list(extras)
    while texts or waiting:
        if not texts:
            extra = waiting.pop()
            if extra not in seen:
                texts += PROJECT["optional-dependencies"][extra]
            seen.add(extra)
            continue
        asked = Requirement(texts.pop())
        if asked.marker and not asked.marker.evaluate(environment if python else None):
            continue
        if normal(asked.name) == PROJECT["name"]:
            waiting += asked.extras
        else:
            found.add(normal(asked.name))
    return found


def not_collected(file: str, installed: set[str]) -> bool:
    """Whether a file below `tests/` needs a package that is not brought."""
    names = (file, file.partition("/")[0])
    return any(WHOLE[name] not in installed for name in names if name in WHOLE)


def lacking(file: str, told: str, installed: set[str]) -> str | None:
    """Return the simulator that a failure of a test is about, if it is not brought."""
    if file not in PARTLY:
        return None
    names = {normal(name) for pair in _ABSENT.findall(told) for name in pair if name}
    return next(iter(sorted(names & SIMULATORS - installed)), None)
