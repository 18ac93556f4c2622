"""Every block of code in README.rst is run or checked: Python here or as a doctest, command lines as far as is cheap.

Blocks with prompts are doctests: README.rst is among pytest's testpaths, and here each of its sections runs alone.
Other Python blocks are programs, which run here, each by itself, unless ``ELSEWHERE`` names the test that runs them.
Each command line has a check in ``CHECKS``, which says what it looks at and, where the line itself is not run, why.
"""

from __future__ import annotations

import ast
import configparser
import doctest
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

import pytest

from tests import readme_commands
from torchneupy.__main__ import _build_parser
from torchneupy.testing.parts import PARTS

ROOT = readme_commands.README.parent
TEXT = readme_commands.README.read_text(encoding="utf-8")

#: The Python blocks that other tests run, by their names: the file and the test.
ELSEWHERE = {
    "train.py": ("tests/interop/test_distributed.py", "test_the_recipe_trains"),
    "test_projection.py": ("tests/test_readme_blocks.py", "test_the_test_of_a_layer"),
}

#: For a block that is a piece of a program, by its first line: what runs before it and after it.
AROUND = {
    "from torch.distributed.fsdp import fully_shard": (
        """
        import torch
        from torch import distributed
        from torchneupy.layers import *

        distributed.init_process_group("gloo", init_method="file://" + __file__ + ".meet", rank=0, world_size=1)
        network = join(Input((8, 8, 3)), Convolution((3, 3, 16)), Relu(), Reshape(), Softmax(10))
        """,
        """
        model(torch.ones(2, 8, 8, 3)).sum().backward()
        distributed.destroy_process_group()
        """,
    ),
}


class Block(NamedTuple):
    """A block of README.rst."""

    language: str
    name: str
    code: str
    line: int


def find_blocks(text: str) -> list[Block]:
    """All the blocks of code, whatever their language."""
    blocks = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = re.fullmatch(r"\.\. code(?:-block)?::(.*)", line)
        if match is None:
            continue
        rest = number + 1
        options: dict[str, str] = {}
        while found := re.fullmatch(r" +:([a-z-]+): *(.*)", lines[rest]):
            options[found[1]] = found[2]
            rest += 1
        end = rest
        while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
            end += 1
        code = textwrap.dedent("\n".join(lines[rest:end])).strip("\n") + "\n"
        blocks.append(Block(match[1].strip(), options.get("name", ""), code, number + 1))
    return blocks


BLOCKS = find_blocks(TEXT)
PROGRAMS = [block for block in BLOCKS if block.language == "python" and ">>>" not in block.code]
SHELL = [block for block in BLOCKS if block.language in ("bash", "console")]
#: By their titles, what stands before the first one under "".
SECTIONS = {
    text.partition("\n---")[0] if number else "": text
    for number, text in enumerate(re.split(r"^(?=[^\n]+\n-{3,}$)", TEXT, flags=re.MULTILINE))
}


def test_there_is_no_code_outside_of_these_blocks():
    """No block of another language or directive, and no literal block, which would not say what it is."""
    assert {block.language for block in BLOCKS} == {"python", "bash", "console", "text"}
    assert not re.findall(r"^(?!\.\. ).*::$", TEXT, re.MULTILINE)
    assert set(re.findall(r"^ *\.\. ([a-z-]+)::", TEXT, re.MULTILINE)) == {
        "code-block",
        "csv-table",
        "image",
        "list-table",
    }
    assert not re.findall(r"^>>>", TEXT, re.MULTILINE)


# Python


def test_blocks_with_prompts_are_doctests(request):
    """Nothing in them is skipped, and nothing of a block stands outside of its examples."""
    assert "README.rst" in request.config.getini("testpaths")
    assert any(value.endswith("=README.rst") for value in request.config.getini("addopts") if "doctest-glob" in value)
    prompted = [block for block in BLOCKS if block.language == "python" and ">>>" in block.code]
    assert prompted
    for block in prompted:
        assert block.code.startswith(">>> "), f"line {block.line}"
        examples = doctest.DocTestParser().get_examples(block.code)
        assert examples and not any(doctest.SKIP in example.options for example in examples)
        assert len(re.findall("^>>> ", block.code, re.MULTILINE)) == len(examples)
    found = doctest.DocTestParser().get_examples(TEXT)
    assert len(found) == sum(len(doctest.DocTestParser().get_examples(block.code)) for block in prompted)


