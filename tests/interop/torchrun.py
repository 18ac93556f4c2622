"""Starting several processes, and what those of several_processes.py have found, for all tests that ask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.interop.several_processes import SIZE

ROOT = Path(__file__).resolve().parents[2]


def torchrun(arguments: Sequence[str], folder: Path = ROOT, machines: int = 1, with_gpus: bool = False) -> None:
    """Start torchrun, once for each machine that is played here, and wait; nothing of it is left after two minutes."""
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if not with_gpus:  # of which FSDP2, and the recipe of README.rst, take one for each process where there are any
        environment["CUDA_VISIBLE_DEVICES"] = ""
    agents = [
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(machines)
    ]
    try:
        for agent in agents:
            text, _ = agent.communicate(timeout=120)
            assert agent.returncode == 0, text
    finally:
        for agent in agents:
            if agent.poll() is None:
                os.killpg(agent.pid, signal.SIGKILL)
                agent.wait()


@dataclass(frozen=True)
class Found:
    """What the processes have found, one by one, of networks and of batch normalisation, and where they saved."""

    networks: list[Any]
    norms: list[Any]
    folder: Path


def run_processes(folder: Path) -> Found:
    """Let the processes run; tests take what they find from the fixture ``two_processes``, for which they run once."""
    torchrun(["--standalone", "--nproc-per-node", str(SIZE), "-m", "tests.interop.several_processes", str(folder)])
    parts = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(SIZE)]
    return Found([networks for networks, _ in parts], [norms for _, norms in parts], folder)
