"""Pickles that would run something, or fill the memory, are refused, with the name of what they want to run."""

import builtins
import codecs
import os
import pickle
import pickletools
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchneupy import storage
from torchneupy.exceptions import InvalidFormat
from torchneupy.layers import Input, Linear


class Calls:
    """Pickled as a call."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.called = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self.called


PROTOCOL_2 = b"\x80\x02"
RAN = "the pickle ran something"


def fail_if_run(*args: Any, **kwargs: Any) -> None:
    raise AssertionError(RAN)


def global_call(name: str, argument: str = "touch ran") -> bytes:
    return f"c{name.replace(' ', chr(10))}\n(S'{argument}'\ntR.".encode()


def dump(value: Any, protocol: int = 4) -> bytes:
    return pickle.dumps(value, protocol=protocol)


HOSTILE: dict[str, bytes] = {
    **{f"reduce, protocol {p}": dump(Calls(os.system, "touch ran"), p) for p in range(6)},
    "eval": dump(Calls(builtins.eval, "open('ran', 'w')")),
    "exec": dump(Calls(builtins.exec, "open('ran', 'w')")),
    "getattr": dump(Calls(builtins.getattr, "", "join")),
    "popen": dump(Calls(subprocess.Popen, "touch ran")),
    "open": dump(Calls(builtins.open, "ran", "w")),
    "import": dump(Calls(builtins.__import__, "os")),
    "global os.system": global_call("os system"),
    "global posix.system": global_call("posix system"),
    "nested name": b"\x80\x04\x8c\x05numpy\x8c\x12core.os.system.call\x93(\x8c\x01xtR.",
    "nested name in numpy": b"\x80\x04\x8c\x05numpy\x8c\x0ctesting.loads\x93(\x8c\x01xtR.",
    "numpy's own loads": global_call("numpy load"),
    "runstring": global_call("numpy.testing._private.utils runstring"),
    "inst": b"(S'touch ran'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'touch ran'\no.",
    "newobj": PROTOCOL_2 + b"csubprocess\nPopen\n(X\x01\x00\x00\x00xt\x81.",
    "newobj_ex": b"\x80\x04csubprocess\nPopen\n(X\x01\x00\x00\x00xt}\x92.",
    "ext1": PROTOCOL_2 + b"\x82\x01.",
    "ext2": PROTOCOL_2 + b"\x83\x01\x01.",
    "ext4": PROTOCOL_2 + b"\x84\x01\x01\x01\x01.",
    "persistent id": b"Psomething\n.",
    "binary persistent id": b"\x80\x02X\x01\x00\x00\x00xQ.",
    "build of a function": b"c_codecs\nencode\n}S'function'\nS'x'\nsb.",
    "build with slots": b"c_codecs\nencode\n(N}S'function'\nS'x'\nstb.",
    "build of a class": b"cneupy.init\nConstant\n}S'__reduce__'\nS'x'\nsb.",
    "encode by another codec": b"c_codecs\nencode\n(S'x'\nS'bz2'\ntR.",
    "array of objects": dump(np.array([None, "x"], dtype=object)),
    "structured array": dump(np.zeros(2, dtype=[("a", "O"), ("b", "f4")])),
    "dtype from a text that is code": b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
    "huge array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L1000000000000L\ntS'b'\ntR.",
    "huge array from nothing": b"cnumpy\nndarray\n((L1000000000000L\ntS'f4'\nS''\ntR.",
    "tensorflow's own evaluation": global_call("tensorflow.python.eager.context eval"),
    "an initialiser that is none": global_call("neupy.init system"),
    "keras": global_call("keras.src.saving.serialization_lib deserialize_keras_object"),
    "copyreg": global_call("copyreg _reconstructor"),
    "functools": global_call("functools partial"),
    "operator": global_call("operator attrgetter"),
    "importlib": global_call("importlib import_module"),
    "torch": global_call("torch.hub load"),
    "builtins in Python 2": global_call("__builtin__ eval"),
    "huge memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "huge text": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.",
    "huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b"x.",
    "huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "huge number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1.",
    "long digits": b"L" + b"9" * 200_000 + b"L\n.",
    "out-of-band buffer": b"\x80\x05\x97.",
    "deep nesting": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "text in place of a pickle": b"hello, this is no pickle at all",
    "nothing but the end": b".",
    "nothing but a mark": b"(",
    "number": dump(5),
    "list": dump([1, 2, 3]),
}


def doubled_list(depth: int) -> Any:
    """Of which the leaves are 2 ** depth, in a few bytes."""
    value: Any = [1.0]
    for _ in range(depth):
        value = [value, value]
    return value


HOSTILE["billion laughs"] = dump({"layers": [{"name": "a", "parameters": {"weight": {"value": doubled_list(60)}}}]})
HOSTILE["billion laughs in names"] = dump({"layers": [{"name": doubled_list(60), "parameters": {}}]})
HOSTILE["hidden in a configuration"] = dump(
    {"layers": [{"name": "a", "parameters": {}, "configs": {"x": Calls(os.system, "touch ran")}}]}
)
HOSTILE["hidden behind the end"] = dump({"layers": []}) + dump(Calls(os.system, "touch ran"))
HOSTILE["state of an array"] = dump(Calls(np.ndarray, (1,), "O"))


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickle(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.pickle").write_bytes(content)
    network = Input(2) >> Linear(1, name="a")
    for module, name in ((os, "system"), (subprocess, "Popen")):
        monkeypatch.setattr(module, name, fail_if_run)
    before = [value.tolist() for value in network.state_dict().values()]
    begin = time.perf_counter()
    with pytest.raises(InvalidFormat, match=r"file\.pickle") as caught:
        storage.load_pickle(network, tmp_path / "file.pickle")
    assert time.perf_counter() - begin < 20
    assert len(str(caught.value)) < 2_000 and RAN not in str(caught.value)
    assert [value.tolist() for value in network.state_dict().values()] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.pickle"]


@pytest.mark.parametrize("name", ["os system", "posix system", "numpy load", "torch.hub load", "functools partial"])
def test_what_is_refused_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(global_call(name))
    with pytest.raises(InvalidFormat, match=rf"names `{name.replace(' ', '.')}`"):
        storage.load_pickle(Input(2) >> Linear(1), tmp_path / "file")


def test_nothing_outlasts_a_load(tmp_path: Path) -> None:
    """What a pickle does to its stand-ins it does to its own."""
    (tmp_path / "file").write_bytes(HOSTILE["build of a class"])
    for _ in range(2):
        with pytest.raises(InvalidFormat, match="file"):
            storage.load_pickle(Input(2) >> Linear(1), tmp_path / "file")
    from torchneupy.storage.pickle_files import ALLOWED, StandIn

    assert "__reduce__" not in vars(StandIn)
    assert ALLOWED["_codecs", "encode"]("é", "latin1") == codecs.encode("é", "latin1")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_protocol_are_read(protocol: int, order: Any, tmp_path: Path) -> None:
    value = np.asarray(np.arange(6, dtype=np.float32).reshape(2, 3), order=order)
    data = {"layers": [{"name": "a", "parameters": {"weight": {"value": value, "trainable": True}}}]}
    content = pickle.dumps(data, protocol=protocol)
    modules = {arg for op, arg, _ in pickletools.genops(content) if op.name == "GLOBAL"}
    assert protocol > 3 or any("numpy" in str(module) for module in modules)
    for text in (content, content.replace(b"numpy._core", b"numpy.core")):
        (tmp_path / "file").write_bytes(text)
        network = Input(2) >> Linear(3, name="a", bias=None)
        if protocol > 3 and text is not content:
            continue  # the length of a name stands before it
        storage.load_pickle(network, tmp_path / "file")
        np.testing.assert_array_equal(network.layers[1].weight.detach().numpy(), value)