@pytest.mark.parametrize("title", [title for title, text in SECTIONS.items() if ">>> " in text])
def test_a_section_needs_no_other(title, monkeypatch):
    """Its examples run in order where none of another section ran before, in the folder of the source."""
    monkeypatch.chdir(ROOT)
    examples = doctest.DocTestParser().get_doctest(SECTIONS[title], {"__name__": "__main__"}, title, "README.rst", 0)
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    told: list[str] = []
    found = runner.run(examples, out=told.append)
    assert found.attempted and not found.failed, "".join(told)


def test_no_program_is_forgotten():
    names = {block.name for block in PROGRAMS}
    assert names == {"", *ELSEWHERE}
    for first in AROUND:
        assert [block for block in PROGRAMS if block.code.startswith(first + "\n")]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_run_elsewhere_has_its_test_there(name):
    path, test = ELSEWHERE[name]
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == test)
    (block,) = (block for block in PROGRAMS if block.name == name)
    compile(block.code, name, "exec")
    assert repr(name) in ast.unparse(function)


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=f"line-{block.line}") for block in PROGRAMS if block.name not in ELSEWHERE]
)
def test_program_runs(block, tmp_path):
    """By itself, in a folder of its own; a piece of one with what ``AROUND`` puts around it."""
    before, after = AROUND.get(block.code.partition("\n")[0], ("", ""))
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(before) + block.code + textwrap.dedent(after), encoding="utf-8")
    # On the CPU everywhere, as gloo, which the surroundings ask for, is of the CPU.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


# The file with a layer and its test


def test_the_test_of_a_layer(tmp_path):
    """By the command line of the page, in a folder that has only this file."""
    (block,) = (block for block in PROGRAMS if block.name == "test_projection.py")
    (command,) = (line for block in SHELL for line in command_lines(block) if line.endswith(" test_projection.py"))
    program, *words = shlex.split(command)
    assert program == "python"
    (tmp_path / "test_projection.py").write_text(block.code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and " 1 passed" in done.stdout, done.stdout


def test_the_test_of_a_layer_that_is_broken(monkeypatch):
    """With the change that the page names it says what the page shows."""
    (block,) = (block for block in PROGRAMS if block.name == "test_projection.py")
    (change,) = re.findall("``(return .+?)``", SECTIONS["Testing your own layer"], re.DOTALL)
    code, count = re.subn("return input @ .*", " ".join(change.split()), block.code)
    assert count == 1
    module = ModuleType("test_projection")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, block.name, "exec"), vars(module))
    with pytest.raises(AssertionError) as caught:
        module.test_projection()
    (shown,) = (block.code for block in BLOCKS if block.language == "text")
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.OutputChecker().check_output(shown, f"AssertionError: {caught.value}\n", flags), caught.value


def test_parts_of_the_contract():
    """All that can be skipped are named, and no others."""
    sentence = re.findall(r"The parts are (.+?);", SECTIONS["Testing your own layer"], re.DOTALL)[0]
    assert sorted(re.findall("``(.+?)``", sentence)) == sorted(PARTS)


# Command lines


def command_lines(block: Block) -> list[str]:
    """The command lines of a block, without comments; of a console only what is behind a ``$``."""
    lines = block.code.splitlines()
    if block.language == "console":
        return [line[2:] for line in lines if line.startswith("$ ")]
    commands = [line.partition(" #")[0] for line in lines]
    return [part.strip() for command in commands for part in command.split("&&") if part.strip()]


def is_command_of_torchneupy(words: Sequence[str]) -> None:
    """The parser takes it."""
    assert callable(_build_parser().parse_args(words).call)


def is_program_of_benchmarks(words: Sequence[str]) -> None:
    """It has these options; it takes minutes, and is run by tests/full."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words, "--help"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words if word.startswith("-"))


def installs(words: Sequence[str]) -> None:
    """What pip is asked for is there; installing is left to .ci/run, which takes the two commands out of this page."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    words = list(words)
    while "-c" in words:
        index = words.index("-c")
        assert (ROOT / words[index + 1]).is_file()
        del words[index : index + 2]
    if "--index-url" in words:  # PyTorch's, which is not asked
        requirement, option, address = words
        assert option == "--index-url" and re.fullmatch(r"https://download\.pytorch\.org/whl/(cpu|cu\d+)", address)
        assert requirement in (ROOT / "tests/constraints.txt").read_text(encoding="utf-8").split()
        return
    (target,) = (word for word in words if word != "-e")
    match = re.fullmatch(r"\.(?:\[([a-z,]+)\])?", target)
    assert match is not None, target
    assert set(filter(None, (match[1] or "").split(","))) <= set(setup["options.extras_require"])


