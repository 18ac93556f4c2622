"""Files of each format become files of each other one, with all that both can hold."""

import errno
import io
import json
import os
import pickle
import random
import signal
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from tqdm import tqdm

from tests.storage import mutations, recorded
from tests.storage.recorded import LOADERS, SAVERS
from tests.storage.test_atomic import Steps, in_a_child
from tests.storage.test_recorded_files import FILES, assert_computes, assert_is_recorded
from torchneupy import layers, storage
from torchneupy.exceptions import InvalidFormat
from torchneupy.layers import (
    GRU,
    LSTM,
    BaseLayer,
    BatchNorm,
    Convolution,
    Deconvolution,
    Elu,
    Embedding,
    GatedAverage,
    GroupNorm,
    HardSigmoid,
    Input,
    LeakyRelu,
    Linear,
    PRelu,
    Relu,
    Reshape,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    join,
    parallel,
)
from torchneupy.storage import atomic
from torchneupy.storage.formats import ENDINGS, find_format
from torchneupy.storage.keys import keys_to_layers, layers_to_keys
from torchneupy.storage.saving import plain

LAYERED = [".hdf5", ".json", ".pickle", ".safetensors"]
ALL = [*LAYERED, ".pt"]


def read(path):
    """What a file holds, with its values."""
    with find_format(path).read(path) as data:
        if "tensors" in data:
            return {**data, "tensors": {key: np.asarray(value) for key, value in data["tensors"].items()}}
        for layer in data["layers"]:
            for parameter in layer["parameters"].values():
                parameter["value"] = np.asarray(parameter["value"])
        return data


def as_json(data):
    return json.dumps(data, default=np.ndarray.tolist, sort_keys=True)


def load(network, path):
    """Load a file of any format; of state dicts, as users of PyTorch do it."""
    if path.suffix == ".pt":
        network.load_state_dict(torch.load(path, weights_only=True), strict=True)
    else:
        recorded.load(network, path, load_by="names")


# The recorded files


@pytest.mark.parametrize("ending", ALL)
@pytest.mark.parametrize("name, file", FILES)
def test_recorded_files(name, file, ending, tmp_path):
    """Each becomes one of each format, and the network computes what NeuPy's computed."""
    entry, path = recorded.NETWORKS[name], tmp_path / f"converted{ending}"
    storage.convert(recorded.FOLDER / file, path)
    network = recorded.build(entry["build"])
    load(network, path)
    assert_is_recorded(network, entry)
    (tmp_path / "again").mkdir()
    for other in ALL:
        again = tmp_path / "again" / f"converted{other}"
        storage.convert(path, again)
        load(network, again)
        assert_computes(network, entry["data"])


@pytest.mark.parametrize("ending", LAYERED)
@pytest.mark.parametrize("name, file", FILES)
def test_nothing_is_lost_between_formats_with_layers(name, file, ending, tmp_path):
    path = tmp_path / f"converted{ending}"
    storage.convert(recorded.FOLDER / file, path)
    before, after = read(recorded.FOLDER / file), read(path)
    assert after["metadata"] == before["metadata"]
    assert as_json(after["graph"]) == as_json(before["graph"])
    for one, other in zip(before["layers"], after["layers"], strict=True):
        assert (other["name"], other["class_name"]) == (one["name"], one["class_name"])
        assert as_json(other["configs"]) == as_json(plain(one["configs"]))
        assert one["parameters"].keys() == other["parameters"].keys()
        for key, parameter in one["parameters"].items():
            assert parameter["trainable"] == other["parameters"][key]["trainable"]
            np.testing.assert_array_equal(np.float32(parameter["value"]), np.float32(other["parameters"][key]["value"]))


# Keys of state_dict


