"""Everything a reader may paste runs: the python blocks of README.md and docs/."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pwm_sdk
import pwm_sdk.functional
import pwm_sdk.runs

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_CODE = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]
FENCE = re.compile(r"^(?P<indent> *)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.M | re.S)
# what a test runs in place of what takes minutes: <!-- shortened: minutes=5 => rounds=1 -->
SHORTENED = re.compile(r"<!-- shortened: (?P<long>[^\n]+?) => (?P<short>[^\n]+?) -->\s*$")
NO_RUN = re.compile(r"<!-- no-run: (?P<reason>[^\n]+?) -->\s*$")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#\s]+)(?:#[^)\s]*)?\)")


class Block(NamedTuple):
    """A python block: its code, padded so that line numbers are those of the page, and its mark."""

    code: str
    runs: bool


def blocks(text: str) -> list[Block]:
    """Find the python blocks of a page, in order."""
    found = []
    for match in FENCE.finditer(text):
        padding = "\n" * (text.count("\n", 0, match.start()) + 1)
        runs = NO_RUN.search(text, 0, match.start()) is None
        code = textwrap.dedent(match["code"])
        if (mark := SHORTENED.search(text, 0, match.start())) is not None:
            assert code.count(mark["long"]) == 1, f"the block must have one {mark['long']}"
            code = code.replace(mark["long"], mark["short"])
        found.append(Block(padding + code, runs))
    return found


def name_of(page: Path) -> str:
    """Return the path inside the project."""
    return str(page.relative_to(ROOT))


@pytest.mark.filterwarnings("ignore:.*WeightUpdaterBase:DeprecationWarning")  # TorchRL's own
@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of one page share their names, as if pasted one after the other."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    found = blocks(page.read_text(encoding="utf-8"))
    assert found, "a python block is opened but never closed"
    for block in found:
        code = compile(block.code, name_of(page), "exec")
        if block.runs:
            exec(code, names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    targets = [match["target"] for match in LINK.finditer(page.read_text(encoding="utf-8"))]
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_what_takes_minutes_is_shortened() -> None:
    text = "<!-- shortened: minutes=5 => rounds=1 -->\n```python\ntrain(minutes=5)\n```\n"
    (block,) = blocks(text)
    assert block.runs and block.code.strip() == "train(rounds=1)"
    with pytest.raises(AssertionError, match="must have one"):
        blocks(text.replace("train(minutes=5)", "train(minutes=6)"))


def test_a_no_run_mark_holds_for_one_block() -> None:
    text = "<!-- no-run: needs a data set -->\n```python\nx = 1\n```\n\n```python\ny = 2\n```\n"
    first, second = blocks(text)
    assert (first.runs, second.runs) == (False, True)
    assert second.code.count("\n") == 7
    assert second.code.strip() == "y = 2"


DIFFERENCES = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_the_tests_that_differences_name_exist() -> None:
    named = TEST.findall(DIFFERENCES)
    assert len(named) > 20
    for file, function in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {function}\(", text, re.M), f"{file} has no {function}"


def test_every_difference_names_its_test() -> None:
    rows = []
    for table in re.findall(r"(?:^\|.*\|\n)+", DIFFERENCES, re.M):
        header, _, *body = table.splitlines()
        if header.endswith("| test |"):
            rows += [[cell.strip() for cell in row.strip("|").split("|")] for row in body]
    assert len(rows) > 40
    for row in rows:
        assert len(row) == 5 and all(row), row
        assert TEST.fullmatch(row[-1]), row


def test_the_settings_that_differences_name_are_those_of_the_published_algorithm() -> None:
    named = re.findall(r"`PWMConfig\((\w+)=\"?([\w.]+)\"?\)`", DIFFERENCES)
    published, paper = pwm_sdk.PWMConfig.published(), pwm_sdk.PWMConfig.paper()
    for name, value in named:
        assert str(getattr(published, name)) == value
    names = [field.name for field in fields(paper)]
    changed = {n for n in names if getattr(paper, n) != getattr(published, n)}
    assert changed == {name for name, _ in named}


MEASURED = {
    name: dict(re.findall(r"^\| `(\w+)` \| (.+ \| .+) \|$", table, re.M))
    for name, table in re.findall(
        r"^\| `(\w+)` \| published \| here \|\n((?:\|.*\|\n)+)", DIFFERENCES, re.M
    )
}


@pytest.mark.parametrize("name", ["FirstOrderActor", "Critic", "WorldModel"])
def test_the_defaults_of_networks_that_differences_name_are_all_that_differ(name: str) -> None:
    kind = getattr(pwm_sdk, name)
    published = {
        p.name: p.default
        for p in inspect.signature(kind.published).parameters.values()
        if p.default is not p.empty
    }
    published |= kind.published_settings
    here = {n: p.default for n, p in inspect.signature(kind).parameters.items() if n in published}
    differ = {n: f"{published[n]} | {here[n]}" for n in here if published[n] != here[n]}
    assert MEASURED[name] == differ


def test_the_defaults_of_pwm_that_differences_name_are_all_that_differ() -> None:
    default, paper = pwm_sdk.PWMConfig(), pwm_sdk.PWMConfig.paper()
    names = [field.name for field in fields(paper) if field.name != "return_scale"]  # a quirk
    pairs = {n: (getattr(paper, n), getattr(default, n)) for n in names}
    assert MEASURED["PWMConfig"] == {n: f"{a} | {b}" for n, (a, b) in pairs.items() if a != b}


def switches() -> list[str]:
    """Calls and names in the columns "published behaviour" of the tables."""
    found = []
    for table in re.findall(r"(?:^\|.*\|\n)+", DIFFERENCES, re.M):
        for row in table.splitlines():
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            if len(cells) == 5 and cells[3] != "published behaviour":
                found += re.findall(r"`([^`]+)`", cells[3])
    return sorted(set(found))


@pytest.mark.parametrize("switch", switches())
def test_the_switches_that_differences_name_are_public(switch: str) -> None:
    """Each is a public name, or a call of one with arguments that it knows."""
    node = ast.parse(switch, mode="eval").body
    call = node if isinstance(node, ast.Call) else None
    value: Any = pwm_sdk
    for part in ast.unparse(call.func if call else node).split("."):
        assert part in getattr(value, "__all__", dir(value)), f"{part} is not public"
        value = getattr(value, part)
    if call is None:
        return
    parameters = inspect.signature(value).parameters
    settings = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    assert set(settings) <= set(parameters)
    if is_dataclass(value):  # settings that check themselves
        assert {name: getattr(value(**settings), name) for name in settings} == settings


def test_there_are_switches() -> None:
    assert len(switches()) > 15


REFERENCE = ROOT / "docs" / "reference"
OPEN = {"functional": pwm_sdk.functional, "runs": pwm_sdk.runs}  # public submodules
IN_WORDS = {"pwm_sdk.runs.report"}  # described by a sentence of its page


def entries(page: Path) -> list[str]:
    """Return what a page of the reference describes, in order; a module by its public names."""
    found = []
    for path in re.findall(r"^::: (pwm_sdk[\w.]*)$", page.read_text(encoding="utf-8"), re.M):
        inside = [n for n in pwm_sdk.functional.__all__ if home("functional", n) == f"{path}.{n}"]
        found += [f"{path}.{name}" for name in inside] or [path]
    return found


def home(part: str, name: str) -> str:
    """Return where a name of a public submodule is defined."""
    value = getattr(OPEN[part], name)
    return f"{getattr(value, '__module__', f'pwm_sdk.{part}')}.{name}"


def public_paths() -> list[str]:
    """Return where all public names are defined, also those of public submodules."""
    stub = (ROOT / "pwm_sdk" / "__init__.pyi").read_text(encoding="utf-8")
    found = [
        f"pwm_sdk.{m}.{n}" for m, n in re.findall(r"^from \.([\w.]+) import (\w+)", stub, re.M)
    ]
    return found + [home(part, name) for part, open_ in OPEN.items() for name in open_.__all__]


def undocumented(described: list[str]) -> list[str]:
    """Return the public names that no page of the reference describes."""
    return sorted(set(public_paths()) - IN_WORDS - set(described))


ENTRIES = {page: entries(page) for page in sorted(REFERENCE.glob("*.md"))}


def test_public_names_are_in_the_reference_once() -> None:
    described = [path for page in ENTRIES.values() for path in page]
    assert undocumented(described) == []
    assert len(described) == len(set(described))
    assert len(public_paths()) >= len(pwm_sdk.__all__)


@pytest.mark.parametrize(
    "path",
    ["algorithms.pwm.PWM", "tasks.MT30", "functional.twohot.two_hot", "runs.tables.read_csv"],
)
def test_a_name_without_an_entry_is_found(path: str) -> None:
    described = [p for page in ENTRIES.values() for p in page if p != f"pwm_sdk.{path}"]
    assert undocumented(described) == [f"pwm_sdk.{path}"]


def row(link: str, title: str) -> str:
    """Return the row of a page in the table of the reference's index, made from its entries."""
    names = [path.split(".")[-1] for path in ENTRIES[REFERENCE / link]]
    columns = [[n for n in names if (n in pwm_sdk.__all__) is public] for public in (True, False)]
    cells = [", ".join(f"`{name}`" for name in column) for column in columns]
    return f"| [{title}]({link}) | {cells[0]} | {cells[1]} |"


