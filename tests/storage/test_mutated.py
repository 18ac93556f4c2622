"""Files that are damaged at random are loaded or refused, in little time and memory; mutations.py says how."""

import json
import os
import subprocess
import sys

import pytest

from tests.storage.mutations import FORMATS, SECONDS

COUNT = 20_000 if os.environ.get("TORCHNEUPY_FULL") == "1" else 2_000
#: By how much a process may grow while it loads all of these files, which are some 20 KB each.
MEGABYTES = 64


@pytest.fixture(scope="module")
def results():
    """What happened, by format. In a process of its own, which a crash would end, and whose memory is its own."""
    command = [sys.executable, "-m", "tests.storage.mutations", str(COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {result["format"]: result for result in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("ending", FORMATS)
def test_damaged_files(ending, results):
    result = results[ending]
    assert result["bad"] == []
    assert result["loaded"] + result["InvalidFormat"] + result["ParameterLoaderError"] == COUNT
    # Neither is the damage too small to matter, nor so great that no file gets beyond its first bytes.
    assert result["loaded"] > COUNT / 100
    assert result["InvalidFormat"] > COUNT / 10
    assert result["ParameterLoaderError"] > 0
    assert result["seconds"] < SECONDS
    assert result["megabytes"] < MEGABYTES
