"""Hostile pickles are refused before anything that they name is imported, run or even found."""

import copyreg
import io
import math
import pickle
import pickletools
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.storage import recorded
from torchneupy import storage
from torchneupy.exceptions import InvalidFormat
from torchneupy.layers import Input, Relu
from torchneupy.storage.unpickling import ADMITTED, Named, load_safely

FLAG = "TORCHNEUPY_TEST_WAS_RUN"


@pytest.fixture(autouse=True)
def nothing_runs():
    """Payloads set an attribute of ``sys``, or import a module that nobody imports."""
    sys.modules.pop("this", None)
    yield
    assert not hasattr(sys, FLAG)
    assert "this" not in sys.modules


def text(value: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(value.encode())]) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + pickle.STACK_GLOBAL


RUN = text("sys") + text(FLAG) + pickle.NEWTRUE + pickle.TUPLE3
EXEC = text(f"import sys; sys.{FLAG} = True") + pickle.TUPLE1
START = pickle.PROTO + b"\x04"


class Evil:
    def __reduce__(self):
        return exec, (f"import sys; sys.{FLAG} = True",)


class EvilState:
    def __reduce__(self):
        return Evil, (), {"a": 1}


HOSTILE = {
    "reduce": (START + named("builtins", "exec") + EXEC + pickle.REDUCE, "builtins.exec"),
    "reduce of a method": (START + named("os", "path.join") + EXEC + pickle.REDUCE, "os.path.join"),
    "global": (b"cos\nsystem\n(S'true'\ntR", "os.system"),
    "global of Python 2": (b"c__builtin__\neval\n(S'1'\ntR", "__builtin__.eval"),
    "global, that only imports": (START + named("this", "s"), "this.s"),
    "inst": (b"(S'true'\nios\nsystem\n", "STRING"),
    "inst, nothing before": (b"(ios\nsystem\n", "INST"),
    "obj": (START + pickle.MARK + named("neupy.init", "Constant") + pickle.OBJ, "OBJ"),
    "newobj": (START + named("builtins", "exec") + EXEC + pickle.NEWOBJ, "builtins.exec"),
    "newobj of what is admitted, with arguments": (
        START + named("neupy.init", "Constant") + EXEC + pickle.NEWOBJ,
        "makes an object of neupy.init.Constant",
    ),
    "newobj of a builder": (START + named("numpy", "dtype") + b")" + pickle.NEWOBJ, "makes an object of <Builder>"),
    "newobj_ex": (START + named("neupy.init", "Constant") + b")}" + pickle.NEWOBJ_EX, "NEWOBJ_EX"),
    "ext1": (START + pickle.EXT1 + b"\xf0", "EXT1"),
    "ext2": (START + pickle.EXT2 + b"\xf0\x00", "EXT2"),
    "ext4": (START + pickle.EXT4 + b"\xf0\x00\x00\x00", "EXT4"),
    "persistent id": (START + text("id") + pickle.BINPERSID, "BINPERSID"),
    "persistent id, as text": (b"Pid\n", "PERSID"),
    "getattr": (START + named("builtins", "getattr") + RUN + pickle.REDUCE, "builtins.getattr"),
    "attribute of what is admitted": (START + named("numpy", "dtype.__class__.__base__"), "dtype.__class__.__base__"),
    "globals of what is admitted": (START + named("neupy.init", "Constant.__init__.__globals__"), "__globals__"),
    "module within a module": (START + named("numpy.core.multiarray", "sys.modules"), "multiarray.sys.modules"),
    "our own": (START + named("torchneupy.storage.unpickling", "Named"), "torchneupy.storage.unpickling.Named"),
    "torch": (START + named("torch.storage", "_load_from_bytes"), "torch.storage._load_from_bytes"),
    "numpy's loader": (START + named("numpy", "load"), "numpy.load"),
    "numpy's runner": (START + named("numpy.testing._private.utils", "runstring"), "runstring"),
    "importer": (START + named("importlib", "import_module"), "importlib.import_module"),
    "pickle in a pickle": (START + named("_pickle", "loads"), "_pickle.loads"),
    "TensorFlow, but not that": (START + named("tensorflow.python.ops.math_ops", "os.system"), "math_ops.os.system"),
    "TensorFlow's code in data": (START + named("tensorflow", "py_func"), "tensorflow.py_func"),
    "name with a line break": (START + named("os\nsystem", "x"), "os"),
    "call of TensorFlow": (START + named("tensorflow", "add") + b")" + pickle.REDUCE, "calls tensorflow.add"),
    "call of an initialiser": (START + named("neupy.init", "Normal") + b")" + pickle.REDUCE, "calls neupy.init.Normal"),
    "call of a text": (START + text("print") + b")" + pickle.REDUCE, "calls 'print'"),
    "call of what was called": (START + named("numpy", "dtype") + text("f4") + b"\x85R)R", "calls <PendingDtype>"),
    "attributes of a list": (START + b"]" + b"}" + pickle.BUILD, "sets attributes of <list>"),
    "attributes of a builder": (START + named("numpy", "dtype") + b"}" + pickle.BUILD, "sets attributes of <Builder>"),
    "attributes in slots": (START + named("neupy.init", "Normal") + b"N}\x86" + pickle.BUILD, "of attributes: <tuple>"),
    "items of an initialiser": (START + named("neupy.init", "Normal") + text("a") + b"Ns", "keys of dictionaries"),
    "append to a builder": (START + named("numpy", "dtype") + b"Na", "appends to <Builder>"),
    "sets": (START + pickle.EMPTY_SET, "EMPTY_SET"),
    "buffers elsewhere": (START + pickle.NEXT_BUFFER, "NEXT_BUFFER"),
    "compressed code": (START + text("zlib") + text("decompress") + pickle.STACK_GLOBAL, "zlib.decompress"),
}


