"""State dicts of ``torch.save``: read without torch and without running anything, written as torch reads them."""

import errno
import io
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.storage.test_unpickling import HOSTILE, nothing_runs, text
from torchneupy import storage
from torchneupy.exceptions import InvalidFormat
from torchneupy.storage import torch_archive
from torchneupy.storage.torch_format import read_state_dict, write_state_dict

__all__ = ["nothing_runs"]  # a fixture that every test here uses

DTYPES = [
    torch.float16, torch.float32, torch.float64, torch.bfloat16, torch.bool, torch.int8, torch.int16, torch.int32,
    torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
]  # fmt: skip


def values(tensor):
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()


def read(path):
    with read_state_dict(path) as data:
        return {key: np.asarray(value) for key, value in data["tensors"].items()}


def assert_read(tensors, path):
    found = read(path)
    assert list(found) == list(tensors)
    for key, tensor in tensors.items():
        expected = values(tensor)
        assert found[key].dtype.newbyteorder("=") == expected.dtype
        np.testing.assert_array_equal(found[key], expected)


def refusal(path, content=None):
    """The message with which a file is refused."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidFormat) as caught, read_state_dict(path):
        pass
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


# What torch writes


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype, tmp_path):
    path = tmp_path / "state.pt"
    rows = torch.tensor([[0, 1, 2], [3, 100, 1]]).to(dtype)
    tensors = {"rows": rows, "columns": rows.T, "part": rows[1, 1:], "one": rows[0, 1], "none": rows[:0]}
    torch.save(tensors, path)
    assert_read(tensors, path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols(protocol, tmp_path):
    tensors = OrderedDict(a=torch.randn(3), b=torch.randn(2, 2))
    torch.save(tensors, tmp_path / "state.pt", pickle_protocol=protocol)
    assert_read(tensors, tmp_path / "state.pt")


@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    order=st.permutations(range(4)),
    starts=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    steps=st.lists(st.integers(1, 3), min_size=4, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.uint16]),
)
def test_views(shape, order, starts, steps, dtype, tmp_path_factory):
    """Any part of a tensor, in any order of its axes, is read as the values that it shows."""
    path = tmp_path_factory.mktemp("views") / "state.pt"
    whole = torch.arange(int(np.prod(shape))).reshape(shape).to(dtype)
    part = whole[tuple(slice(start, None, step) for start, step in zip(starts, steps, strict=True))[: len(shape)]]
    part = part.permute([axis for axis in order if axis < len(shape)])
    torch.save({"whole": whole, "part": part}, path)
    assert_read({"whole": whole, "part": part}, path)


def test_state_dict_of_torch_s_own_layers(tmp_path):
    """With buffers, a scalar, and the versions of layers as an attribute."""
    convolution = nn.Conv2d(3, 4, 3)
    convolution.weight.data = convolution.weight.data.to(memory_format=torch.channels_last)
    network = nn.Sequential(convolution, nn.BatchNorm2d(4))
    torch.save(network.state_dict(), tmp_path / "state.pth")
    assert_read(network.state_dict(), tmp_path / "state.pth")
    torch.save(dict(network.named_parameters()), tmp_path / "parameters.pt")
    assert_read(dict(network.named_parameters()), tmp_path / "parameters.pt")


def test_shared_tensors_and_no_tensors(tmp_path):
    shared = torch.randn(3)
    torch.save({"a": shared, "b": shared}, tmp_path / "state.pt")
    assert_read({"a": shared, "b": shared}, tmp_path / "state.pt")
    torch.save({}, tmp_path / "empty.pt")
    assert read(tmp_path / "empty.pt") == {}


def test_checksums_need_not_be_there(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, tmp_path / "state.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert_read({"a": torch.ones(3)}, tmp_path / "state.pt")


# What other programs may write


def repack(path, changes=None, compression=zipfile.ZIP_STORED, without=()):
    """Write an archive anew, with other contents of some entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist() if name not in without}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**entries, **(changes or {})}.items():
            archive.writestr(name, content)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "state.pt"
    torch.save(OrderedDict(a=torch.arange(6.0).reshape(2, 3)), path)
    return path


