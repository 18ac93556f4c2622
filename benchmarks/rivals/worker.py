"""The rivals' side: reads requests, a line of JSON each, and answers in the same way.

This must run where there is neither torch nor torchneupy, on the Pythons of NeuPy's time too, from 3.6 on: hints that
those could not evaluate stand in quotes.
"""

import gc
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.rivals.allocation import keep_what_is_freed

__all__ = ["Made", "serve"]


class Made(NamedTuple):
    """Work that a rival is ready to do, and what tells whether it is the same as ours.

    Attributes
    ----------
    work : callable
        Does it once. Where a figure is asked for that is not the time, that is what it returns.
    n_parameters : int or None
        How many numbers are trained; None where nobody asks.
    """

    work: "Callable[[], Any]"
    n_parameters: "int | None" = None


def serve(
    make: "Callable[[str, str, dict[str, Any], dict[str, np.ndarray[Any, Any]]], Made]",
    versions: "dict[str, str]",
    wait: "Callable[[], None]" = lambda: None,
) -> None:
    """Answer until there are no more requests.

    Parameters
    ----------
    make : callable
        Takes the kind of network, what is to be done with it, options, and arrays.
    versions : dict
        Those of the rival, and of what it runs on.
    wait : callable
        Waits until the device has finished.
    """
    keep_what_is_freed()
    # Libraries print what they like: the answers have a way of their own.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    works: list[Made] = []

    def answer(request: "dict[str, Any]") -> "dict[str, Any]":
        if "time" in request:
            work, repetitions = works[request["time"]].work, request["repetitions"]
            gc.collect()
            gc.disable()  # as where the others are timed
            wait()
            begin = time.perf_counter()
            for _ in range(repetitions):
                work()
            wait()
            end = time.perf_counter()
            gc.enable()
            return {"time": (end - begin) / repetitions * 1e6}
        if "figure" in request:
            return {"figure": works[request["figure"]].work()}
        if "kind" not in request:
            return {"versions": versions}
        with np.load(Path(request["arrays"])) as archive:
            arrays = dict(archive)
        made = make(request["kind"], request["task"], request["options"], arrays)
        made.work()
        works.append(made)
        return {"work": len(works) - 1, "n_parameters": made.n_parameters}

    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # the benchmarks tell of it, and go on
            logging.getLogger(__name__).exception("cannot answer")
            reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(reply), file=answers, flush=True)
