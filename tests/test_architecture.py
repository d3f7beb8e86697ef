"""The rules of the house, read from syntax trees: who imports whom, how long, how documented."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pwm_sdk
from pwm_sdk import keys

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pwm_sdk"

# part of the package -> the other parts it may import
ANYONE = {"calls", "checks", "states"}  # what every part may import
INTERNAL = {
    "calls": {"keys"},
    "checks": set(),
    "states": set(),
    "keys": set(),
    "contract": {"functional", "keys"},
    "execution": set(),
    "metrics": set(),
    "optim": {"execution"},
    "generators": set(),
    "tasks": set(),
    "functional": set(),
    "checkpoints": set(),
    "models": {"functional", "keys", "contract", "checkpoints"},
    # data: ids of tasks
    "policies": {"checkpoints", "contract", "data", "functional", "keys", "models"},
    "rollout": {"functional", "keys", "contract", "execution"},
    "planner": {"functional", "keys", "contract", "execution"},
    "objectives": {"functional", "keys", "contract"},
    "data": {"generators", "keys", "checkpoints", "contract", "tasks"},
    "envs": {"keys", "contract", "tasks", "simulators"},
    # functional: shapes of rewards; tasks: which names have no simulator
    "simulators": {"functional", "keys", "contract", "tasks"},
    "diagnostics": {"functional", "keys", "contract", "rollout"},
    # functional: for metrics such as the share of saturated actions
    "algorithms": {
        "objectives",
        "rollout",
        "planner",
        "policies",
        "optim",
        "execution",
        "functional",
        "generators",
        "keys",
        "contract",
    },
    # the loops own time and compose these; models and algorithms are handed to them
    "training": {
        "checkpoints",
        "data",
        "envs",
        "execution",
        "generators",
        "metrics",
        "objectives",
        "optim",
        "policies",
        "rollout",
        "keys",
        "contract",
    },
    # what a user starts: it composes all that lies below, and nothing below imports it
    "runs": {
        "algorithms",
        "checkpoints",
        "contract",
        "data",
        "envs",
        "generators",
        "keys",
        "metrics",
        "models",
        "objectives",
        "optim",
        "planner",
        "policies",
        "rollout",
        "simulators",
        "tasks",
        "training",
    },
    "__init__": set(),  # imports everything, but only when a name is used
}

# part of the package -> the third-party packages it may import when it is imported itself
TENSORS = {"torch", "tensordict"}
EXTERNAL = {
    "calls": {*TENSORS, "numpy"},
    "contract": {*TENSORS, "numpy"},
    "checks": set(),
    "functional": {"torch"},
    "models": {*TENSORS, "safetensors"},
    "data": {*TENSORS, "torchrl", "numpy", "safetensors"},
    "envs": {*TENSORS, "torchrl", "numpy", "gymnasium"},
    "simulators": {*TENSORS, "numpy"},
    "checkpoints": {"torch", "safetensors"},
    "policies": {*TENSORS, "torchrl", "numpy", "gymnasium"},
    "generators": {*TENSORS, "numpy"},
    "algorithms": {*TENSORS, "torchrl", "numpy"},
    "metrics": {"torch", "numpy"},
    "training": {*TENSORS, "torchrl", "numpy"},
    "runs": {*TENSORS, "lazy_loader", "numpy"},
    "__init__": {"lazy_loader"},
}

# part of the package -> what it may import inside a function: packages of an extra, or slow ones
LAZY = {
    "policies": {"onnxscript"},
    "data": {"gymnasium", "minari"},
    "envs": {"dm_control", "metaworld", "mujoco"},
    "simulators": {"mujoco", "newton", "warp"},
    "runs": {"matplotlib", "rliable", "tensorboard", "torchrl", "tqdm", "wandb"},
}

# part of the benchmarks -> the other parts it may import; a command may import all of these, and
# nothing imports a command
PROGRAMS = {
    "command_line": set(),
    "files": set(),
    "machine": set(),
    "reporting": {"files", "machine"},
    "quick": {"files"},
    "paper": {"command_line", "files", "machine", "quick"},
    "single": {"files", "machine", "quick"},
    "speed": {"machine"},
}

# A signal, not a law: a file or constructor past it stands in WAIVERS with the reason.
MAX_LINES = {"pwm_sdk": 350, "benchmarks": 350, "examples": 60, "tests": 400}
MAX_FUNCTION_LINES = 60
MAX_CONSTRUCTOR_ARGUMENTS = 12
HARD_MAX_LINES = 600
# file -> why it is longer, or has a constructor of more arguments
WAIVERS: dict[str, str] = {
    "pwm_sdk/models/world_model.py": "all arguments are named, with their defaults, in one place",
    "pwm_sdk/runs/run.py": "budget, readings and checkpoints of one folder belong together",
    "tests/test_architecture.py": "a third of it are tables",
    "tests/objects/object_cases.py": "one table, with a case of each public class",
    "pwm_sdk/training/online.py": "one loop, with its state, its statistics and its processes",
    "tests/algorithms/anywhere.py": "one list of everything that computes",
    "pwm_sdk/planner/mppi.py": "the settings of one search",
    "pwm_sdk/data/replay.py": "one class, which each kind of data can be read into",
    "pwm_sdk/data/folder.py": "one format: how it is written is how it is read and checked",
    "pwm_sdk/tasks.py": "half of it are tables of tasks",
}
KEY_NAMES = {getattr(keys, name) for name in keys.__all__}
KEY_METHODS = {"get", "set", "set_", "pop", "select", "exclude"}

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def sources(folder: str) -> list[Path]:
    """Python files of a folder of the project, in a fixed order."""
    return sorted(p for p in (ROOT / folder).rglob("*.py") if "__pycache__" not in p.parts)


def part_of(path: Path) -> str:
    """Return the row of the tables above: the folder or file name directly below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    """Return the dotted name of a library file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.AST) -> bool:
    """Tell whether a node is an ``if TYPE_CHECKING:`` block, which never runs."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(node: ast.AST, lazy: bool = False) -> Iterator[tuple[str, bool, int]]:
    """Yield (dotted name, inside a function, line) of every import that runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, lazy, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = "." * child.level + (child.module or "")
            if module == "pwm_sdk":
                yield from ((f"pwm_sdk.{alias.name}", lazy, child.lineno) for alias in child.names)
            else:
                yield module, lazy, child.lineno
        elif is_type_checking(child):
            yield from imports(ast.Module(child.orelse, []), lazy)  # pyright: ignore
        else:
            yield from imports(child, lazy or isinstance(child, FunctionNode))


def functions(tree: ast.AST) -> Iterator[FunctionNode]:
    """Yield every function and method of a file."""
    return (node for node in ast.walk(tree) if isinstance(node, FunctionNode))


def public_nodes(
    tree: ast.AST, prefix: str = ""
) -> Iterator[tuple[str, ast.ClassDef | FunctionNode]]:
    """Yield (qualified name, node) of public classes, functions and methods, and magic ones."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.ClassDef | FunctionNode):
            continue
        magic = node.name.startswith("__") and node.name.endswith("__")
        if node.name.startswith("_") and not magic:
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from public_nodes(node, f"{prefix}{node.name}.")