@pytest.mark.parametrize("order", ["little", "big"])
def test_byte_order(order, saved):
    numbers = np.arange(6, dtype="<f4" if order == "little" else ">f4")
    repack(saved, {"state/byteorder": order, "state/data/0": numbers.tobytes()})
    assert_read({"a": torch.arange(6.0).reshape(2, 3)}, saved)
    bits = (np.arange(6, dtype="<f4").view("<u4") >> 16).astype("<u2" if order == "little" else ">u2")
    torch.save({"a": torch.arange(6.0).bfloat16()}, saved)
    repack(saved, {"state/byteorder": order, "state/data/0": bits.tobytes()})
    assert_read({"a": torch.arange(6.0)}, saved)


def test_no_byte_order(saved):
    repack(saved, without=["state/byteorder"])
    assert_read({"a": torch.arange(6.0).reshape(2, 3)}, saved)


def test_archive_behind_something_else(saved):
    saved.write_bytes(b"#!/bin/sh\n" + saved.read_bytes())
    assert_read({"a": torch.arange(6.0).reshape(2, 3)}, saved)


# What is refused


def test_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    network = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.save({"epoch": 3, "model": network.state_dict(), "optimizer": optimizer.state_dict()}, path)
    message = refusal(path)
    assert "'epoch': <int>, 'model': <dict>, 'optimizer': <dict>" in message
    assert "torch.save(torch.load(path)['model'], path) takes out the tensors" in message
    torch.save({**network.state_dict(), **{f"note {number}": number for number in range(20)}}, path)
    assert re.search(r"but has 'note 0': <int>, .*'note 7': <int>, \.\.\.$", refusal(path))


OTHERS = {
    "another object": (nn.Linear(2, 2), "asks for 'torch.nn.modules.linear.Linear', which state dicts"),
    "one tensor": (torch.ones(3), "a dictionary of tensors, got <StoredArray>"),
    "a list": ([torch.ones(3)], "a dictionary of tensors, got <list>"),
    "no text as a key": ({1: 2}, "1: <int>"),
    "values that are repeated": ({"a": torch.ones(1).expand(3)}, "shape (3,) and steps (0,) repeats values"),
    "complex numbers": ({"a": torch.ones(3, dtype=torch.complex64)}, "'torch.ComplexFloatStorage'"),
    "complex numbers, conjugated": ({"a": torch.ones(3, dtype=torch.complex64).conj()}, "'torch.ComplexFloatStorage'"),
    "negated": ({"a": torch.ones(3, dtype=torch.complex64).conj().imag}, "a tensor has flags"),
    "eight bits": ({"a": torch.ones(3).to(torch.float8_e5m2)}, "'torch.float8_e5m2'"),
    "no values": ({"a": torch.ones(3, device="meta")}, "_rebuild_meta_tensor_no_storage"),
    "sparse": ({"a": torch.ones(3).to_sparse()}, "_rebuild_sparse_tensor"),
}  # fmt: skip


@pytest.mark.parametrize("value, message", OTHERS.values(), ids=OTHERS)
def test_other_things_that_torch_saves(value, message, tmp_path):
    torch.save(value, tmp_path / "state.pt")
    assert message in refusal(tmp_path / "state.pt")


def test_other_files_of_torch(tmp_path):
    path = tmp_path / "state.pt"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert "before its version 1.6" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/other", b"")
    assert "the archive has 0 entries data.pkl" in refusal(path)


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "compressed": ({"compression": zipfile.ZIP_DEFLATED}, "entry 'state/data.pkl' is compressed or encrypted"),
    "no pickle": ({"without": ["state/data.pkl"]}, "0 entries data.pkl"),
    "two pickles": ({"changes": {"other/data.pkl": b"}."}}, "2 entries data.pkl"),
    "no storage": ({"without": ["state/data/0"]}, "no storage '0'"),
    "short storage": ({"changes": {"state/data/0": b"\0" * 20}}, "storage '0' has 20 bytes, which is not what"),
    "long storage": ({"changes": {"state/data/0": b"\0" * 28}}, "storage '0' has 28 bytes, which is not what"),
    "byte order": ({"changes": {"state/byteorder": b"middle"}}, "neither little nor big"),
}