@pytest.mark.parametrize("content, what", HOSTILE.values(), ids=HOSTILE)
def test_hostile(content, what):
    with pytest.raises(InvalidFormat, match=re.escape(what)):
        load_safely(io.BytesIO(content + pickle.STOP))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("evil", [Evil, EvilState])
def test_made_by_pickle_itself(evil, protocol, tmp_path):
    path = tmp_path / "evil.pickle"
    network = Input(2) >> Relu(2, name="a")
    data = storage.save_dict(network)
    data["layers"][1]["configs"]["alpha"] = evil()
    path.write_bytes(pickle.dumps(data, protocol))
    before = recorded.values(network)
    with pytest.raises(InvalidFormat, match=r"evil\.pickle: "):
        storage.load_pickle(network, path)
    assert all((before[key] == value).all() for key, value in recorded.values(network).items())


def test_registered_extension():
    copyreg.add_extension("sys", "setrecursionlimit", 240)
    try:
        with pytest.raises(InvalidFormat, match="EXT1"):
            load_safely(io.BytesIO(START + pickle.EXT1 + b"\xf0."))
    finally:
        copyreg.remove_extension("sys", "setrecursionlimit", 240)


# Small files that mean a lot


F4 = named("numpy", "dtype") + text("f4") + b"\x85R"
MADE = named("numpy.core.multiarray", "_reconstruct") + named("numpy", "ndarray") + b"K\0\x85C\x01b\x87R"


def array_state(shape: object, dtype: str = "f4", values: object = b"\0" * 8) -> bytes:
    """A pickle of an array made by numpy's ``_reconstruct``, whatever its parts are."""
    made = pickle.dumps((1, shape, None, False, values), 4)[2:-1]
    start, end = made.split(b"N", 1)
    return START + MADE + start + named("numpy", "dtype") + text(dtype) + b"\x85R" + end + pickle.BUILD


def doubled(container: bytes, times: int = 60) -> bytes:
    """A list of two lists, both of them the same list of two lists, and so on: 2 to the 60 in the end."""
    step = {"list": b"](h%ch%ce", "tuple": b"h%ch%c\x86"}[container.decode()]
    content = b"]" + pickle.MEMOIZE + pickle.POP
    for number in range(times):
        content += step.replace(b"%c", bytes([number])) + pickle.MEMOIZE + pickle.POP
    return content + pickle.BINGET + bytes([times])


def in_layers(value: bytes) -> bytes:
    return START + b"}" + text("layers") + value + b"s."