def test_the_index_of_the_reference_says_what_its_pages_describe() -> None:
    text = (REFERENCE / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[.*\|$", text, re.M)
    pages = [match for row in rows for match in re.findall(r"^\| \[([^]]+)\]\((\w+\.md)\)", row)]
    expected = [row(link, title) for title, link in pages]
    assert rows == expected, "the table should be:\n" + "\n".join(expected)
    assert sorted(link for _, link in pages) == [p.name for p in ENTRIES if p.name != "index.md"]


def test_the_navigation_names_every_page_once() -> None:
    """The build reads neither a missing page of `nav` nor one that it leaves out as a fault."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = re.search(r"^nav:\n((?: .*\n)+)", text, re.M)
    assert nav is not None
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(re.findall(r"[\w/-]+\.md", nav[1])) == sorted(pages)


ARGS = re.compile(r"^Args:\n(?P<body>(?: {4}.*\n|\s*\n)+)", re.M)


@pytest.mark.parametrize("path", sorted((ROOT / "pwm_sdk").rglob("*.py")), ids=name_of)
def test_docstrings_document_arguments_that_exist(path: Path) -> None:
    """The build does not look; `**options` of a TypedDict are documented beside the others."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        match = ARGS.search((ast.get_docstring(node) or "") + "\n")
        made = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
        call = made.get("__init__") if isinstance(node, ast.ClassDef) else node
        if match is None or call is None or "Unpack[" in ast.unparse(call.args):
            continue
        known = {part.arg for part in ast.walk(call.args) if isinstance(part, ast.arg)}
        assert set(re.findall(r"^ {4}\*{0,2}(\w+):", match["body"], re.M)) <= known, node.name