@pytest.mark.parametrize("changes, message", CHANGES.values(), ids=CHANGES)
def test_changed_archives(changes, message, saved):
    repack(saved, **changes)
    assert message in refusal(saved)


def test_encrypted(saved):
    content = bytearray(saved.read_bytes())
    place = content.index(b"PK\1\2")
    content[place + 8] |= 1
    assert "is compressed or encrypted" in refusal(saved, bytes(content))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name(saved):
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("state/data/0", b"\0" * 24)
    assert "two entries 'state/data/0'" in refusal(saved)


def test_entries_that_overlap(saved):
    """All of an archive's entries may lie in one place, and be as large as the file each."""
    content = bytearray(saved.read_bytes())
    first = content.index(b"PK\1\2")
    second = content.index(b"PK\1\2", first + 1)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    assert "lies where another one does" in refusal(saved, bytes(content))


def test_no_local_header(saved):
    content = saved.read_bytes()
    place = content.rindex(b"PK\3\4")
    assert "has no header" in refusal(saved, content[:place] + b"PK\0\0" + content[place + 4 :])


@pytest.mark.parametrize("where", [0, 10, 500, 2000])
def test_lengths_in_the_directory(where, saved):
    content = bytearray(saved.read_bytes())
    last = content.rindex(b"PK\1\2")
    content[last + 20 : last + 28] = struct.pack("<II", 2**31 + where, 2**31 + where)
    assert "entries take" in refusal(saved, bytes(content))


# Hostile pickles


def with_pickle(path, content):
    repack(path, {"state/data.pkl": content})
    return path


CASES = {name: case for name, case in HOSTILE.items() if not name.startswith(("persistent id", "numpy", "newobj of"))}


@pytest.mark.parametrize("name", CASES)
def test_what_is_refused_of_neupy_s_files(name, saved):
    """Nothing that they name is run; what NeuPy's own files name has no place here either."""
    refusal(with_pickle(saved, CASES[name][0] + pickle.STOP))


PID = pickle.MARK + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x06t" + pickle.BINPERSID


def rebuilt(
    shape=b"K\x02K\x03\x86",
    steps=b"K\x03K\x01\x86",
    offset=b"K\0",
    storage=PID,
    function="_rebuild_tensor_v2",
    more=b"",
):
    made = f"ctorch._utils\n{function}\n".encode()
    call = made + pickle.MARK + storage + offset + shape + steps + b"\x89}" + more + b"tR"
    return b"\x80\x02}" + text("a") + call + b"s."


def test_what_the_pickles_below_change(saved):
    repack(saved, {"state/data.pkl": rebuilt()})
    assert_read({"a": torch.arange(6.0).reshape(2, 3)}, saved)


