"""Where and with what a run is measured."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import torchneupy
from benchmarks.measure import Options
from benchmarks.rivals.allocation import keep_what_is_freed
from benchmarks.rivals.apart import KERAS, NEUPY, Process, start

__all__ = ["described", "settings"]


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions(options: Options) -> Iterator[str]:
    """Names and versions of all that took part; the rivals in processes of their own say theirs."""
    yield f"torchneupy {torchneupy.__version__}"
    yield f"torch {torch.__version__}"
    for rival in (KERAS, NEUPY):
        process = start(rival, options)
        if isinstance(process, Process):
            yield from (f"{name} {version}" for name, version in process.versions.items())
    for name in ("numpy", "h5py", "pyfive"):
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    yield f"Python {platform.python_version()}"


def described(options: Options) -> str:
    """The day, the machine and the versions, in a line."""
    today = dt.datetime.now(tz=dt.UTC).date()
    system = f"{platform.system()} {platform.release()}"
    where = [processor(), f"{os.cpu_count()} cores", f"{options.threads} thread(s)"]
    if options.device == "cuda":
        where = [torch.cuda.get_device_name(), f"CUDA {torch.version.cuda}", *where]
    return f"{today}; {', '.join([*where, system])}; {', '.join(versions(options))}"


@contextmanager
def settings(options: Options) -> Iterator[None]:
    """Threads and seed of a run; those from before come back. Freed memory stays with the process."""
    keep_what_is_freed()
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(threads)
