"""What does ``import torchneupy.layers`` add to ``import torch``? ``python -m benchmarks --only importing``.

Each import is that of a fresh process. The goal is 60 ms more than torch's own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measure import Options, Question

__all__ = ["questions"]

MEASURE = "import time; begin = time.perf_counter(); import {}; print((time.perf_counter() - begin) * 1e3)"


def import_time(modules: str, before: str = "sys") -> float:
    """Milliseconds that an import takes in a fresh process, where others are imported already."""
    command = [sys.executable, "-c", f"import {before}; {MEASURE.format(modules)}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    del options
    import_time("torch, torchneupy.layers")  # compiled once
    yield Question(
        "import, beyond that of torch",
        lambda: import_time("torchneupy.layers", before="torch"),
        {"60 ms": lambda: 60.0, "torch": lambda: import_time("torch")},
        {"60 ms": 1.0},
        unit="ms",
    )