AXES = pickle.MARK + b"K\x01" * 65 + pickle.TUPLE
LARGE = pickle.LONG1 + b"\x08" + (2**62).to_bytes(8, "little")
PICKLES = {
    "loader of bytes": (rebuilt(storage=b"ctorch.storage\n_load_from_bytes\nC\0\x85R"), "_load_from_bytes"),
    "torch.load": (b"ctorch\nload\n.", "'torch.load'"),
    "torch.hub": (b"ctorch.hub\nload\n.", "'torch.hub.load'"),
    "method of what is admitted": (b"\x80\x04" + text("torch") + text("float32.to") + b"\x93.", "'torch.float32.to'"),
    "another function": (rebuilt(function="_rebuild_wrapper_subclass"), "_rebuild_wrapper_subclass"),
    "state of a parameter": (rebuilt(function="_rebuild_parameter_with_state"), "_rebuild_parameter_with_state"),
    "more than the storage": (rebuilt(shape=b"K\x02K\x04\x86"), "reaches beyond its storage"),
    "steps beyond the storage": (rebuilt(steps=b"K\x04K\x01\x86"), "reaches beyond its storage"),
    "a place beyond the storage": (rebuilt(offset=b"K\x01"), "reaches beyond its storage"),
    "negative place": (rebuilt(offset=b"J\xff\xff\xff\xff"), "a tensor should have a place"),
    "negative size": (rebuilt(shape=b"K\x02J\xff\xff\xff\xff\x86"), "a tensor should have a place"),
    "negative step": (rebuilt(steps=b"K\x03J\xff\xff\xff\xff\x86"), "a tensor should have a place"),
    "size of 4 EB": (rebuilt(shape=b"K\x02" + LARGE + b"\x86"), "a tensor should have a place"),
    "endless values of no steps": (
        rebuilt(shape=b"J\xff\xff\xff\x7fK\x03\x86", steps=b"K\0K\0\x86"), "repeats values"
    ),
    "some values of no steps": (rebuilt(steps=b"K\0K\0\x86"), "repeats values"),
    "less steps than sizes": (rebuilt(steps=b"K\x01\x85"), "a step for each axis"),
    "more axes than any array": (rebuilt(shape=AXES, steps=AXES), "a step for each axis"),
    "no shape": (rebuilt(shape=b"N"), "a tensor should have a place, a shape"),
    "true as a size": (rebuilt(shape=b"\x88K\x03\x86"), "a tensor should have a place, a shape"),
    "no storage": (rebuilt(storage=b"N"), "a tensor should have a storage and a dtype"),
    "a dtype as a storage": (rebuilt(storage=b"ctorch\nfloat32\n"), "a tensor should have a storage"),
    "storage of no dtype": (rebuilt(storage=PID.replace(b"ctorch\nFloatStorage\n", b"N")), "which is not what"),
    "storage of a text": (rebuilt(storage=PID.replace(b"ctorch\nFloatStorage\n", text("x"))), "a dtype, got 'x'"),
    "storage elsewhere": (rebuilt(storage=PID.replace(text("0"), text("../../etc/passwd"))), "no storage '../../etc"),
    "storage of no key": (rebuilt(storage=PID.replace(text("0"), b"]")), "no storage <list>"),
    "storage of true bytes": (rebuilt(storage=PID.replace(b"K\x06t", b"\x88t")), "which is not what the pickle says"),
    "id of a text": (rebuilt(storage=text("storage") + pickle.BINPERSID), "a storage should have a dtype"),
    "id as text": (b"\x80\x02Pstorage\n.", "PERSID"),
    "too few arguments": (rebuilt(more=b"000"), "TypeError"),
    "flags": (rebuilt(more=b"}" + text("neg") + b"\x88s"), "a tensor has flags"),
    "dtype of a text": (rebuilt(function="_rebuild_tensor_v3", more=text("f4")), "'f4'"),
    "call of a dtype": (b"ctorch\nfloat32\n)R.", "the pickle calls <Kind>"),
    "object of a dtype": (b"ctorch\nfloat32\n)\x81.", "the pickle makes an object of <Kind>"),
    "attributes of a dictionary": (b"\x80\x02}}" + text("__class__") + b"Nsb.", "sets attributes of <dict>"),
    "OrderedDict with items": (b"ccollections\nOrderedDict\n]\x85R.", "TypeError"),
    "a dictionary in itself": (b"\x80\x02}q\0" + text("a") + b"h\0s.", "hold themselves"),
    "numbers with one hash": (b"\x80\x02}" + LARGE + b"Ns.", "keys of dictionaries should be text"),
    "nothing": (b"", "EOFError"),
    "endless": (b"\x80\x04" + pickle.BINUNICODE8 + struct.pack("<Q", 2**62), "EOFError"),
}  # fmt: skip


@pytest.mark.parametrize("content, message", PICKLES.values(), ids=PICKLES)
def test_hostile_pickles(content, message, saved):
    assert message in refusal(with_pickle(saved, content))


