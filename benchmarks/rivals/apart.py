"""Our side: starts the rivals' processes, and lets them work in turn.

Keras 3 is asked if it is installed beside torch (extra ``benchmarks``).

The real NeuPy is asked if the environment variable ``NEUPY_PYTHON`` names a Python in which ``import neupy`` works. A
Python of its time is one, 3.6 or 3.7, with ``pip install neupy==0.8.2 tensorflow==1.13.2 "protobuf<4"``; so is any
other in which a module makes it work that ``NEUPY_SETUP`` names, and which is imported first.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Container, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.measure import Absent, Options

__all__ = ["KERAS", "NEUPY", "TASKS", "Process", "keras_and_neupy", "python_of", "start"]

ROOT = Path(__file__).resolve().parents[2]
KERAS = "Keras on torch"
NEUPY = "NeuPy on TensorFlow"
#: What they can be asked to do. A peak is a figure in KiB, where other work is timed.
TASKS = (
    "forward",
    "training step",
    "predict",
    "building",
    "loading",
    "peak of a forward pass",
    "peak of a training step",
)


class RivalError(RuntimeError):
    """A rival cannot do what it is asked for."""


class Process:
    """A rival's process.

    Parameters
    ----------
    command : list of str
        Starts one that answers as worker.py says.

    Attributes
    ----------
    versions : dict
        Those of the rival, and of what it runs on.

    Raises
    ------
    RivalError
        If it does not start.
    """

    def __init__(self, command: list[str]) -> None:
        path = os.pathsep.join([os.fspath(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.errors = stack.enter_context((folder / "errors").open("w+", encoding="utf-8"))
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self.errors,
                    text=True,
                    cwd=ROOT,
                    env=os.environ | {"PYTHONPATH": path},
                )
            except OSError as error:
                raise RivalError(f"does not start: {error}") from error
            stack.enter_context(self.process)
            stack.callback(self.end)
            self.versions: dict[str, str] = self.ask()["versions"]
            self.resources = stack.pop_all()
        atexit.register(self.close)

    def end(self) -> None:
        self.process.kill()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # what could not be written to one that has ended cannot be now
            self.process.stdin.close()

    def close(self) -> None:
        self.resources.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """What is answered.

        Raises
        ------
        RivalError
            If that is an error, or nothing.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            self.errors.seek(0)
            last = self.errors.read().strip().rpartition("\n")[2]
            raise RivalError(f"its process has ended: {last}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise RivalError(reply["error"])
        return reply

    def work(
        self, kind: str, task: str, x: torch.Tensor | None, n_parameters: int | None, options: dict[str, Any]
    ) -> WorkApart | Absent:
        """Have some work made ready; the arrays are ours.

        Raises
        ------
        ValueError
            If the rival's network has not as many parameters as ours, so that its work is another one.
        """
        arrays = {} if x is None else {"x": x.cpu().numpy()}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "arrays.npz"
            np.savez(path, allow_pickle=False, **arrays)
            try:
                reply = self.ask(kind=kind, task=task, options=options, arrays=os.fspath(path))
            except RivalError as error:
                return Absent(str(error))
        if n_parameters is not None and reply["n_parameters"] != n_parameters:
            raise ValueError(f"{kind}: expected {n_parameters} parameters, got {reply['n_parameters']}")
        return WorkApart(self, reply["work"])


class WorkApart:
    """Work that another process is ready to do."""

    def __init__(self, process: Process, number: int) -> None:
        self.process = process
        self.number = number

    def time(self, repetitions: int) -> float:
        return float(self.process.ask(time=self.number, repetitions=repetitions)["time"])

    def __call__(self) -> float:
        """The figure that it gives, where it is not the time that is asked for."""
        return float(self.process.ask(figure=self.number)["figure"])


def python_of(rival: str) -> str | Absent:
    """The Python that has a rival."""
    if rival == KERAS:
        if importlib.util.find_spec("keras") is None:
            return Absent("not installed: python -m pip install torchneupy[benchmarks]")
        return sys.executable
    return os.environ.get("NEUPY_PYTHON") or Absent("NEUPY_PYTHON names no Python with the real NeuPy")


@cache
def start(rival: str, options: Options) -> Process | Absent:
    """The process of a rival, started when it is asked for first."""
    python = python_of(rival)
    if isinstance(python, Absent):
        return python
    if rival == KERAS:
        command = [python, "-m", "benchmarks.rivals.keras_worker", options.device, str(options.threads)]
    elif options.device == "cuda":
        return Absent("NeuPy's TensorFlow runs on the CPU here")
    else:
        command = [python, "-m", "benchmarks.rivals.neupy_worker", str(options.threads)]
    try:
        return Process(command)
    except RivalError as error:
        return Absent(str(error))


def keras_and_neupy(
    kind: str,
    task: str,
    options: Options,
    x: torch.Tensor | None = None,
    own: nn.Module | None = None,
    not_compared: Container[str] = (),
    rivals: Sequence[str] = (KERAS, NEUPY),
    /,
    **sizes: Any,
) -> dict[str, WorkApart | Absent]:
    """The work of both, or of one.

    Parameters
    ----------
    kind : str
        Name of a network in the workers.
    task : str
        One of ``TASKS``.
    options : Options
    x : Tensor or None
        What goes in.
    own : Module or None
        Our network; those of the rivals have to have as many parameters.
    not_compared : container of str
        Rivals of which that is not asked: they have others where we have none.
    rivals : sequence of str
        Who is asked.
    **sizes
        Arguments for the network.
    """
    n_parameters = None if own is None else sum(p.numel() for p in own.parameters())
    found: dict[str, WorkApart | Absent] = {}
    for rival in rivals:
        process = start(rival, options)
        if isinstance(process, Process):
            wanted = None if rival in not_compared else n_parameters
            found[rival] = process.work(kind, task, x, wanted, sizes)
        else:
            found[rival] = process
    return found