def names_files(words: Sequence[str]) -> None:
    """Only that the files are there, and the mark: these run all tests, or a part, and would run this test too."""
    words = list(words)
    if "-m" in words:
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg", encoding="utf-8")
        index = words.index("-m")
        assert f"\n{words[index + 1]}: " in setup["tool:pytest"]["markers"]
        del words[index : index + 2]
    assert all((ROOT / word).exists() or word in ELSEWHERE for word in words if not word.startswith("-"))


def is_of_ci(words: Sequence[str]) -> None:
    """The same command is in .ci/run; style and types of the whole project take longer than a test should."""
    assert f'"python -m {" ".join(words)}"' in (ROOT / ".ci/run").read_text(encoding="utf-8")


def is_configured(words: Sequence[str]) -> None:
    """Not run: it runs all tests, this one too."""
    assert words in (["run", "-m", "pytest"], ["report"])
    assert "[coverage:run]" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def is_in_the_recipe(words: Sequence[str]) -> None:
    """Not run here, but with fewer processes by the test of the recipe."""
    assert words[-1] in ELSEWHERE


def is_executable(words: Sequence[str]) -> None:
    """Not run: it takes hours, or runs all tests."""
    assert os.access(ROOT / words[0], os.X_OK)


#: The words that a command line begins with, and its check, which gets the others.
CHECKS: dict[str, Callable[[Sequence[str]], None]] = {
    "python -m torchneupy": is_command_of_torchneupy,
    "torchneupy": is_command_of_torchneupy,
    "python -m benchmarks": is_program_of_benchmarks,
    "python -m pip install": installs,
    "pip install": installs,
    "python -m pytest": names_files,
    "pytest": names_files,
    "python -m ruff": lambda words: is_of_ci(["ruff", *words]),
    "python -m mypy": lambda words: is_of_ci(["mypy", *words]),
    "coverage": is_configured,
    "torchrun": is_in_the_recipe,
    "tests/full": lambda words: is_executable(["tests/full", *words]),
    "bash": is_executable,
}


def check_of(command: str) -> tuple[str, Callable[[Sequence[str]], None]] | None:
    """The longest beginning in ``CHECKS`` that a command line has, with its check."""
    for start in sorted(CHECKS, key=len, reverse=True):
        if f"{command} ".startswith(f"{start} "):
            return start, CHECKS[start]
    return None


def check(command: str) -> None:
    found = check_of(command)
    assert found is not None, f"README.rst has {command!r}, and there is no check for it"
    start, checked_by = found
    checked_by(shlex.split(command)[len(start.split()) :])


@pytest.mark.parametrize("command", [command for block in SHELL for command in command_lines(block)])
def test_command_line(command):
    check(command)


def commands_in_the_text() -> list[str]:
    """What stands in the text and begins as a command line."""
    literals = (" ".join(literal.split()) for literal in re.findall(r"``(.+?)``", TEXT, re.DOTALL))
    return sorted({literal for literal in literals if " " in literal and check_of(literal)})


@pytest.mark.parametrize("command", commands_in_the_text())
def test_command_line_in_the_text(command):
    check(command)


@pytest.mark.parametrize(
    "command",
    [
        "python -m torchneupy shine",
        "torchneupy summary --moon resnet50",
        "python -m benchmarks --slow",
        "pip install '.[moon]'",
        "python -m pip install torch==1.0.0 --index-url https://download.pytorch.org/whl/cpu",
        "python -m pytest -m moon",
        "python -m pytest tests/test_moon.py",
        "make all",
    ],
)
def test_a_wrong_command_line_is_found(command):
    with pytest.raises((AssertionError, SystemExit)):
        check(command)


def test_extras_are_all_told_of():
    section = TEXT.partition("\nInstall\n")[2].partition("\n\n\n")[0]
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert re.findall("^- ``([a-z]+)``:", section, re.MULTILINE) == list(setup["options.extras_require"])


def test_this_file_finds_blocks():
    python = ".. code-block:: python\n   :name: a\n\n   x = 1\n\n   y = 2\n\ntext\n\n"
    blocks = find_blocks(python + ".. code-block:: bash\n\n   ls  # files\n")
    assert blocks == [Block("python", "a", "x = 1\n\ny = 2\n", 1), Block("bash", "", "ls  # files\n", 10)]
    assert command_lines(blocks[1]) == ["ls"]
