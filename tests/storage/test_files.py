"""What holds for files of all formats: what is saved is loaded, by us and by others; what is refused is told."""

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.recorded import LOADERS, SAVERS, values
from torchneupy import storage
from torchneupy.exceptions import InvalidFormat, ParameterLoaderError
from torchneupy.layers import BaseLayer, Input, Relu, join
from torchneupy.storage import errors
from torchneupy.storage.atomic import replacing
from torchneupy.storage.hdf5_format import read_hdf5, write_hdf5
from torchneupy.storage.json_format import read_json, write_json
from torchneupy.storage.pickle_format import read_pickle, write_pickle
from torchneupy.storage.safetensors_format import read_safetensors, write_safetensors

ENDINGS = list(SAVERS)
SOME = [".json", ".pickle", ".safetensors"]  # formats in which a layer can have any name


class Holder(BaseLayer):
    """A layer that holds arrays of any shape and dtype."""

    def __init__(self, arrays, name=None):
        self.arrays = arrays
        super().__init__(name=name)

    def get_output_shape(self, input_shape):
        return input_shape

    def create_variables(self, input_shape):
        for key, array in self.arrays.items():
            self.variable(torch.as_tensor(array), key, array.shape, trainable=False)

    def output(self, x):
        return x


def hold(arrays, name="holder", dtype=torch.float32):
    made = (Input(1) >> Holder(arrays, name=name)).to(dtype)
    with torch.no_grad():
        for key, variable in made.layers[1].variables.items():
            variable.copy_(torch.as_tensor(arrays[key]))
    return made


def network(*names):
    return join(Input(2, name="input"), *[Relu(2, name=name) for name in names])


def filled(*names):
    made = network(*names)
    with torch.no_grad():
        for number, variable in enumerate(made.variables.values(), start=1):
            variable.fill_(number)
    return made


def assert_same(one, other):
    first, second = list(one.variables.values()), list(other.variables.values())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# Any shape, any dtype, any name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_bit_comes_back(ending, dtype, tmp_path):
    numbers = torch.tensor([0.0, -0.0, 1 / 3, 1e-40, 6e-8, 65504, 3e38, float("inf"), -float("inf")], dtype=dtype)
    arrays = {
        "one": numbers, "row": numbers[None], "none": numbers[:0], "nothing": numbers[:0].reshape(0, 3),
        "scalar": numbers[2], "block": numbers.reshape(3, 1, 3), "large": torch.randn(700, 501).to(dtype),
    }  # fmt: skip
    path = tmp_path / f"file{ending}"
    SAVERS[ending](hold(arrays, dtype=dtype), path)
    loaded = hold({key: torch.full_like(array, 7) for key, array in arrays.items()}, dtype=dtype)
    LOADERS[ending](loaded, path)
    for name, variable in loaded.layers[1].variables.items():
        assert variable.dtype == dtype
        np.testing.assert_array_equal(variable.double().numpy(), arrays[name].double().numpy())


@settings(max_examples=40)
@given(
    shape=st.lists(st.integers(0, 5), max_size=4),
    ending=st.sampled_from(ENDINGS),
    keys=st.lists(st.text("abz\u00e4\u4e2d_- ", min_size=1, max_size=5), min_size=1, max_size=3, unique=True),
    name=st.text("ab\u00e4\u4e2d/\U0001f600.-", min_size=1, max_size=6).filter(lambda name: name.strip("/.")),
)
def test_round_trip(tmp_path_factory, shape, ending, keys, name):
    arrays = {key: np.random.default_rng(0).normal(size=shape).astype("f4") for key in keys}
    path = tmp_path_factory.mktemp("round") / f"file{ending}"
    SAVERS[ending](hold(arrays, name), path)
    loaded = hold({key: array * 0 for key, array in arrays.items()}, name)
    LOADERS[ending](loaded, path, load_by="names")
    for key, variable in loaded.layers[1].variables.items():
        np.testing.assert_array_equal(variable.numpy(), arrays[key])


NAMES = [("a", "a"), ("a", "a/weight"), (".", "/"), ("", "x"), ("a\0b", "\n"), ("a/b", "a", "a/")]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("ending", SOME)
def test_any_name(ending, names, tmp_path):
    path = tmp_path / f"file{ending}"
    SAVERS[ending](filled(*names), path)
    loaded = network(*names)
    LOADERS[ending](loaded, path)
    assert_same(loaded, filled(*names))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_thousand_layers(ending, tmp_path):
    names = [f"layer {number}" for number in range(1000)]
    path = tmp_path / f"file{ending}"
    SAVERS[ending](filled(*names), path)
    loaded = network(*names)
    LOADERS[ending](loaded, path, load_by="names")
    assert_same(loaded, filled(*names))


