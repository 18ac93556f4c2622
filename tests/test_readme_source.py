"""README.rst as a map: its list of sections, and where it says that things are in the source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.readme_commands import README

ROOT = README.parent
TEXT = README.read_text(encoding="utf-8")
PACKAGE = ROOT / "torchneupy"

TITLES = re.findall(r"^([^\n]+)\n-{3,}$", TEXT, re.MULTILINE)
SECTION = TEXT.partition("\nWhere things are\n")[2].partition("\n\n\n")[0]
#: The rows of the table: the paths, and what is told of them.
ROWS = [
    (re.findall("``(.+?)``", paths), re.findall("``(.+?)``", told))
    for paths, told in re.findall(r"^   \* - (.*)\n     - (.*(?:\n       .*)*)", SECTION, re.MULTILINE)[1:]
]
PATHS = [paths for paths, _ in ROWS]


def test_the_list_of_sections_has_each_once_and_in_order():
    beginning = TEXT.partition(f"\n{TITLES[0]}\n---")[0]
    items = re.findall(r"^- .*?: (.*)$", beginning, re.MULTILINE)
    assert [quoted or word for quoted, word in re.findall(r"`([^`]+)`_|(\w+)_", ", ".join(items))] == TITLES


def test_links_lead_to_sections():
    """The titles of sections are the only targets."""
    without_code = re.sub(r"``.+?``", "", TEXT, flags=re.DOTALL)
    without_code = re.sub(r"^\.\. code-block::.*\n(?:\n| .*\n)+", "", without_code, flags=re.MULTILINE)
    found = {" ".join(quoted.split()) or word for quoted, word in re.findall(r"`([^`<]+)`_\b|\b(\w+)_\b", without_code)}
    assert len(found) > 15 and found <= set(TITLES)


def test_lines_are_no_longer_than_those_of_the_code():
    """But for the rows of a csv-table, of which each is one line."""
    rows = re.compile(r'   ("|, ")')
    assert [line for line in TEXT.splitlines() if len(line) > 120 and not rows.match(line)] == []


def paths_in_the_text() -> set[str]:
    """What looks like a path of the repository, anywhere on the page."""
    literals = re.findall("``([^`\n]+)``", TEXT)
    folders = (*(f"{path.name}/" for path in ROOT.iterdir() if path.is_dir()), ".ci/")
    return {literal for literal in literals if literal.startswith(folders)}


def test_paths_exist():
    found = paths_in_the_text() | {path for paths in PATHS for path in paths}
    assert len(found) > 20
    assert sorted(path for path in found if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("paths, told", ROWS)
def test_files_of_a_row_are_in_its_folder(paths, told):
    for name in told:
        if name.endswith(".py"):
            folder = ROOT if "/" in name else ROOT / paths[0]
            assert (folder / name).is_file(), name


def test_each_part_of_the_package_has_its_place():
    named = {path for paths in PATHS for path in paths} | {name for _, told in ROWS for name in told}
    parts = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    names = {f"torchneupy/{path.name}" for path in parts} - {"torchneupy/__init__.py"}
    assert len(names) > 10 and names == {name for name in named if name.startswith("torchneupy/")}


def test_each_folder_of_tests_has_its_place():
    (told,) = (told for paths, told in ROWS if paths == ["tests"])
    named = {*(f"tests/{name}" for name in told), *re.findall("``(tests/[a-z]+)``", SECTION)}
    folders = {f"tests/{path.name}" for path in (ROOT / "tests").iterdir() if any(path.glob("*.py"))}
    assert folders == named - {"tests/full"}


# The order


def modules_of(path: str) -> list[Path]:
    """The modules of a path of the table."""
    found = ROOT / path
    return sorted(found.rglob("*.py")) if found.is_dir() else [found]


def imports_of(module: Path) -> set[str]:
    """The parts of the package that a module imports, at its beginning or in a function; but for type hints alone."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    hints = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    left_out = {inner for node in hints for statement in node.body for inner in ast.walk(statement)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in left_out and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import) and node not in left_out:
            found |= {name.name for name in node.names}
    return {name.split(".")[1] for name in found if re.match(r"torchneupy\.[a-z]", name)}


@pytest.mark.parametrize("number", [number for number, paths in enumerate(PATHS) if paths[0].startswith("torchneupy/")])
def test_a_part_uses_none_below_it(number):
    above = {Path(path).stem for paths in PATHS[: number + 1] for path in paths}
    if number:
        above |= {Path(name).stem for name in ROWS[number][1] if name.startswith("torchneupy/")}
    for path in PATHS[number]:
        for module in modules_of(path):
            assert imports_of(module) <= above, module