NETWORKS = {
    "dense": lambda: join(Input(3), Relu(2, name="a/b"), PRelu(4, name="output"), Linear(2, bias=None, name="")),
    "convolutions": lambda: join(
        Input((6, 6, 2)), Convolution((3, 3, 4), name="a.b"), Deconvolution((2, 2, 3), name="_x"), PRelu(name="100%"),
    ),
    "normalisation": lambda: join(
        Input((4, 4, 4)), BatchNorm(name="forward"), GroupNorm(2, name="@home"), BatchNorm(axes=(0, 1), name="%2E."),
        Reshape(name="weight"), BatchNorm(),
    ),
    "recurrent": lambda: join(
        Input(5), Embedding(7, 3), LSTM(4, peepholes=True, only_return_final=False, name="\u00e4\u4e2d \U0001f600"),
        LSTM(2, learn_init=True, only_return_final=False), GRU(3, only_return_final=False), GRU(2, learn_init=True),
    ),
    "repeated names": lambda: join(Input(2, name="a"), Relu(2, name="a"), Relu(2, name="a-2"), Relu(2, name="a")),
    "parallel": lambda: join(
        Input(4), parallel(Softmax(2, name="gate"), Tanh(3) >> Elu(3), Sigmoid(3)), GatedAverage(), LeakyRelu(2),
        HardSigmoid(2), Softplus(3),
    ),
    "foreign modules": lambda: join(Input(4), nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), Relu(2)),
}  # fmt: skip


@pytest.mark.parametrize("ending", [".json", ".pickle", ".safetensors", ".hdf5"])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_keys_are_those_of_the_network(make, ending, tmp_path):
    network, path = make(), tmp_path / f"network{ending}"
    if ending == ".hdf5" and len({layer.name for layer in network} - {""}) < len(network):
        with pytest.raises(ValueError, match="cannot be a path"):
            storage.save(network, path)
        return
    recorded.SAVERS[ending](network, path)
    storage.convert(path, tmp_path / "network.pt")
    found = torch.load(tmp_path / "network.pt", weights_only=True)
    assert found.keys() == network.state_dict().keys()
    for key, tensor in network.state_dict().items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=0, check_dtype=tensor.is_floating_point())
    with torch.no_grad():
        for variable in network.variables.values():
            variable.fill_(7)
    network.load_state_dict(found, strict=True)


def test_every_layer_with_variables_is_tried():
    used = {type(layer).__name__ for make in NETWORKS.values() for layer in make() if layer.variables}
    classes = {name: getattr(layers, name) for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    makers = {name for name, cls in classes.items() if issubclass(cls, BaseLayer) and makes_variables(cls)}
    assert {classes[name].__name__ for name in makers} <= used | {"BaseLayer", "BaseRNNLayer"}


def makes_variables(cls):
    return cls.create_variables is not BaseLayer.create_variables


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.text("ab/.@%_-2E", max_size=6)


@settings(max_examples=60)
@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True), ending=st.sampled_from([".json", ".pickle", ".pt"]))
def test_names_come_back(names, ending, tmp_path_factory):
    """Through a state dict the names of layers stay, whatever they are, and the keys are those of the network."""
    folder = tmp_path_factory.mktemp("names")
    network = join(Input(2, name="in"), *[Relu(2, name=name.replace("{", "").replace("}", "")) for name in names])
    storage.save_safetensors(network, folder / "network.safetensors")
    storage.convert(folder / "network.safetensors", folder / "state.pt")
    keys = list(torch.load(folder / "state.pt", weights_only=True))
    assert sorted(keys) == sorted(network.state_dict())
    storage.convert(folder / "state.pt", folder / f"again{ending}")
    storage.convert(folder / f"again{ending}", folder / "state.pth")
    again = torch.load(folder / "state.pth", weights_only=True)
    assert list(again) == keys
    assert all(torch.equal(again[key], tensor) for key, tensor in network.state_dict().items())
    storage.convert(folder / "state.pth", folder / "layers.json")
    expected = [layer.name for layer in network if layer.variables]
    if len(set(expected)) == len(expected):
        assert [layer["name"] for layer in read(folder / "layers.json")["layers"]] == expected


@given(keys=st.lists(st.text("ab.@%2E_", max_size=6), max_size=5, unique=True))
def test_keys_and_layers(keys):
    """No value is lost, whatever the keys are; those that a network can have come back as they were."""
    described = keys_to_layers({key: np.full(1, number) for number, key in enumerate(keys)})
    found = [int(p["value"][0]) for layer in described for p in layer["parameters"].values()]
    assert sorted(found) == list(range(len(keys)))
    assert len(layers_to_keys(described)) == len(keys)