@pytest.mark.parametrize("ending", ENDINGS)
def test_path_may_be_text(ending, tmp_path):
    path = os.fspath(tmp_path / f"file{ending}")
    SAVERS[ending](filled("a"), path)
    loaded = network("a")
    LOADERS[ending](loaded, path)
    assert_same(loaded, filled("a"))


def test_short_names_are_those_of_hdf5():
    assert (storage.save, storage.load) == (storage.save_hdf5, storage.load_hdf5)


READERS = {".hdf5": read_hdf5, ".json": read_json, ".pickle": read_pickle, ".safetensors": read_safetensors}
WRITERS: dict[str, Any] = {
    ".hdf5": write_hdf5, ".json": write_json, ".pickle": write_pickle, ".safetensors": write_safetensors
}  # fmt: skip


@pytest.mark.parametrize("second", ENDINGS)
@pytest.mark.parametrize("first", ENDINGS)
def test_from_one_format_to_another(first, second, tmp_path):
    SAVERS[first](filled("a", "b"), tmp_path / f"one{first}")
    with READERS[first](tmp_path / f"one{first}") as data, replacing(tmp_path / f"two{second}") as file:
        WRITERS[second](data, file)
    loaded = network("a", "b")
    LOADERS[second](loaded, tmp_path / f"two{second}", load_by="names")
    assert_same(loaded, filled("a", "b"))
    with READERS[first](tmp_path / f"one{first}") as one, READERS[second](tmp_path / f"two{second}") as two:
        assert one["metadata"] == two["metadata"]
        assert [layer["class_name"] for layer in one["layers"]] == [layer["class_name"] for layer in two["layers"]]


