"""Fixtures of the tests that compile; those of all tests are in tests/plugin.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Nothing is left of what was compiled before, and nothing is left for the tests that follow."""
    import torch  # not above, as in tests/plugin.py

    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def counter(fresh_compiler: None) -> Any:
    """A backend that counts the graphs that it is given."""
    from torch._dynamo.testing import CompileCounterWithBackend

    return CompileCounterWithBackend("aot_eager")