ENCODE = named("_codecs", "encode")
BOMBS = {
    "memo of 32 GB": (START + b"Nr\xff\xff\xff\xff" + b"j\xfe\xff\xff\xff.", "Memo value not found"),
    "bytes of 4 EB": (START + pickle.BINBYTES8 + struct.pack("<Q", 2**62) + b"abc", "EOFError"),
    "bytes of 16 EB": (START + pickle.BINBYTES8 + struct.pack("<Q", 2**64 - 1) + b"abc", "exceeds"),
    "bytearray of 1 TB": (START + pickle.BYTEARRAY8 + struct.pack("<Q", 2**40) + b"abc", "EOFError"),
    "text of 4 EB": (START + pickle.BINUNICODE8 + struct.pack("<Q", 2**62) + b"abc", "EOFError"),
    "text of 4 GB": (START + pickle.BINUNICODE + struct.pack("<I", 2**32 - 1) + b"abc", "EOFError"),
    "frame of 4 EB": (START + pickle.FRAME + struct.pack("<Q", 2**62) + b"N.", "should be a dictionary"),
    "number of 2 GB": (START + pickle.LONG4 + struct.pack("<i", 2**31 - 1) + b"\1", "EOFError"),
    "number of negative size": (START + pickle.LONG4 + struct.pack("<i", -1) + b"\1.", "negative"),
    "number in decimal digits": (b"L" + b"9" * 100_000 + b"L\n.", "LONG"),
    "array of 1 TB": (array_state((2**38,)) + b".", "takes 1099511627776 bytes"),
    "array of negative size": (array_state((-1, 2)) + b".", "not made of sizes"),
    "array of 16 EB": (array_state((2**32, 2**32)) + b".", "takes"),
    "array of too many dimensions": (array_state((1,) * 1000) + b".", "should have a shape"),
    "array of objects": (array_state((1,), "O8") + b".", "'O8'"),
    "array of records": (array_state((1,), "V8") + b".", "'V8'"),
    "array of dates": (array_state((1,), "M8[ns]") + b".", r"'M8\[ns\]'"),
    "dtype of an expression": (array_state((1,), "f4,(1000000,1000000)f8") + b".", "f4,"),
    "array of a text": (array_state((1,), "f4", "\u1234" * 4) + b".", "latin-1"),
    "array of no dtype": (START + MADE + b"(K\x01)N\x89C\0tb.", "should have a dtype, got <NoneType>"),
    "array of a list": (START + MADE + b"(K\x01)" + F4 + b"\x89]tb.", "should be bytes, got <list>"),
    "array of too little": (START + MADE + b"(K\x01)tb.", "should have a version, a shape, a dtype"),
    "dtype without byte order": (START + F4 + b"(K\x03tb.", "a dtype has no byte order"),
    "dtype with another byte order": (START + F4 + b"(K\x03" + text("S") + b"tb.", "a dtype has no byte order"),
    "lists in lists": (in_layers(doubled(b"list")), "each other many times"),
    "tuples in tuples": (in_layers(doubled(b"tuple")), "each other many times"),
    "tuples in tuples as a key": (START + b"}" + doubled(b"tuple") + b"Ns.", "keys of dictionaries should be text"),
    "a list in itself": (in_layers(b"]" + pickle.MEMOIZE + b"h\0a"), "hold themselves"),
    "a dictionary in itself": (START + b"}" + pickle.MEMOIZE + text("layers") + b"h\0s.", "hold themselves"),
    "numbers with one hash": (START + b"}" + b"\x8a\x09" + (2**61 - 1).to_bytes(9, "little") + b"Ns.", "keys"),
    "lists a million deep": (in_layers(b"]" * 10**6 + b"a" * (10**6 - 1)), "should be"),
    "marks a million deep": (START + b"(" * 10**6 + b".", "IndexError"),
    "the same text as bytes, again and again": (
        START + pickle.BINUNICODE + struct.pack("<I", 10**5) + b"x" * 10**5 + pickle.MEMOIZE + b"("
        + (ENCODE + b"h\0" + text("latin1") + b"\x86R") * 2000 + b"l.",
        "again and again",
    ),
    "text that is no latin1": (START + ENCODE + text("\u1234") + text("latin1") + b"\x86R.", "latin-1"),
    "another codec": (START + ENCODE + text("x") + text("zip") + b"\x86R.", "'zip'"),
    "protocol of tomorrow": (b"\x80\x09N.", "unsupported pickle protocol"),
    "empty": (b"", "EOFError"),
    "no end": (START + b"N", "EOFError"),
    "nothing on the stack": (START + b".", "IndexError"),
    "unknown instruction": (START + b"\xff.", "KeyError"),
}  # fmt: skip


@pytest.mark.parametrize("content, what", BOMBS.values(), ids=BOMBS)
def test_bomb(content, what, tmp_path):
    path = tmp_path / "bomb.pickle"
    path.write_bytes(content)
    with pytest.raises(InvalidFormat, match=rf"bomb\.pickle: .*{what}"):
        storage.load_pickle(Input(2) >> Relu(2), path)


@pytest.mark.parametrize("value", ["doubled", "cyclic"])
def test_value_that_is_more_than_it_seems(value):
    """Without a file's size to compare with, the network's shape is what bounds a list."""
    rows: list[Any] = [1.0, 1.0]
    for _ in range(30):
        rows = [rows, rows]
    if value == "cyclic":
        rows[0] = rows
    data = {"layers": [{"name": "a", "parameters": {"weight": {"value": rows}}}]}
    with pytest.raises(ValueError, match="Parameter `weight` of layer `a`"):
        storage.load_dict(Input(2) >> Relu(2, name="a"), data)