@pytest.mark.parametrize("source", LAYERED)
def test_automatic_names_are_numbered_as_in_a_network(source, tmp_path):
    made = [join(Input(4), Relu(5), Tanh(), Relu(5, name="given"), Relu(3), Tanh(2)) for _ in range(2)][1]
    SAVERS[source](made, tmp_path / f"network{source}")
    storage.convert(tmp_path / f"network{source}", tmp_path / "network.pt")
    state = torch.load(tmp_path / "network.pt")
    assert state.keys() == made.state_dict().keys()
    join(Input(4), Relu(5), Tanh(), Relu(5, name="given"), Relu(3), Tanh(2)).load_state_dict(state)


@pytest.mark.parametrize("target", LAYERED)
@pytest.mark.parametrize("save", [safetensors.torch.save_file, torch.save])
def test_what_was_made_of_keys_is_not_loaded_by_an_order_that_it_may_not_have(save, target, tmp_path):
    def make():
        return join(Input(5), *[Relu(5) for _ in range(12)])

    state = dict(sorted(make().state_dict().items()))  # relu-1, relu-10, relu-11, relu-12, relu-2, ...
    source, path = tmp_path / ("a.pt" if save is torch.save else "a.safetensors"), tmp_path / f"b{target}"
    save(state, source)
    storage.convert(source, path)
    network, load = make(), LOADERS[target]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(storage.ParameterLoaderError, match="made of a state dict, whose keys may have any"):
        load(network, path)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    load(network, path, load_by="order")
    named = join(Input(5), *[Relu(5, name=f"relu-{number}") for number in range(1, 13)])
    load(named, path)
    assert all(torch.equal(state[key], value) for key, value in named.state_dict().items())


@pytest.mark.parametrize("target", [".hdf5", ".safetensors"])
def test_names_that_utf8_does_not_know(target, tmp_path):
    source = tmp_path / "a.json"
    source.write_text(json.dumps({"layers": [{"name": "\ud800x", "parameters": {"bias": {"value": [1.0]}}}]}))
    with pytest.raises(ValueError, match=r"a\.json: (HDF5|safetensors) files cannot hold the text .*ud800'$"):
        storage.convert(source, tmp_path / f"b{target}")
    assert os.listdir(tmp_path) == ["a.json"]


def test_whole_numbers_that_only_uint64_holds(tmp_path):
    source = tmp_path / "a.json"
    source.write_text(json.dumps({"layers": [{"name": "a", "parameters": {"bias": {"value": [2**64 - 1]}}}]}))
    storage.convert(source, tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt")["a.bias"].tolist() == [2**64 - 1]


def test_state_dict_of_torch_s_own_layers(tmp_path):
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Sequential(nn.Linear(2, 2)))
    torch.save(network.state_dict(), tmp_path / "state.pt")
    for ending in LAYERED:
        storage.convert(tmp_path / "state.pt", tmp_path / f"layers{ending}")
        data = read(tmp_path / f"layers{ending}")
        assert {layer["name"] for layer in data["layers"]} == {"0", "1", "2"}
        assert {layer["class_name"] for layer in data["layers"]} == {""}
        by_name = {layer["name"]: layer["parameters"] for layer in data["layers"]}
        assert {name for name, p in by_name["1"].items() if p["trainable"]} == {"weight", "bias"}
        assert by_name["1"]["num_batches_tracked"]["value"].shape == ()
        assert by_name["2"].keys() == {"0.weight", "0.bias"}
        storage.convert(tmp_path / f"layers{ending}", tmp_path / "again.pt")
        assert network.load_state_dict(torch.load(tmp_path / "again.pt"), strict=True)


def test_keys_that_belong_to_no_layer(tmp_path):
    torch.save({"weight": torch.ones(2), "@.weight": torch.zeros(3)}, tmp_path / "state.pt")
    storage.convert(tmp_path / "state.pt", tmp_path / "layers.json")
    assert [layer["name"] for layer in read(tmp_path / "layers.json")["layers"]] == ["", ""]
    with pytest.raises(ValueError, match="name of layer '' cannot be a path in an HDF5 file"):
        storage.convert(tmp_path / "state.pt", tmp_path / "layers.hdf5")
    assert not (tmp_path / "layers.hdf5").exists()


# Safetensors


