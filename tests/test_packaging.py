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

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE: list[str] = PROJECT["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# extra -> folders whose programs it is for; any other extra is for the package itself
SERVES = {
    "bench": ("pwm_sdk", "benchmarks"),
    "dev": ("pwm_sdk", "tests"),
    "docs": ("docs",),
}
# distribution -> why nothing imports it: a program that is run, or what another one needs
NOT_IMPORTED = {
    "ruff": "make lint runs it",
    "pyright": "make lint runs it",
    "pytest-xdist": "make test runs it",
    "mkdocs-material": "mkdocs.yml names it",
    "mkdocstrings": "mkdocs.yml names it",
    "h5py": "Minari's default storage",
    "pandas": "a bound for what rliable imports",
}
# import name -> distribution, where the metadata of what is installed may be missing
KNOWN = {"newton": "newton", "latex2mathml": "latex2mathml", "dm_control": "dm-control"}


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
