"""README.rst: its examples are doctests; here, that its two commands are found as .ci/run finds them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap

import pytest

from tests import readme_commands
from torchneupy.__main__ import main

ROOT = readme_commands.README.parent

BLOCK = """.. code-block:: bash
   :name: {name}

   {command}

"""
TWO = BLOCK.format(name="run-it", command="one") + BLOCK.format(name="test-it", command="two && three")


def test_two_commands_on_the_first_screen():
    text = readme_commands.README.read_text(encoding="utf-8")
    commands = readme_commands.find_commands(text)
    assert list(commands) == ["run-it", "test-it"]
    for command in commands.values():
        assert command.startswith("python -m pip install -c tests/constraints.txt ")
        assert text.index(command) < text.index("\nTraining\n")
    assert commands["run-it"].endswith(" && python -m torchneupy demo")
    assert commands["test-it"].endswith(" && python -m pytest")


@pytest.mark.parametrize("name", readme_commands.NAMES)
def test_as_a_script(name):
    done = subprocess.run([sys.executable, readme_commands.__file__, name], capture_output=True, text=True, check=True)
    text = readme_commands.README.read_text(encoding="utf-8")
    assert done.stdout == readme_commands.find_commands(text)[name] + "\n"


def test_other_blocks_are_not_commands():
    text = "text\n\n" + TWO + ".. code-block:: bash\n\n   four\n"
    assert readme_commands.find_commands(text) == {"run-it": "one", "test-it": "two && three"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        BLOCK.format(name="run-it", command="one"),
        TWO + BLOCK.format(name="test-it", command="four"),
        TWO + BLOCK.format(name="more", command="four"),
    ],
)
def test_a_missing_or_additional_block_is_refused(text):
    with pytest.raises(ValueError, match="shell blocks"):
        readme_commands.find_commands(text)


def test_a_block_of_two_lines_is_refused():
    with pytest.raises(ValueError, match="should be one line, but is 'one"):
        readme_commands.find_commands(TWO.replace("one", "one\n   four"))


def test_what_is_shown_of_the_command_line(tmp_path, monkeypatch, capsys):
    """Each line behind a $ prints what stands below it."""
    (tmp_path / "tests").symlink_to(readme_commands.README.parent / "tests")
    monkeypatch.chdir(tmp_path)
    text = readme_commands.README.read_text(encoding="utf-8")
    blocks = re.findall(r"^\.\. code-block:: console\n\n((?: {4}.*\n|\n)+)", text, re.MULTILINE)
    assert len(blocks) == 1
    for block in blocks:
        for shown in re.split(r"^\$ ", textwrap.dedent(block).strip(), flags=re.MULTILINE)[1:]:
            command, output = shown.rstrip("\n").split("\n", 1)
            assert command.startswith("python -m torchneupy ")
            assert main(shlex.split(command)[3:]) == 0
            assert capsys.readouterr() == (f"{output}\n", "")


def test_rows_of_works_with_name_tests_and_the_versions_that_ran():
    text = readme_commands.README.read_text(encoding="utf-8").partition("\nWorks with\n")[2].partition("\n\n\n")[0]
    rows = re.findall(r'^   "(.*)", "(.*)", "(.*)"$', text, re.MULTILINE)[1:]
    assert len(rows) > 20
    constraints = (ROOT / "tests/constraints.txt").read_text(encoding="utf-8").split()
    listed = []
    for _, version, tests in rows:
        assert version.replace(" ", "==") in constraints
        listed += re.findall("`(test_[a-z_]+.py)`", tests)
    assert sorted([*listed, "test_cuda.py"]) == sorted(path.name for path in (ROOT / "tests/interop").glob("test_*.py"))


def test_torch_is_pinned_and_every_pin_is_exact():
    lines = (readme_commands.README.parent / "tests" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert "torch==2.13.0" in pins
    assert all(line.count("==") == 1 for line in pins)