# What is read


def test_all_instructions_exist():
    codes = {opcode.name: opcode for opcode in pickletools.opcodes}
    assert set(ADMITTED.split()) <= set(codes)
    # Of protocol 0, whose numbers are decimal digits and whose names are lines, only what has no binary form.
    old = ["MARK", "STOP", "POP", "NONE", "GLOBAL", "REDUCE", "BUILD", "TUPLE", "LIST", "DICT", "APPEND", "SETITEM"]
    assert {name for name in ADMITTED.split() if codes[name].proto == 0} == set(old)


ARRAYS: list[Any] = [
    np.arange(6).reshape(2, 3).astype(dtype)
    for dtype in ["<f2", "<f4", "<f8", ">f4", ">f8", "i1", "<i4", ">i8", "u1", "<u8", "?"]
]
ARRAYS += [np.zeros((0, 3), "f4"), np.float32(3).reshape(()), np.ones((2, 3))[:, ::2]]
ARRAYS += [np.asfortranarray(np.arange(6.0).reshape(2, 3))]


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_arrays(array, protocol, core):
    data = {"layers": [{"name": "a", "parameters": {"weight": {"value": array}}}]}
    content = pickle.dumps(data, protocol)
    # Lengths change, and with them frames, which only speed up reading: leave them out.
    content = content if protocol < 4 else content[:2] + content[11:]
    for short, long in [(b"numpy.core", b"numpy._core")]:
        old, new = (short, long) if core == "numpy._core" else (long, short)
        for module in (b".multiarray", b".numeric"):
            a, b = old + module, new + module
            content = content.replace(bytes([len(a)]) + a, bytes([len(b)]) + b).replace(b"c" + a, b"c" + b)
    assert (core.encode() + b".") in content
    value = load_safely(io.BytesIO(content))["layers"][0]["parameters"]["weight"]["value"]
    assert value.dtype == array.dtype
    np.testing.assert_array_equal(value, array)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_containers_and_scalars(protocol):
    data = {
        "a": [1, -1, 2**40, -(2**70), 1.5, math.inf, None, True, False],
        "\u00e4\u4e2d": ("", "text", "\u00e4\u4e2d", "x" * 300, b"bytes", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "b": {"c": {"d": [[], [[]], {}]}, "e": [[1] * 2000, {str(n): n for n in range(2000)}]},
    }
    assert load_safely(io.BytesIO(pickle.dumps(data, protocol))) == data


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numbers_of_numpy(protocol):
    data: dict[str, Any] = {"a": np.float32(0.1), "b": np.int64(3), "c": np.bool_(True)}
    found = load_safely(io.BytesIO(pickle.dumps(data, protocol)))
    assert [(value.dtype, value) for value in found.values()] == [(value.dtype, value) for value in data.values()]


def test_names_are_kept():
    content = (recorded.FOLDER / "lstm.pickle").read_bytes()
    configs = load_safely(io.BytesIO(content))["layers"][2]["configs"]
    assert all(isinstance(configs[key], Named) for key in ("input_weights", "ingate", "cell") if key in configs)
    assert repr(configs["ingate"]) == "<function sigmoid>"
    content = (recorded.FOLDER / "images.py2.pickle").read_bytes()
    configs = load_safely(io.BytesIO(content))["layers"][2]["configs"]
    assert (repr(configs["weight"]), configs["bias"].name) == ("HeNormal(gain=2)", "Constant")


# What is written


@pytest.mark.parametrize("python_compatible", [True, False])
def test_ours_refer_to_nothing(python_compatible, tmp_path):
    path = Path(tmp_path, "network.pickle")
    network = recorded.build(recorded.NETWORKS["lstm"]["build"])
    storage.save_pickle(network, path, python_compatible)
    found = list(pickletools.genops(path.read_bytes()))
    used = {opcode.name for opcode, _, _ in found}
    assert used.isdisjoint({"GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "INST", "OBJ"})
    assert max(opcode.proto for opcode, _, _ in found) <= (2 if python_compatible else 4)
    data = pickle.loads(path.read_bytes())
    assert data["layers"][2]["configs"]["ingate"] == "<function sigmoid>"


def test_lambda(tmp_path):
    """NeuPy cannot save it."""
    from torchneupy.layers import Elementwise

    network = (Input(2) | Input(2)) >> Elementwise(lambda a, b: a - b, name="minus") >> Relu(1)
    storage.save_pickle(network, tmp_path / "network.pickle")
    data = pickle.loads((tmp_path / "network.pickle").read_bytes())
    assert data["layers"][2]["configs"]["merge_function"] == "<function <lambda>>"
