"""What does loading a large file cost? ``python -m benchmarks --only loading``.

A file of 553 MB, written as NeuPy writes it, with the layers of VGG16, is loaded into a network that is built already.
The rivals for time are h5py, reading the same arrays into new ones and into arrays that are there, torch's own files,
Keras with a file of its own, and the real NeuPy with the same file; memory, at the peak and beside the network, may be
a fifth of the file. Needs the extra ``storage``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Options, Question
from benchmarks.rivals.apart import keras_and_neupy
from torchneupy import storage
from torchneupy.layers import Convolution, Input, LayerGraph, MaxPooling, Relu, Reshape, Softmax, join

__all__ = ["questions", "vgg16"]

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))

# Prints by how many MB the process grows while it loads, at the peak.
MEASURE = """
import sys
from pathlib import Path
from benchmarks.loading import vgg16
from torchneupy import storage

def field(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1e3

small = vgg16(scale=64)
storage.save(small, sys.argv[1] + ".small")
network = vgg16()
storage.load(small, sys.argv[1] + ".small")  # what is imported stays
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = field("VmRSS")
storage.load(network, sys.argv[1])
print(field("VmHWM") - before)
"""


def vgg16(scale: int = 1) -> LayerGraph:
    """The layers of VGG16, or narrower ones by a factor; they hold zeros, which take no time to draw."""
    parts = [
        part
        for block, (channels, repeats) in enumerate(BLOCKS, start=1)
        for part in (
            *[
                Convolution((3, 3, channels // scale), padding="same", weight=0, name=f"conv{block}_{number}") >> Relu()
                for number in range(1, repeats + 1)
            ],
            MaxPooling((2, 2)),
        )
    ]
    dense = [Relu(4096 // scale, weight=0, name=f"dense_{number}") for number in (1, 2)]
    return join(Input((224, 224, 3)), *parts, Reshape(), *dense, Softmax(1000 // scale, weight=0, name="dense_3"))


def read_by_h5py(path: Path, arrays: dict[str, Any] | None = None) -> dict[str, Any]:
    """All arrays of a file by their names: new ones, or, if they are given, those."""
    import h5py

    found: dict[str, Any] = {} if arrays is None else arrays

    def read(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if arrays is None:
            found[name] = item[()]
        elif item.size:
            item.read_direct(arrays[name])

    with h5py.File(path, "r") as file:
        file.visititems(read)
    return found


def peak(path: Path) -> float:
    """MB that loading takes at its peak, in a fresh process."""
    command = [sys.executable, "-c", MEASURE, os.fspath(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def questions(options: Options) -> Iterator[Question]:
    """Ask what the docstring of this module says."""
    network = vgg16()  # in the computer's own memory, whatever runs it later
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vgg16.hdf5"
        storage.save(network, path)
        size = path.stat().st_size / 1e6
        archive = Path(folder) / "vgg16.pt"
        torch.save(network.state_dict(), archive)
        arrays = read_by_h5py(path)
        yield Question(
            f"loading an HDF5 file of {size:.0f} MB",
            lambda: storage.load(network, path),
            {
                "h5py, into new arrays": lambda: read_by_h5py(path),
                "h5py, into arrays that are there": lambda: read_by_h5py(path, arrays),
                ".pt, torch.load and load_state_dict": lambda: network.load_state_dict(torch.load(archive)),
                "the same with mmap": lambda: network.load_state_dict(torch.load(archive, mmap=True)),
                **keras_and_neupy(
                    "vgg16", "loading", options._replace(device="cpu"), None, network, path=os.fspath(path)
                ),
            },
            {"h5py, into new arrays": 1.0},
        )
        yield Question(
            f"memory beside the network, loading an HDF5 file of {size:.0f} MB",
            lambda: peak(path),
            {"0.2 of the file": lambda: 0.2 * size},
            {"0.2 of the file": 1.0},
            unit="MB",
        )