def arguments(node: FunctionNode) -> list[ast.arg]:
    """All arguments of a function but ``self`` and ``cls``."""
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    every += [arg for arg in (node.args.vararg, node.args.kwarg) if arg]
    return [arg for arg in every if arg.arg not in ("self", "cls")]


def spelled_keys(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (key, line) of keys written as literals where a TensorDict is indexed or built."""
    for node in ast.walk(tree):
        places: list[ast.expr | None] = []
        if isinstance(node, ast.Subscript):
            places = [node.slice]
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if name in KEY_METHODS:
                places = [*node.args]
            if isinstance(node.func, ast.Name) and node.func.id == "TensorDict":
                places = [k for arg in node.args if isinstance(arg, ast.Dict) for k in arg.keys]
        for place in places:
            parts = place.elts if isinstance(place, ast.Tuple) else [place]
            for part in parts:
                if isinstance(part, ast.Constant) and part.value in KEY_NAMES:
                    yield str(part.value), part.lineno


LIBRARY = sources("pwm_sdk")
EVERYTHING = [path for folder in MAX_LINES for path in sources(folder)]
each_library_file = pytest.mark.parametrize("path", LIBRARY, ids=module_of)
each_file = pytest.mark.parametrize("path", EVERYTHING, ids=lambda p: str(p.relative_to(ROOT)))


def parse(path: Path) -> ast.Module:
    """Parse a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@each_library_file
def test_imports_run_one_way(path: Path) -> None:
    part = part_of(path)
    wrong = []
    for name, lazy, line in imports(parse(path)):
        top = name.split(".")[0]
        if not top:
            wrong.append(f"line {line}: relative import {name}")
        elif top == "pwm_sdk":
            target = [*name.split("."), "__init__"][1]
            if target != part and target not in INTERNAL[part] | ANYONE:
                wrong.append(f"line {line}: {part} must not import {target}")
        elif top not in sys.stdlib_module_names:
            allowed = EXTERNAL.get(part, TENSORS) | (LAZY.get(part, set()) if lazy else set())
            if top not in allowed:
                wrong.append(f"line {line}: {part} must not import {top} here")
    assert not wrong, "\n".join(wrong)


def test_tables_name_only_parts_of_the_design() -> None:
    assert set(EXTERNAL) | set(LAZY) <= set(INTERNAL)
    assert {part_of(path) for path in LIBRARY} <= set(INTERNAL)


def test_the_page_for_contributors_has_the_same_table() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [row.strip("| ").split(" | ") for row in re.findall(r"^\| `.* \|$", page, re.M)]
    written = {
        part: set(re.findall(r"`(\w+)`", allowed))
        for parts, allowed in (row for row in rows if len(row) == 2)
        for part in re.findall(r"`(\w+)`", parts)
    }
    del written["examples"], written["benchmarks"]
    programs = {
        row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2])) for row in rows if len(row) == 3
    }
    # a sentence of the page says that all may import these
    shared = {"command_line", "files", "machine"}
    assert programs == {p: PROGRAMS[p] - shared for p in set(PROGRAMS) - shared}
    assert written == {part: allowed for part, allowed in INTERNAL.items() if part != "__init__"}


