"""Damaged files: a load gives one of two errors, soon, and changes nothing; or it was not hurt and loads."""

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from torchneupy import storage
from torchneupy.exceptions import InvalidFormat, ParameterLoaderError
from torchneupy.layers import BatchNorm, Input, Relu, Softmax

COUNT = 20_000 if os.environ.get("TORCHNEUPY_FULL") == "1" else 2_000
SECONDS_EACH = 10.0

FORMATS: dict[str, Any] = {
    "hdf5": (storage.save_hdf5, storage.load_hdf5),
    "json": (storage.save_json, storage.load_json),
    "pickle": (storage.save_pickle, storage.load_pickle),
    "safetensors": (storage.save_safetensors, storage.load_safetensors),
}
FOLDER = Path(__file__).parents[1] / "golden" / "files"


def network() -> Any:
    return Input(4) >> Relu(5, name="hid") >> Softmax(3, name="out")


def normalised() -> Any:
    return Input(3) >> BatchNorm(name="bn") >> Relu(2, name="r/s")


def cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content)) :]


def flip_bits(content: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice([1, 1, 2, 8])):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def put_bytes(content: bytearray, draw: random.Random) -> None:
    place, size = draw.randrange(len(content)), draw.choice([1, 2, 4, 8])
    content[place : place + size] = draw.choice([b"\xff", b"\x00", b"\x7f", b"\x80", b"9"]) * size


def copy_piece(content: bytearray, draw: random.Random) -> None:
    size = draw.randrange(1, 64)
    start, place = (draw.randrange(len(content)) for _ in range(2))
    content[place : place + size] = content[start : start + size]


def insert_piece(content: bytearray, draw: random.Random) -> None:
    start, place = (draw.randrange(len(content)) for _ in range(2))
    content[place:place] = content[start : start + draw.randrange(1, 64)]


def remove_piece(content: bytearray, draw: random.Random) -> None:
    place = draw.randrange(len(content))
    del content[place : place + draw.randrange(1, 64)]


DAMAGES = [cut, flip_bits, flip_bits, put_bytes, put_bytes, copy_piece, insert_piece, remove_piece]


def originals(kind: str, folder: Path) -> list[tuple[Any, bytes]]:
    save, _ = FORMATS[kind]
    found = []
    for make in (network, normalised):
        save(make(), folder / "good")
        found.append((make, (folder / "good").read_bytes()))
    neupys = {"hdf5": ["dense.hdf5"], "json": ["dense.json"], "pickle": ["dense.pickle", "dense.py2.pickle"]}
    return found + [(network, (FOLDER / name).read_bytes()) for name in neupys.get(kind, [])]


def values_of(target: Any) -> list[bytes]:
    """What is in the variables; as bytes, because damage may have made numbers that equal nothing."""
    return [value.numpy().tobytes() for value in target.state_dict().values()]


def refusal(load: Any, target: Any, path: Path) -> str | None:
    """The message with which a file is refused, None if it loads; any other error fails the test."""
    try:
        load(target, path)
    except (InvalidFormat, ParameterLoaderError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files(kind: str, tmp_path: Path) -> None:
    _, load = FORMATS[kind]
    draw = random.Random(0)
    files = originals(kind, tmp_path)
    targets = {make: make() for make, _ in files}
    loaded = refused = 0
    path = tmp_path / "damaged"
    for number in range(COUNT):
        make, good = files[number % len(files)]
        content = bytearray(good)
        for _ in range(draw.choice([1, 1, 1, 2, 4])):
            if content:
                draw.choice(DAMAGES)(content, draw)
        path.write_bytes(content)
        target = targets[make]
        before = values_of(target)
        begin = time.perf_counter()
        message = refusal(load, target, path)
        assert time.perf_counter() - begin < SECONDS_EACH, number
        if message is None:
            loaded += 1
            continue
        refused += 1
        assert "damaged" in message, (number, message)
        assert values_of(target) == before, number
    assert refused > COUNT / 10 and loaded + refused == COUNT


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_at_any_byte(kind: str, tmp_path: Path) -> None:
    save, load = FORMATS[kind]
    save(network(), tmp_path / "good")
    content, path = (tmp_path / "good").read_bytes(), tmp_path / "cut"
    target = network()
    for size in range(0, len(content) - 1, 1 if len(content) < 3_000 else 7):
        path.write_bytes(content[:size])
        message = refusal(load, target, path)
        assert kind == "hdf5" if message is None else "cut" in message  # the end of HDF5 may be empty