def test_names_in_safetensors(tmp_path):
    network = join(Input(3), Relu(2, name="a.b"))
    storage.save(network, tmp_path / "network.hdf5")
    storage.convert(tmp_path / "network.hdf5", tmp_path / "keys.safetensors", names="state_dict")
    assert safetensors.torch.load_file(tmp_path / "keys.safetensors").keys() == network.state_dict().keys()
    storage.convert(tmp_path / "keys.safetensors", tmp_path / "layers.safetensors")
    assert set(safetensors.torch.load_file(tmp_path / "layers.safetensors")) == {"a.b/weight", "a.b/bias"}
    network.load_state_dict(safetensors.torch.load_file(tmp_path / "keys.safetensors"), strict=True)


def test_metadata_in_safetensors(tmp_path):
    path = tmp_path / "keys.safetensors"
    safetensors.torch.save_file({"a.weight": torch.ones(2)}, path, {"format": "pt", "author": "somebody"})
    storage.convert(path, tmp_path / "again.safetensors", names="state_dict")
    assert read(tmp_path / "again.safetensors")["metadata"] == {"format": "pt", "author": "somebody"}
    storage.convert(path, tmp_path / "layers.hdf5")
    assert read(tmp_path / "layers.hdf5")["metadata"] == {"format": "pt", "author": "somebody"}


@pytest.mark.parametrize(
    "names, ending", [("state_dict", ".hdf5"), ("state_dict", ".json"), ("layers", ".safetensors")]
)
def test_names_that_a_format_does_not_have(names, ending, tmp_path):
    storage.save_json(join(Input(3), Relu(2)), tmp_path / "network.json")
    with pytest.raises(ValueError, match=f"got names='{names}' for"):
        storage.convert(tmp_path / "network.json", tmp_path / f"other{ending}", names=names)
    assert not (tmp_path / f"other{ending}").exists()


# Dtypes and shapes


FLOATS = [torch.float16, torch.float32, torch.float64, torch.bfloat16]
DTYPES = [*FLOATS, torch.bool, torch.uint8, torch.int64, torch.uint16]