def test_waivers_name_files_that_need_them() -> None:
    for name, reason in WAIVERS.items():
        tree = parse(ROOT / name)
        lines = len((ROOT / name).read_text(encoding="utf-8").splitlines())
        makers = [f for f in functions(tree) if f.name == "__init__"]
        widest = max((len(arguments(maker)) for maker in makers), default=0)
        assert reason
        assert lines > MAX_LINES[name.split("/")[0]] or widest > MAX_CONSTRUCTOR_ARGUMENTS, name


@pytest.mark.parametrize("folder", ["examples", "benchmarks"])
def test_programs_use_only_the_public_api(folder: str) -> None:
    wrong = []
    for path in sources(folder):
        for name, _, line in imports(parse(path)):
            private = name.startswith("pwm_sdk.") and name.removeprefix("pwm_sdk.") not in PUBLIC
            if private:
                wrong.append(f"{path.name}:{line}: {name} is not public")
    assert not wrong, "\n".join(wrong)


def test_benchmarks_import_one_way() -> None:
    folder, wrong = ROOT / "benchmarks", []
    places = {path: path.relative_to(folder).parts for path in sources("benchmarks")}
    parts = {place[0].removesuffix(".py") for place in places.values()}
    packages = {place[0] for place in places.values() if len(place) > 1}
    assert packages <= set(PROGRAMS) <= parts
    for path, place in places.items():
        part = place[0].removesuffix(".py")
        for name, _, line in imports(parse(path)):
            target = name.split(".")[0]
            if target in parts - {part} and target not in PROGRAMS.get(part, PROGRAMS):
                wrong.append(f"{'/'.join(place)}:{line}: {part} must not import {target}")
    assert not wrong, "\n".join(wrong)


@each_file
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    place = path.relative_to(ROOT)
    waived = str(place) in WAIVERS
    limit = HARD_MAX_LINES if waived else MAX_LINES[place.parts[0]]
    assert len(text.splitlines()) <= limit, "split it where there are two ideas, or waive it"
    for node in functions(ast.parse(text)):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        assert length <= MAX_FUNCTION_LINES, f"{node.name} (line {node.lineno}): {length} lines"
        if node.name == "__init__" and not waived:
            assert len(arguments(node)) <= MAX_CONSTRUCTOR_ARGUMENTS, f"line {node.lineno}"


@each_library_file
def test_public_names_are_documented_and_annotated(path: Path) -> None:
    tree = parse(path)
    wrong = [] if ast.get_docstring(tree) else ["the module has no docstring"]
    for name, node in public_nodes(tree):
        if not node.name.startswith("__") and not ast.get_docstring(node):
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            if not any(d == "overload" or d.endswith(".setter") for d in decorators):
                wrong.append(f"line {node.lineno}: {name} has no docstring")
        if isinstance(node, FunctionNode):
            bare = [arg.arg for arg in arguments(node) if arg.annotation is None]
            if bare:
                wrong.append(f"line {node.lineno}: {name} does not annotate {', '.join(bare)}")
            if node.returns is None:
                wrong.append(f"line {node.lineno}: {name} does not annotate what it returns")
    assert not wrong, "\n".join(wrong)


@each_library_file
def test_no_assert_and_no_bare_except(path: Path) -> None:
    for node in ast.walk(parse(path)):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: raise ValueError instead"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: name the exception"


@pytest.mark.parametrize("path", [p for p in LIBRARY if p.name != "keys.py"], ids=module_of)
def test_keys_are_spelled_in_one_file(path: Path) -> None:
    wrong = [f"line {line}: use keys.{key.upper()}" for key, line in spelled_keys(parse(path))]
    assert not wrong, "\n".join(wrong)


PUBLIC = set(pwm_sdk.__all__) | {"__version__", "runs.report"}


@pytest.mark.parametrize("name", pwm_sdk.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(pwm_sdk, name) is not None
    assert name in dir(pwm_sdk)


def test_every_name_of_the_stub_is_public_and_defined_where_it_says() -> None:
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    lines = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    names = {alias.name: node.module for node in lines for alias in node.names}
    assert sorted(pwm_sdk.__all__) == sorted(names)
    for name, module in names.items():
        value = getattr(pwm_sdk, name)
        if module is None:
            assert value.__name__ == f"pwm_sdk.{name}"
            continue
        assert getattr(value, "__module__", f"pwm_sdk.{module}") == f"pwm_sdk.{module}"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="attribute Nothing"):
        importlib.import_module("pwm_sdk").Nothing  # noqa: B018
