"""Take the commands out of README.rst, for .ci/run and for the tests, so that what is promised is what is run.

``python tests/readme_commands.py run-it`` prints the shell line of the code block with that name.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.rst"
NAMES = ["run-it", "test-it"]

BLOCK = re.compile(r"^\.\. code-block:: bash\n   :name: (?P<name>\S+)\n\n(?P<lines>(?:   .*\n)+)", re.MULTILINE)


def find_commands(text: str) -> dict[str, str]:
    """Find the named shell blocks: exactly the two that there should be, each of one line.

    Parameters
    ----------
    text : str
        The content of README.rst.

    Returns
    -------
    dict
        The shell line of each name.

    Raises
    ------
    ValueError
        A block is missing, is there twice, or has more than one line, or there is another.
    """
    blocks = [(match["name"], match["lines"].strip()) for match in BLOCK.finditer(text)]
    names = [name for name, _ in blocks]
    if sorted(names) != NAMES:
        raise ValueError(f"README.rst should have the shell blocks {NAMES}, each once, but has {names}")
    for name, command in blocks:
        if "\n" in command:
            raise ValueError(f"the shell block {name!r} of README.rst should be one line, but is {command!r}")
    return dict(blocks)


if __name__ == "__main__":
    print(find_commands(README.read_text(encoding="utf-8"))[sys.argv[1]])