@pytest.mark.parametrize("second", [".hdf5", ".safetensors", ".pt"])
@pytest.mark.parametrize("first", [".hdf5", ".safetensors", ".pt"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype, first, second, tmp_path):
    tensors = {"a.rows": torch.tensor([[0, 1], [2, 3], [200, 1]]).to(dtype), "a.one": torch.tensor(1).to(dtype)}
    torch.save(tensors, tmp_path / "given.pt")
    storage.convert(tmp_path / "given.pt", tmp_path / f"one{first}")
    storage.convert(tmp_path / f"one{first}", tmp_path / f"two{second}")
    storage.convert(tmp_path / f"two{second}", tmp_path / "found.pt")
    found = torch.load(tmp_path / "found.pt")
    through_hdf5 = ".hdf5" in (first, second)
    for key, tensor in tensors.items():
        expected = tensor.float() if dtype is torch.bfloat16 and through_hdf5 else tensor
        assert found[key].dtype is expected.dtype
        assert torch.equal(found[key], expected)


@pytest.mark.parametrize("ending", [".json", ".pickle"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_lists_have_no_dtypes(dtype, ending, tmp_path):
    numbers = torch.tensor([[0, 1], [2, 1 / 3]], dtype=torch.float64).to(dtype)
    torch.save({"a.rows": numbers}, tmp_path / "given.pt")
    storage.convert(tmp_path / "given.pt", tmp_path / f"lists{ending}")
    storage.convert(tmp_path / f"lists{ending}", tmp_path / "found.pt")
    found = torch.load(tmp_path / "found.pt")["a.rows"]
    if dtype in FLOATS:
        assert found.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    else:
        assert found.dtype is (torch.bool if dtype is torch.bool else torch.int64)
    assert torch.equal(found.double(), numbers.double())


def test_all_lists_of_a_file_get_one_dtype(tmp_path):
    network = join(Input(3), Relu(2, weight=1 / 3, bias=0).double())
    network = network.double()
    torch.nn.init.constant_(network[1].weight, 1 / 3)
    storage.save_json(network, tmp_path / "network.json")
    storage.convert(tmp_path / "network.json", tmp_path / "state.pt")
    assert {tensor.dtype for tensor in torch.load(tmp_path / "state.pt").values()} == {torch.float64}


NUMBERS: Any = [0.0, -0.0, 1e-40, 65504.0, float("inf"), -float("inf"), float("nan")]


@pytest.mark.parametrize("second", ALL)
@pytest.mark.parametrize("first", ALL)
def test_numbers_that_are_rare(first, second, tmp_path):
    torch.save({"a.b": torch.tensor(NUMBERS)}, tmp_path / "given.pt")
    storage.convert(tmp_path / "given.pt", tmp_path / f"one{first}")
    storage.convert(tmp_path / f"one{first}", tmp_path / f"two{second}")
    storage.convert(tmp_path / f"two{second}", tmp_path / "found.pt")
    found = torch.load(tmp_path / "found.pt")["a.b"]
    np.testing.assert_array_equal(found.numpy(), np.float32(NUMBERS))
    assert torch.equal(torch.signbit(found[:6]), torch.signbit(torch.tensor(NUMBERS[:6])))


@pytest.mark.parametrize("ending", [".json", ".pickle"])
def test_shapes_that_lists_do_not_tell(ending, tmp_path):
    torch.save({"a.b": torch.ones(2, 0), "a.c": torch.ones(0)}, tmp_path / "given.pt")
    storage.convert(tmp_path / "given.pt", tmp_path / f"lists{ending}")
    storage.convert(tmp_path / f"lists{ending}", tmp_path / "found.pt")
    assert {key: tuple(tensor.shape) for key, tensor in torch.load(tmp_path / "found.pt").items()} == {
        "a.b": (2, 0), "a.c": (0,)
    }  # fmt: skip
    torch.save({"a.b": torch.ones(0, 3)}, tmp_path / "given.pt")
    with pytest.raises(ValueError, match=r"'b' of layer 'a' has the shape \(0, 3\), which lists in"):
        storage.convert(tmp_path / "given.pt", tmp_path / f"other{ending}")
    assert not (tmp_path / f"other{ending}").exists()


# What a dictionary may hold besides


def write_json(path, layers, **more):
    path.write_text(json.dumps({**more, "layers": layers}))


def test_what_a_file_may_leave_out(tmp_path):
    write_json(tmp_path / "file.json", [{"name": "a", "parameters": {"b": {"value": 1.5}, "c": {"value": [[1]]}}}])
    for ending in LAYERED:
        storage.convert(tmp_path / "file.json", tmp_path / f"other{ending}")
        data = read(tmp_path / f"other{ending}")
        (layer,) = data["layers"]
        assert (data["metadata"], data["graph"], layer["class_name"], layer["configs"]) == ({}, [], "", {})
        assert {name: (p["value"].tolist(), p["trainable"]) for name, p in layer["parameters"].items()} == {
            "b": (1.5, True), "c": ([[1]], True)
        }  # fmt: skip


@pytest.mark.parametrize("ending", LAYERED)
def test_what_older_versions_told_of_layers(ending, tmp_path):
    layers = [{"name": "a", "class_name": "Relu", "input_shape": [3], "parameters": {}, "configs": {}}]
    write_json(tmp_path / "file.json", layers, metadata={"library": "neupy"}, graph=[])
    storage.convert(tmp_path / "file.json", tmp_path / f"other{ending}")
    storage.convert(tmp_path / f"other{ending}", tmp_path / "again.json")
    assert read(tmp_path / "again.json")["layers"][0] == layers[0]


@pytest.mark.parametrize("ending", [".json", ".pickle", ".safetensors"])
def test_what_only_some_formats_can_hold(ending, tmp_path):
    parameter = {"value": [1.0], "trainable": True, "note": "text"}
    write_json(tmp_path / "one.json", [{"name": "a", "parameters": {"b": parameter}}])
    write_json(tmp_path / "two.json", [], note="text")
    write_json(tmp_path / "three.json", [{"name": "a", "parameters": {}, "": {"note": "text"}}])
    for name, message in [
        ("one", "Parameter 'b' of layer 'a' has the keys 'note'"),
        ("two", "stored has the keys 'note'"),
        ("three", "Layer 'a' has the keys ''"),
    ]:
        storage.convert(tmp_path / f"{name}.json", tmp_path / f"{name}-2{ending}")
        storage.convert(tmp_path / f"{name}-2{ending}", tmp_path / "again.json")
        assert '"note": "text"' in (tmp_path / "again.json").read_text()
        with pytest.raises(ValueError, match=message):
            storage.convert(tmp_path / f"{name}.json", tmp_path / "file.hdf5")


def test_names_of_functions_become_text(tmp_path):
    for ending in LAYERED:
        storage.convert(recorded.FOLDER / "lstm.pickle", tmp_path / f"lstm{ending}")
        layer = read(tmp_path / f"lstm{ending}")["layers"][2]
        assert layer["configs"]["ingate"] == "<function sigmoid>"


# Errors


@pytest.mark.parametrize("name", ["file", "file.txt", "file.hdf5.gz", ".pt", ""])
def test_unknown_endings(name, tmp_path):
    (tmp_path / "network.json").write_text('{"layers": []}')
    for source, target in [("network.json", name), (name, "other.json")]:
        with pytest.raises(ValueError, match=r"end with one of \.hdf5, \.h5, .*\.pth, got '.*'"):
            storage.convert(tmp_path / source, tmp_path / target)
    assert [path.name for path in tmp_path.iterdir()] == ["network.json"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_known_endings(ending, tmp_path):
    storage.save_json(join(Input(3), Relu(2)), tmp_path / "network.json")
    for name in (f"network{ending}", f"NETWORK{ending.upper()}"):
        storage.convert(tmp_path / "network.json", tmp_path / name)
        assert storage.inspect(tmp_path / name).n_parameters == 8


@pytest.mark.parametrize("ending", ALL)
def test_damaged_files(ending, tmp_path):
    (tmp_path / f"damaged{ending}").write_bytes(b"nonsense")
    (tmp_path / "old.json").write_text("old")
    with pytest.raises(InvalidFormat, match=rf"damaged{ending}: "):
        storage.convert(tmp_path / f"damaged{ending}", tmp_path / "old.json")
    assert (tmp_path / "old.json").read_text() == "old"
    with pytest.raises(FileNotFoundError):
        storage.convert(tmp_path / f"missing{ending}", tmp_path / "old.json")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        storage.convert(recorded.FOLDER / "dense.json", tmp_path / "missing" / f"file{ending}")


VALUES = [
    ("[[1, 2], [3]]", "rows of an array are not all of the length 2"),
    ('["a"]', "should hold numbers, got str"),
    ("null", "stored as one, or as a list or a number, got <NoneType>"),
    ("[" * 500 + "]" * 500, "nested more than"),
    ("[[1, " + "9" * 100 + "]]", "real numbers"),
]


@pytest.mark.parametrize("value, message", VALUES, ids=[message for _, message in VALUES])
def test_values_that_are_no_arrays(value, message, tmp_path):
    content = '{"layers": [{"name": "a", "parameters": {"b": {"value": ' + value + "}}}]}"
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(InvalidFormat, match=rf"file\.json: Parameter 'b' of layer 'a': .*{message}"):
        storage.convert(tmp_path / "file.json", tmp_path / "file.pt")


@pytest.mark.parametrize("ending", ALL)
def test_options_nested_without_end(ending, tmp_path):
    options: list[Any] = []
    for _ in range(2000):
        options = [options]
    data = {"layers": [{"name": "a", "parameters": {}, "configs": {"shape": options}}]}
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    (tmp_path / "file.pickle").write_bytes(pickle.dumps(data))
    sys.setrecursionlimit(limit)
    with pytest.raises(InvalidFormat, match=r"file\.pickle: .*nested too deep"):
        storage.convert(tmp_path / "file.pickle", tmp_path / f"other{ending}")


def test_numbers_of_sixteen_bytes(tmp_path):
    data = {"layers": [{"name": "a", "parameters": {"b": {"value": np.ones(2, np.longdouble)}}}]}
    (tmp_path / "file.pickle").write_bytes(pickle.dumps(data))
    with pytest.raises(TypeError, match="Parameter 'b' of layer 'a' has the dtype float128"):
        storage.convert(tmp_path / "file.pickle", tmp_path / "file.json")


@pytest.mark.parametrize("ending", mutations.FORMATS)
def test_files_that_are_damaged_at_random(ending, tmp_path):
    """They are converted, where the damage is in a number or a name; or refused, in one of two ways."""
    rng, files = random.Random(ending), mutations.seeds(ending)
    results: Counter[type[Exception]] = Counter()
    path = tmp_path / f"damaged{ending}"
    for _ in range(500 if os.environ.get("TORCHNEUPY_FULL") == "1" else 25):
        path.write_bytes(mutations.mutate(rng.choice(files)[1], rng.choice(files)[1], rng))
        for wanted in ALL:
            target = tmp_path / f"converted{wanted}"
            try:
                storage.convert(path, target)
            except (ValueError, TypeError) as error:
                results[type(error)] += 1
                assert not target.exists()
            else:
                storage.inspect(target)
                target.unlink()
    assert results[InvalidFormat] > results.total() / 2


# Files stay whole


@pytest.mark.parametrize("ending", ALL)
def test_a_file_may_replace_itself(ending, tmp_path):
    path = tmp_path / f"network{ending}"
    storage.convert(recorded.FOLDER / "dense.hdf5", path)
    before = read(path)
    storage.convert(path, path)
    assert as_json(read(path)) == as_json(before)
    assert list(tmp_path.iterdir()) == [path]


class FullDisk:
    """A file on a disk with room for some bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def test_killed_at_every_step(tmp_path, monkeypatch):
    """As saves are, for the format that has none."""
    path, source = tmp_path / "network.pt", recorded.FOLDER / "dense.json"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        counted = Steps(patch)
        storage.convert(source, tmp_path / "other.pt")
    new = torch.load(tmp_path / "other.pt")

    def kill_at(wanted):
        def work():
            Steps(monkeypatch, lambda _, step: os.kill(os.getpid(), signal.SIGKILL) if step == wanted else None)
            storage.convert(source, path)

        return work

    found = []
    for wanted in range(1, len(counted.names) + 1):
        assert os.WTERMSIG(in_a_child(kill_at(wanted))) == signal.SIGKILL
        is_old = path.read_bytes() == b"old"
        assert is_old or all(torch.equal(new[key], value) for key, value in torch.load(path).items())
        found.append(is_old)
    assert found == [True] * (len(found) - 1) + [False]


@pytest.mark.parametrize("room", [0, 500, 1000])
@pytest.mark.parametrize("ending", ALL)
def test_disk_is_full(ending, room, tmp_path, monkeypatch):
    path = tmp_path / f"network{ending}"
    path.write_bytes(b"old")
    real = atomic.open_new
    monkeypatch.setattr(atomic, "open_new", lambda name: FullDisk(real(name), room))
    with pytest.raises(OSError, match="No space left"):
        storage.convert(recorded.FOLDER / "images.hdf5", path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_extra_is_named(tmp_path, monkeypatch):
    for module in ("h5py", "pyfive"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "torchneupy\[storage\]"'):
        storage.convert(recorded.FOLDER / "dense.json", tmp_path / "dense.hdf5")
    with pytest.raises(ImportError, match=r'pip install "torchneupy\[storage\]"'):
        storage.convert(recorded.FOLDER / "dense.hdf5", tmp_path / "dense.json")
    storage.convert(recorded.FOLDER / "dense.json", tmp_path / "dense.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["dense.pt"]


# The bar


def test_no_bar_where_nobody_looks(tmp_path, capsys):
    storage.convert(recorded.FOLDER / "dense.json", tmp_path / "dense.pt", verbose=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("ending", ALL)
def test_bar_counts_what_is_written(ending, tmp_path, monkeypatch):
    bars: list[Any] = []

    def init(self, *args, **kwargs):
        bars.append(self)
        real(self, *args, **{**kwargs, "disable": False, "file": io.StringIO()})

    real = tqdm.__init__
    monkeypatch.setattr(tqdm, "__init__", init)
    storage.convert(recorded.FOLDER / "images.hdf5", tmp_path / f"images{ending}", verbose=True)
    (bar,) = bars
    assert bar.n >= 172 * 4
    assert bar.total == (None if ending in (".json", ".pickle") else 172 * 4)