def test_tensors_larger_than_the_file(saved):
    """A thousand tensors share one storage, each of them as large as the file."""
    shared = torch.ones(100_000)
    torch.save({str(number): shared for number in range(10)}, saved)
    assert len(read(saved)) == 10
    torch.save({str(number): shared for number in range(1000)}, saved)
    assert "share their values more often than can be" in refusal(saved)
    torch.save({str(number): shared[number:] for number in range(1000)}, saved)
    assert "share their values more often than can be" in refusal(saved)


def test_every_truncation(saved):
    content = saved.read_bytes()
    for length in range(len(content)):
        refusal(saved, content[:length])


def test_torch_is_not_asked(saved, monkeypatch):
    """Neither its parser of archives, nor its loader."""
    monkeypatch.delattr(torch._C, "PyTorchFileReader")
    monkeypatch.delattr(torch, "load")
    assert_read({"a": torch.arange(6.0).reshape(2, 3)}, saved)


def test_keys_that_are_no_text(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({1: torch.ones(2)}, path)
    for read in (storage.inspect, lambda path: storage.convert(path, tmp_path / "b.pt")):
        with pytest.raises(InvalidFormat, match=r"a\.pt: the file should hold tensors under their keys.* has 1: "):
            read(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError), read_state_dict(tmp_path / "missing.pt"):
        pass
    with pytest.raises(IsADirectoryError), read_state_dict(tmp_path):
        pass


# What is written


@settings(max_examples=30)
@given(
    keys=st.lists(st.text(max_size=8), max_size=4, unique=True),
    shape=st.lists(st.integers(0, 3), max_size=3),
    dtype=st.sampled_from(DTYPES),
)
def test_torch_reads_what_is_written(keys, shape, dtype, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "state.pt"
    tensors = {key: torch.full(shape, number).to(dtype) for number, key in enumerate(keys)}
    with path.open("wb") as file:
        write_state_dict({"tensors": tensors}, file)
    found = torch.load(path, weights_only=True)
    assert list(found) == keys
    assert all(found[key].dtype is dtype and torch.equal(found[key], tensors[key]) for key in keys)
    with read_state_dict(path) as data, (path.with_name("again.pt")).open("wb") as file:
        write_state_dict(data, file)
    again = torch.load(path.with_name("again.pt"), weights_only=True)
    assert all(again[key].dtype is dtype and torch.equal(again[key], tensors[key]) for key in keys)


def test_bits_of_bfloat16_are_kept(tmp_path):
    """Those of numbers that are none, too."""
    bits = torch.arange(2**16).to(torch.int32).to(torch.int16)
    torch.save({"a": bits.view(torch.bfloat16)}, tmp_path / "one.pt")
    with read_state_dict(tmp_path / "one.pt") as data, (tmp_path / "two.pt").open("wb") as file:
        write_state_dict(data, file)
    assert torch.equal(torch.load(tmp_path / "two.pt")["a"].view(torch.int16), bits)


def test_arrays(tmp_path):
    numbers = np.arange(6).reshape(2, 3)
    arrays = {"big": numbers.astype(">f4"), "columns": numbers.T.astype("f8"), "fixed": numbers.astype("i2")}
    arrays["fixed"].flags.writeable = False
    with (tmp_path / "state.pt").open("wb") as file:
        write_state_dict({"tensors": arrays}, file)
    for key, tensor in torch.load(tmp_path / "state.pt").items():
        np.testing.assert_array_equal(tensor.numpy(), arrays[key])


@pytest.mark.parametrize("size", [0, 100, 500, 3000, 5000, 9000])
def test_disk_is_full(size):
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > size:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    with pytest.raises(OSError, match="No space left"):
        write_state_dict({"tensors": {"a": torch.ones(1000), "b": torch.ones(1000)}}, Full())


def test_beginning_of_old_files():
    content = io.BytesIO()
    torch.save({}, content, _use_new_zipfile_serialization=False)
    assert content.getvalue().startswith(torch_archive.OLD_FILE)