# Errors


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e5m2])
@pytest.mark.parametrize("ending", ENDINGS)
def test_dtypes_that_are_not_saved(ending, dtype, tmp_path):
    path = tmp_path / f"file{ending}"
    SAVERS[ending](filled("a"), path)
    target = network("a")
    target["a"].weight.data = torch.zeros(2, 2).to(dtype)
    with pytest.raises(TypeError, match=f"Variable `weight` of layer `a` has the dtype {dtype}, which is not saved"):
        SAVERS[ending](target, path)
    with pytest.raises(ParameterLoaderError, match=f"`weight` of layer `a` has the dtype {dtype}, which cannot hold"):
        LOADERS[ending](target, path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_file(ending, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"missing{ending}"):
        LOADERS[ending](network("a"), tmp_path / f"missing{ending}")
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        LOADERS[ending](network("a"), tmp_path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_network(ending, tmp_path):
    for call in (SAVERS[ending], LOADERS[ending]):
        with pytest.raises(TypeError, match=r"got `<class 'torchneupy\.layers\.activations\.Relu'>`"):
            call(Relu(2), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


OTHER = [b"", b"\0", b"text", b"\x89HDF\r\n\x1a\n", b"{", b"[]", b"null", b"\x80\x04N.", b"\xff" * 1000]


@pytest.mark.parametrize("content", OTHER)
@pytest.mark.parametrize("ending", ENDINGS)
def test_another_file(ending, content, tmp_path):
    path = tmp_path / f"other{ending}"
    path.write_bytes(content)
    with pytest.raises(InvalidFormat, match=f"other{ending}: "):
        LOADERS[ending](network("a"), path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_truncation(ending, tmp_path):
    """At any byte; of larger files, test_mutated.py truncates many."""
    path, cut, target = tmp_path / f"whole{ending}", tmp_path / f"cut{ending}", network("a")
    SAVERS[ending](filled("a"), path)
    before, content = values(target), path.read_bytes()
    step = 1 if os.environ.get("TORCHNEUPY_FULL") == "1" or len(content) < 2000 else 7
    for length in [*range(0, len(content), step), len(content) - 1]:
        cut.write_bytes(content[:length])
        with pytest.raises(InvalidFormat, match=f"cut{ending}: "):
            LOADERS[ending](target, cut)
    assert all(torch.equal(before[key], value) for key, value in values(target).items())


@pytest.mark.parametrize("skip_validation", [True, False])
@pytest.mark.parametrize("ending", ENDINGS)
def test_arguments_are_passed_on(ending, skip_validation, tmp_path):
    """NeuPy drops ``skip_validation``."""
    path = tmp_path / f"file{ending}"
    SAVERS[ending](filled("a", "b"), path)
    with pytest.raises(ParameterLoaderError, match=rf"file{ending}: .*1 layers with parameters, stored data has 2"):
        LOADERS[ending](network("b"), path)
    target = network("b")
    LOADERS[ending](target, path, ignore_missing=True)
    assert values(target)["b/bias"].tolist() == [4, 4]
    LOADERS[ending](target, path, True, "order", skip_validation)
    assert values(target)["b/bias"].tolist() == [2, 2]
    with pytest.raises(ValueError, match=r"argument: position\."):
        LOADERS[ending](target, path, load_by="position")
    SAVERS[ending](join(Input(2)), path)
    LOADERS[ending](join(Input(2)), path, skip_validation=skip_validation)


def test_messages_stay_short(tmp_path):
    path = tmp_path / "long.json"
    path.write_text(json.dumps({"layers": "x" * 10**6}))
    with pytest.raises(InvalidFormat) as caught:
        storage.load_json(network("a"), path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("module, call", [("pyfive", "load"), ("h5py", "save")])
def test_extra_is_named(module, call, tmp_path, monkeypatch):
    path = tmp_path / "file.hdf5"
    path.write_bytes(b"old")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'HDF5 files needs {module}: pip install "torchneupy\[storage\]"'):
        getattr(storage, call)(network("a"), path)
    assert path.read_bytes() == b"old"


def test_other_formats_need_no_extra(tmp_path, monkeypatch):
    for module in ("pyfive", "h5py", "safetensors"):
        monkeypatch.setitem(sys.modules, module, None)
    for ending in SOME:
        SAVERS[ending](filled("a"), tmp_path / f"file{ending}")
        LOADERS[ending](network("a"), tmp_path / f"file{ending}")


def test_quoted():
    assert errors.quoted("text") == "'text'"
    assert errors.quoted("x" * 100) == f"'{'x' * 80}...'"
    assert errors.quoted([[]]) == "<list>"


def test_all_names_are_there():
    assert set(storage.__all__) >= {
        "save", "load", "save_pickle", "load_pickle", "save_json", "load_json", "save_hdf5", "load_hdf5", "load_dict",
        "save_dict", "ParameterLoaderError", "InvalidFormat",
    }  # fmt: skip
    assert all(hasattr(storage, name) for name in storage.__all__)


# JSON


def test_json_is_indented(tmp_path):
    storage.save_json(filled("a"), tmp_path / "one.json")
    storage.save_json(filled("a"), tmp_path / "many.json", indent=2)
    one, many = ((tmp_path / name).read_text() for name in ("one.json", "many.json"))
    assert "\n" not in one
    assert '\n  "graph": [' in many
    assert json.loads(one)["layers"] == json.loads(many)["layers"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_of_other_encodings(encoding, tmp_path):
    content = json.dumps(storage.save_dict(filled("\u00e4")), default=lambda v: v.tolist(), ensure_ascii=False)
    (tmp_path / "file.json").write_text(content, encoding=encoding)
    loaded = network("\u00e4")
    storage.load_json(loaded, tmp_path / "file.json", load_by="names")
    assert_same(loaded, filled("\u00e4"))


HOSTILE_JSON = [
    "[" * 100_000, "9" * 10_000, "[[1, 2], [3, 4e]]", '[[1, 2], [3, "\\ud800"]]',
    "[[1e999, 1], [" + "9" * 4000 + ", 1]]",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE_JSON, ids=lambda value: value[:10])
def test_hostile_json(value, tmp_path):
    content = '{"layers": [{"name": "a", "parameters": {"weight": {"value": ' + value + "}}}]}"
    (tmp_path / "file.json").write_text(content)
    with pytest.raises((InvalidFormat, ParameterLoaderError), match=r"file\.json: "):
        storage.load_json(network("a"), tmp_path / "file.json")


# Safetensors


@pytest.mark.parametrize("names", ["neupy", "state_dict"])
def test_the_official_library_reads_ours(names, tmp_path):
    path, source = tmp_path / "file.safetensors", filled("a", "b/c").to(torch.bfloat16)
    storage.save_safetensors(source, path, names)
    found = safetensors.torch.load_file(path)
    by_name = {f"{layer.name}/{name}": value for (layer, name), value in source.variables.items()}
    expected = source.state_dict() if names == "state_dict" else by_name
    assert found.keys() == expected.keys()
    assert all(found[key].dtype == torch.bfloat16 and torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_we_read_the_official_library_s(dtype, tmp_path):
    path, source = tmp_path / "file.safetensors", filled("a", "b").to(dtype)
    safetensors.torch.save_file(source.state_dict(), path, {"format": "pt"})
    loaded = network("a", "b").to(dtype)
    storage.load_safetensors(loaded, path)
    assert_same(loaded, source)


def test_keys_of_state_dict(tmp_path):
    path, target = tmp_path / "file.safetensors", network("a", "c")
    storage.save_safetensors(filled("a", "b"), path, "state_dict")
    with pytest.raises(ParameterLoaderError, match=r"2 keys are both in the network's state_dict and in the file"):
        storage.load_safetensors(target, path)
    storage.load_safetensors(target, path, ignore_missing=True)
    assert values(target)["a/bias"].tolist() == [2, 2]
    with pytest.raises(ParameterLoaderError, match="cannot be loaded by order"):
        storage.load_safetensors(target, path, load_by="order")
    with pytest.raises(ParameterLoaderError, match="0 keys are both"):
        storage.load_safetensors(network("x"), path, ignore_missing=True)
    safetensors.numpy.save_file({"a.weight": np.ones((3, 2), "f4")}, path)
    with pytest.raises(ParameterLoaderError, match=r"`a\.weight` .* shape \(2, 2\), the stored one has \(3, 2\)"):
        storage.load_safetensors(target, path, ignore_missing=True)
    with pytest.raises(ValueError, match="can be 'neupy' or 'state_dict', got 'layers'"):
        storage.save_safetensors(target, path, "layers")


def header(tensors, data=b"\0" * 16):
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(dtype="F32", shape=(2, 2), offsets=(0, 16), **more):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


HEADERS = [
    (b"\xff" * 8 + b"{}", "the header should take 18446744073709551615 bytes"),
    (header([]), "should be a dictionary, got <list>"),
    (header(b'{"a": 1, "a": 2}'), "a key twice"),
    (header({"__metadata__": []}), "metadata should be a dictionary"),
    (header({"a": []}), "tensor 'a' has no offsets"),
    (header({"a": tensor(offsets=[0, 2**70])}), "should take"),
    (header({"a": tensor(offsets=[16, 0])}), "takes the bytes 16 to 0"),
    (header({"a": tensor(offsets=[-16, 0])}), "no offsets"),
    (header({"a": tensor(), "b": tensor()}), "takes the bytes 0 to 16, those up to 16 being taken"),
    (header({"a": tensor()}, b"\0" * 17), "should take 16 bytes, but the file has 17"),
    (header({"a": tensor(dtype="F4")}), "dtype 'F4', which is not known"),
    (header({"a": tensor(dtype=["F32"])}), "dtype <list>"),
    (header({"a": tensor(shape=[2, 3])}), "a shape that does not fit its 16 bytes"),
    (header({"a": tensor(shape=[2**40, 2**40])}), "a shape that does not fit"),
    (header({"a": tensor(shape=[-2, -2])}), "a shape that does not fit"),
    (header({"a": tensor(shape="22")}), "a shape that does not fit"),
    (header({"__metadata__": {"torchneupy": "{"}, "a": tensor()}), "JSONDecodeError"),
    (header({"__metadata__": {"torchneupy": 5}, "a": tensor()}), "TypeError"),
    (header({"__metadata__": {"torchneupy": "{}"}, "a": tensor()}), "has no key `layers`"),
    (
        header({
            "__metadata__": {"torchneupy": '{"layers": [{"name": "a", "parameters": {"weight": {"value": "b"}}}]}'},
            "a": tensor(),
        }),
        "layer 'a' refers to a tensor that is not there",
    ),
]  # fmt: skip


@pytest.mark.parametrize("content, message", HEADERS, ids=[message for _, message in HEADERS])
def test_hostile_safetensors(content, message, tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidFormat, match=r"file\.safetensors: ") as caught:
        storage.load_safetensors(network("a"), path)
    assert message in str(caught.value)


# Pickle


def test_pickle_of_any_reader(tmp_path):
    storage.save_pickle(filled("a"), tmp_path / "file.pickle")
    data = pickle.loads(Path(tmp_path, "file.pickle").read_bytes())
    assert data["layers"][1]["parameters"]["weight"] == {"value": [[1, 1], [1, 1]], "trainable": True}
    assert data["metadata"]["library"] == "torchneupy"
