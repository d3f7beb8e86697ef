"""One thread and fixed seeds, so that every test gives the same numbers alone and in the suite.

`--extras` names what is installed beside the package. Tests that need a simulator are left out
where `pyproject.toml` brings none, by its markers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest
import torch
from needs import brought, lacking, not_collected
from torch import Tensor

TESTS = Path(__file__).resolve().parent

torch.set_num_threads(1)
torch.set_warn_always(
    True
)  # some warnings come once a process, and would hit whichever test is first


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Seed the global generators before each test."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def close() -> Callable[[Tensor, Tensor], None]:
    """Compare with a published result: within 2e-5 of (1 + the largest absolute value)."""

    def check(actual: Tensor, expected: Tensor) -> None:
        assert actual.shape == expected.shape
        bound = 2e-5 * (1.0 + float(expected.abs().max()))
        assert float((actual - expected).detach().abs().max()) <= bound

    return check


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--extras", default="bench,dev", help="what is installed beside the package")


def installed(config: pytest.Config) -> set[str]:
    """Return what the installation under test brings."""
    return brought(config.getoption("extras").split(","))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    inside = collection_path.is_relative_to(TESTS)
    file = collection_path.relative_to(TESTS).as_posix() if inside else ""
    return True if not_collected(file, installed(config)) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skip a test that fails for want of a simulator, where none is brought."""
    report = yield
    if report.failed and call.excinfo is not None and item.path.is_relative_to(TESTS):
        file = item.path.relative_to(TESTS).as_posix()
        absent = lacking(file, str(call.excinfo.value), installed(item.config))
        if absent is not None:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: needs {absent}")
    return report
