"""What pyproject.toml asks pip for: each package serves code of ours, each extra is documented."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from needs import PARTLY, SIMULATORS, WHOLE, brought, lacking, not_collected
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE: list[str] = PROJECT["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PINNED = [
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
# bound to one another by Meta-World
PINS = {"metaworld", "mujoco", "dm-control"}
# extra -> folders whose programs it is for; any other extra is for the package itself
SERVES = {
    "bench": ("pwm_sdk", "benchmarks"),
    "dev": ("pwm_sdk", "tests"),
    "docs": ("docs",),
}
# distribution -> why nothing imports it: a program that is run, or what another one needs
NOT_IMPORTED = {
    "ruff": "make lint runs it, and mkdocstrings wraps signatures by it",
    "pyright": "make lint runs it",
    "pytest-xdist": "make test runs it",
    "zensical": "make docs runs it",
    "mkdocstrings": "mkdocs.yml names it",
    "h5py": "Minari's default storage",
    "pillow": "Minari's default storage imports it",
    "pwm-sdk": "one extra includes another",
    "pandas": "a bound for what rliable imports",
}
# import name -> distribution, where the metadata of what is installed may be missing
KNOWN = {name: name for name in ("newton", "latex2mathml", "metaworld", "mujoco", "rliable")}
OWN_NAMES = ("matplotlib", "onnxruntime", "onnxscript", "tensorboard", "tqdm", "tyro", "wandb")
KNOWN |= {name: name for name in OWN_NAMES} | {"dm_control": "dm-control"}


def distribution(requirement: str) -> str:
    """Return the normalised name of a requirement."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()  # type: ignore[index]


def imported(folder: str) -> Iterator[str]:
    """Yield the top-level names that Python files below a folder import."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield str(node.module).split(".")[0]


def served(folders: tuple[str, ...]) -> set[str]:
    """Return the distributions that the files of some folders import."""
    owners = {**packages_distributions(), **{name: [owner] for name, owner in KNOWN.items()}}
    names = {name for folder in folders for name in imported(folder)} - sys.stdlib_module_names
    return {distribution(owner) for name in names for owner in owners.get(name, [])}


def test_every_dependency_is_imported_by_the_package() -> None:
    assert {distribution(r) for r in BASE} - served(("pwm_sdk",)) == set()


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_package_of_an_extra_is_imported_by_what_it_is_for(extra: str) -> None:
    wanted = {distribution(requirement) for requirement in EXTRAS[extra]} - set(NOT_IMPORTED)
    assert wanted - served(SERVES.get(extra, ("pwm_sdk",))) == set()


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_is_in_the_table_of_the_quickstart(extra: str) -> None:
    quickstart = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    assert f"| `[{extra}]` |" in quickstart


def test_no_other_extra_is_offered() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "pwm_sdk").rglob("*.py")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        offered = set(re.findall(r"pwm-sdk\[([\w,]+)\]|^\| `\[(\w+)\]`", text, re.M))
        names = {name for pair in offered for group in pair for name in group.split(",") if name}
        assert names <= set(EXTRAS), page


def test_every_exception_is_still_asked_for() -> None:
    asked = {distribution(r) for extra in EXTRAS.values() for r in extra}
    assert set(NOT_IMPORTED) <= asked


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_the_package_takes_every_python_since_3_11(python: str) -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    old = python in ("3.11", "3.12")
    assert ("dm-control" in brought([], python)) == old
    assert brought(["bench"], python) >= {"rliable", "mujoco", *(SIMULATORS if old else ())}
    assert "metaworld" not in brought([], python)
    if not old:
        assert not SIMULATORS & brought(list(EXTRAS), python)


def test_only_metaworld_binds_the_engine_to_an_old_version() -> None:
    """The package takes the engine that the newest dm_control needs; the benchmark the old one."""
    bounds = {distribution(r): SpecifierSet(re.sub(r"^[\w.-]+|;.*", "", r)) for r in BASE}
    assert {"3.3.0", "3.17.0"} <= set(bounds["mujoco"].filter(["3.2.7", "3.3.0", "3.17.0"]))
    assert not bounds["mujoco"].contains("4.0.0")
    assert {"1.0.28", "1.0.50"} == set(bounds["dm-control"].filter(["1.0.28", "1.0.50", "0.0.2"]))
    for extra, asked in EXTRAS.items():
        assert ({distribution(r) for r in asked} & PINS == PINS) == (extra == "metaworld")
        assert all("python_version < '3.13'" in r for r in asked if distribution(r) in PINS)
    assert "pwm-sdk[metaworld]" in EXTRAS["bench"]


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_make_test_leaves_nothing_out(python: str) -> None:
    """Its extras bring every package that a test may be skipped for; no other Python runs it."""
    installed = brought(["bench", "dev"], python)
    tests = ROOT / "tests"
    for path in tests.rglob("test_*.py"):
        assert not not_collected(path.relative_to(tests).as_posix(), installed)
    for file in PARTLY:
        for package in ("dm_control", "metaworld"):
            assert lacking(file, f"{package} must be installed", installed) is None
    recipe = re.search(r"^test:.*\n\t(.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert recipe is not None and "--extras" not in recipe[1]


def test_a_missing_simulator_is_a_failure_outside_the_files_that_need_one() -> None:
    file, told = sorted(PARTLY)[0], "dm_control must be installed, got Python 3.13"
    bare = brought(["dev"], "3.13")
    assert lacking(file, told, bare) == "dm-control"
    assert lacking("functional/test_returns.py", told, bare) is None
    assert lacking(file, "torch must be installed", bare) is None
    assert lacking(file, told, brought(["dev"], "3.12")) is None
    names = [*WHOLE, *PARTLY]
    assert [name for name in names if not (ROOT / "tests" / name).exists()] == []


def test_the_build_of_the_pages_hides_no_notice_and_needs_no_torch() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "zensical build --strict" in makefile and "NO_MKDOCS" not in makefile
    names = {distribution(r) for r in EXTRAS["docs"]}
    assert names == {"zensical", "mkdocstrings", "latex2mathml", "ruff"}
    assert {"zensical", "ruff"} <= {distribution(line) for line in PINNED}
