"""Damages files in random ways and loads them: ``python -m tests.storage.mutations 2000 [.hdf5 ...]``.

Prints a line of JSON for each format: how many files were loaded or refused, what else happened, the longest time, and
by how much the process grew at its peak. A file may be loaded, where the damage is in a number or in what nobody reads;
or it is refused with NeuPy's errors, the file's name in the message, and the network as it was.
"""

from __future__ import annotations

import io
import json
import random
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch

from tests.storage import recorded
from torchneupy import storage
from torchneupy.exceptions import InvalidFormat, ParameterLoaderError
from torchneupy.layers.naming import reset_names
from torchneupy.storage.errors import telling_file
from torchneupy.storage.safetensors_format import load_by_keys
from torchneupy.storage.torch_format import read_state_dict

SECONDS = 5
FORMATS = (".hdf5", ".json", ".pickle", ".py2.pickle", ".safetensors", ".keys.safetensors", ".pt")
EXTREMES = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 10**6, 10**12]
ZIP = b"PK\3\4"
TOKEN = re.compile(rb'"[^"]*"|-?\d[\d.e-]*')
WORDS = [b"null", b"true", b'"text"', b"[]", b"{}", b"[[1]]", b"1e999", b"-1", b"NaN", b"\xff"]
WORDS += [b"9" * 5000, b"[" * 5000, b'{"":' * 5000]


class TooLong(BaseException):
    """A load takes more of the processor's time than it may; no ``except Exception`` catches it."""


