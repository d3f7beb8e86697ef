"""Whether an object was given is asked by `is None`: modules and tensors have a truth of their own.

`policy or self.policy` calls `len` on a module that has one (a compiled one raises TypeError then),
and a tensor's truth is its number. So `and`, `or`, `not`, `if` and `while` are for what is true or
false, a number, a text or a plain collection, by its annotation.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    p for folder in ("pwm_sdk", "benchmarks", "examples") for p in (ROOT / folder).rglob("*.py")
)

# What has a plain truth; settings are frozen dataclasses, which have no length.
PLAIN = {
    "None", "bool", "int", "float", "str", "bytes", "list", "tuple", "dict", "set", "frozenset",
    "Sequence", "Mapping", "MutableMapping", "Collection", "Path", "Literal", "Namespace", "Record",
    "Execution", "TaskContext", "Task", "TaskSet", "Curves",
}  # fmt: skip
SETTINGS = re.compile(r"\w+Config$")
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def is_plain(annotation: ast.expr) -> bool:
    """Tell whether values of an annotation have a plain truth."""
    if isinstance(annotation, ast.BinOp):
        return is_plain(annotation.left) and is_plain(annotation.right)
    if isinstance(annotation, ast.Subscript):
        return is_plain(annotation.value)
    if isinstance(annotation, ast.Constant):
        if isinstance(annotation.value, str):
            return is_plain(ast.parse(annotation.value, mode="eval").body)
        return annotation.value is None
    name = annotation.attr if isinstance(annotation, ast.Attribute) else ast.unparse(annotation)
    return name in PLAIN or SETTINGS.match(name) is not None


def asked(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield every expression whose truth is asked for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.IfExp | ast.While):
            yield node.test
        elif isinstance(node, ast.BoolOp):
            yield from node.values
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node.operand
        elif isinstance(node, ast.comprehension):
            yield from node.ifs
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "bool":
            yield from node.args


def annotated(function: ast.AST) -> dict[str, ast.expr]:
    """Return the annotations of a function's arguments and variables, by name."""
    known: dict[str, ast.expr] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.arg) and node.annotation is not None:
            known[node.arg] = node.annotation
        elif isinstance(node, ast.AnnAssign):
            known[ast.unparse(node.target)] = node.annotation
    for node in ast.walk(function):
        if isinstance(node, ast.arguments):
            for rest in (node.vararg, node.kwarg):  # a tuple, a dict
                known.pop(rest.arg if rest else "", None)
    return known


def attributes(kind: ast.ClassDef) -> dict[str, ast.expr]:
    """Return the annotations of `self.x`: of the class, or of the argument that it was set to."""
    known: dict[str, ast.expr] = {}
    for node in kind.body:
        if isinstance(node, ast.AnnAssign):
            known[f"self.{ast.unparse(node.target)}"] = node.annotation
        if not isinstance(node, FunctionNode):
            continue
        mine = annotated(node)
        for step in (n for n in ast.walk(node) if isinstance(n, ast.Assign)):
            for target in step.targets:
                pairs = [(target, step.value)]
                if isinstance(target, ast.Tuple) and isinstance(step.value, ast.Tuple):
                    pairs = list(zip(target.elts, step.value.elts, strict=False))
                for left, right in pairs:
                    if ast.unparse(left).startswith("self.") and ast.unparse(right) in mine:
                        known.setdefault(ast.unparse(left), mine[ast.unparse(right)])
    return known


def found(tree: ast.Module) -> Iterator[str]:
    """Yield the places where the truth of an object is asked for."""
    scopes: list[tuple[ast.AST, dict[str, ast.expr]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            own = attributes(node)
            inside = [n for n in ast.walk(node) if isinstance(n, FunctionNode)]
            scopes += [(function, own | annotated(function)) for function in inside]
        elif isinstance(node, FunctionNode):
            scopes.append((node, annotated(node)))
    for function, known in scopes:
        for expression in asked(function):
            name = ast.unparse(expression)
            if name in known and not is_plain(known[name]):
                kind = ast.unparse(known[name])
                yield f"line {expression.lineno}: ask `{name} is None`, a {kind}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_truth_of_modules_and_tensors(path: Path) -> None:
    wrong = sorted(set(found(ast.parse(path.read_text(encoding="utf-8")))))
    assert not wrong, "\n".join(wrong)


def test_the_rule_sees_what_it_is_for() -> None:
    source = """
class A:
    size: Tensor
    def __init__(self, policy: Any, count: int, name: str | None = None, *rest: Tensor) -> None:
        self.policy, self.count = policy, count
        self.own = policy or self.count
    def b(self, policy: nn.Module | None, x: Tensor, config: PWMConfig | None) -> Any:
        if x and self.count:
            return policy or self.policy
        return [1 for _ in range(3) if not self.size], config or 1
"""
    lines = [line.split(":")[0] for line in sorted(set(found(ast.parse(source))))]
    assert lines == ["line 10", "line 6", "line 8", "line 9", "line 9"]
