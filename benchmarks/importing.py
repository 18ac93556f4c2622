"""What does ``import torchneupy.layers`` add to ``import torch``? ``python -m benchmarks --only importing``.

Each import is that of a fresh process. The goal is 60 ms more than torch's own. Keras is asked for what it adds to
torch, the real NeuPy for what it adds to TensorFlow.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.measure import Absent, Options, Question
from benchmarks.rivals.apart import KERAS, NEUPY, python_of

__all__ = ["questions"]

MEASURE = "import time; begin = time.perf_counter(); import {}; print((time.perf_counter() - begin) * 1e3)"


def import_time(modules: str, before: str = "sys", python: str = sys.executable) -> float:
    """Milliseconds that an import takes in a fresh process, where others are imported already."""
    command = [python, "-c", f"import {before}; {MEASURE.format(modules)}"]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"KERAS_BACKEND": "torch"}
    )
    return float(done.stdout.split()[-1])  # libraries print what they like


def apart(rival: str, modules: str, before: str) -> Callable[[], float] | Absent:
    """What takes the time of a rival's import."""
    python = python_of(rival)
    return python if isinstance(python, Absent) else partial(import_time, modules, before, python)


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    del options
    import_time("torch, torchneupy.layers")  # compiled once
    setup = ", ".join(filter(None, [os.environ.get("NEUPY_SETUP"), "tensorflow"]))
    yield Question(
        "import, beyond that of torch or TensorFlow",
        lambda: import_time("torchneupy.layers", before="torch"),
        {
            "60 ms": lambda: 60.0,
            "torch": lambda: import_time("torch"),
            KERAS: apart(KERAS, "keras", before="torch"),
            NEUPY: apart(NEUPY, "neupy.layers", before=setup),
        },
        {"60 ms": 1.0},
        unit="ms",
    )