def truncate(content: bytearray, _: bytes, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def flip_bits(content: bytearray, _: bytes, rng: random.Random) -> None:
    for _n in range(rng.choice([1, 1, 2, 8])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def overwrite(content: bytearray, _: bytes, rng: random.Random) -> None:
    start, length = rng.randrange(len(content)), rng.choice([1, 4, 64])
    content[start : start + length] = bytes(rng.choice([0, 255, rng.randrange(256)]) for _n in range(length))


def set_number(content: bytearray, _: bytes, rng: random.Random) -> None:
    size = rng.choice([2, 4, 8])
    start = rng.randrange(max(len(content) // size, 1)) * size
    value = rng.choice([*EXTREMES, rng.randrange(len(content))]) % 256**size
    content[start : start + size] = value.to_bytes(size, "little")


def move_words(content: bytearray, _: bytes, rng: random.Random) -> None:
    """One address in place of another leads in circles."""
    first, second = (rng.randrange(max(len(content) // 8, 1)) * 8 for _n in range(2))
    content[first : first + 8] = content[second : second + 8]


def cut(content: bytearray, _: bytes, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    del content[start : start + rng.choice([1, 8, 100])]


def repeat(content: bytearray, _: bytes, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    content[start:start] = content[start : start + rng.choice([1, 8, 100, 1000])]


def splice(content: bytearray, other: bytes, rng: random.Random) -> None:
    start, length = rng.randrange(len(other)), rng.choice([8, 64, 512])
    place = rng.randrange(len(content))
    content[place : place + length] = other[start : start + length]


def insert_word(content: bytearray, _: bytes, rng: random.Random) -> None:
    place = rng.randrange(len(content))
    content[place : place + rng.randrange(4)] = rng.choice(WORDS)


def replace_token(content: bytearray, other: bytes, rng: random.Random) -> None:
    """Another type in the place of a number or a text of JSON, in the header of safetensors too."""
    found = list(TOKEN.finditer(content, 0, 1 << 16))
    if not found:
        return
    start, end = rng.choice(found).span()
    word = rng.choice([*WORDS, *[match[0] for match in TOKEN.finditer(other, 0, 4096)]])
    content[start:end] = word
    if content[8:9] == b"{":
        length = int.from_bytes(content[:8], "little") + len(word) - (end - start)
        content[:8] = (length % 2**64).to_bytes(8, "little")


MUTATIONS: list[Callable[[bytearray, bytes, random.Random], None]] = [
    truncate, flip_bits, overwrite, set_number, move_words, cut, repeat, splice, insert_word, replace_token,
]  # fmt: skip


def mutate(content: bytes, other: bytes, rng: random.Random) -> bytes:
    if content.startswith(ZIP) and rng.random() < 0.5:
        return mutate_pickle(content, other, rng)
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if damaged:
            rng.choice(MUTATIONS)(damaged, other, rng)
    return bytes(damaged)


def mutate_pickle(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Damage what is in a whole archive: of what is damaged itself, hardly a part gets so far as to be unpickled."""
    entries, others = ({name: file.read(name) for name in file.namelist()} for file in map(open_zip, (content, other)))
    (name,) = (name for name in entries if name.endswith("data.pkl"))
    entries[name] = mutate(entries[name], next(iter(others.values())), rng)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        for name, entry in entries.items():
            file.writestr(name, entry)
    return written.getvalue()


def open_zip(content: bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(content))


def seeds(ending: str) -> list[tuple[Any, bytes]]:
    """Networks, and the files of a format that belong to them."""
    found = []
    for name, entry in recorded.NETWORKS.items():
        reset_names()
        network = recorded.build(entry["build"])
        if ending == ".pt":
            file = io.BytesIO()
            torch.save(network.state_dict(), file)
            content = file.getvalue()
        elif ending.endswith(".safetensors"):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / name
                names = "state_dict" if ending.startswith(".keys") else "neupy"
                storage.save_safetensors(network, path, names)
                content = path.read_bytes()
        else:
            content = (recorded.FOLDER / f"{name}{ending}").read_bytes()
        found.append((network, content))
    return found


def raise_too_long(*_: Any) -> None:
    raise TooLong


class Ending:
    """How a block ends, which has some seconds of the processor's time: the error is kept, and goes no further."""

    error: BaseException | None = None

    def __enter__(self) -> Self:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.error = error
        return isinstance(error, (Exception, TooLong))


def load(network: Any, path: Path) -> None:
    if path.suffix != ".pt":
        recorded.load(network, path)
        return
    with read_state_dict(path) as data, telling_file(path):
        load_by_keys(network, data["tensors"], ignore_missing=False)


def try_load(network: Any, path: Path) -> str:
    """What happens to one file, in a word or two."""
    before = [value.detach().clone() for value in network.variables.values()]
    with Ending() as ending:
        load(network, path)
    error = ending.error
    if isinstance(error, (InvalidFormat, ParameterLoaderError)):
        if path.name not in str(error):
            return f"no name in: {error}"
        after = list(network.variables.values())
        unchanged = all(torch.equal(a.view(-1), b.view(-1)) for a, b in zip(before, after, strict=True))
        return type(error).__name__ if unchanged else f"network changed by {type(error).__name__}: {error}"
    if error is not None:
        return f"{type(error).__name__}: {error}"
    with torch.no_grad():
        for variable, value in zip(network.variables.values(), before, strict=True):
            variable.copy_(value)
    return "loaded"


def run(ending: str, count: int, seed: int = 0) -> dict[str, Any]:
    rng = random.Random(f"{ending} {seed}")
    files = seeds(ending)
    results: Counter[str] = Counter()
    longest = 0.0
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"damaged{ending}"
        for network, content in files:
            path.write_bytes(content)
            result = try_load(network, path)
            if result != "loaded":
                raise AssertionError(f"an undamaged {ending} file is not loaded: {result}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(count):
            network, content = rng.choice(files)
            path.write_bytes(mutate(content, rng.choice(files)[1], rng))
            begin = time.process_time()
            result = try_load(network, path)
            longest = max(longest, time.process_time() - begin)
            results[result if result in ("loaded", "InvalidFormat", "ParameterLoaderError") else "other"] += 1
            if result not in results:
                bad.append(f"{number}: {result}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    return {"format": ending, **results, "seconds": round(longest, 3), "megabytes": round(grown, 1), "bad": bad}


if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.signal(signal.SIGPROF, raise_too_long)
    warnings.simplefilter("error")
    # What is told of files that are loaded all the same.
    warnings.filterwarnings("ignore", "Nothing is stored for|Parameters are loaded by order")
    for one in sys.argv[2:] or FORMATS:
        sys.stdout.write(json.dumps(run(one, int(sys.argv[1]))) + "\n")
