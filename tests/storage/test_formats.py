"""What is saved comes back, in every format, and everything is compared before anything changes."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from torchneupy import storage
from torchneupy.exceptions import InvalidFormat, ParameterLoaderError, WeightInitializationError
from torchneupy.layers import (
    LSTM,
    BatchNorm,
    Convolution,
    Elementwise,
    Embedding,
    GlobalPooling,
    Identity,
    Input,
    Linear,
    Relu,
    Softmax,
    Tanh,
    join,
)

FORMATS: dict[str, Any] = {
    "hdf5": (storage.save_hdf5, storage.load_hdf5),
    "json": (storage.save_json, storage.load_json),
    "pickle": (storage.save_pickle, storage.load_pickle),
    "safetensors": (storage.save_safetensors, storage.load_safetensors),
}
every_format = pytest.mark.parametrize("kind", FORMATS)
NETWORKS: dict[str, Any] = {
    "dense": lambda: Input(4, name="x") >> Relu(3, name="a") >> Softmax(2, name="b", bias=None),
    "images": lambda: join(
        Input((5, 5, 2), name="x"),
        Convolution((3, 3, 4), name="c"),
        BatchNorm(name="bn"),
        GlobalPooling("avg", name="g"),
    ),
    "sequences": lambda: join(
        Input(5, name="x"), Embedding(7, 3, name="e"), LSTM(2, peepholes=True, learn_init=True, name="l")
    ),
    "branches": lambda: join(
        Input(3, name="x"), Identity(name="i") | Relu(3, name="r"), Elementwise(lambda a, b: a - b, name="m")
    ),
    "no variables": lambda: Input(3, name="x") >> Tanh(name="t"),
    "odd names": lambda: join(
        Input(3, name="in/put"),
        Relu(3, name="fire/a"),
        Relu(3, name="größe"),
        Relu(2, name="a b/ü"),
        Tanh(1, name="層"),
    ),
}
every_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def changed(network: Any, by: float = 1.5) -> Any:
    with torch.no_grad():
        for value in network.state_dict().values():
            value.add_(by)
    return network


def state(network: Any) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


@every_format
@every_network
def test_round_trip(kind: str, make: Any, tmp_path: Path) -> None:
    save, load = FORMATS[kind]
    network, other = make(), changed(make())
    save(network, tmp_path / "file")
    if kind == "safetensors" and not network.variables:
        with pytest.raises(ParameterLoaderError):
            load(other, tmp_path / "file")
        return
    variables = dict(other.variables)
    load(other, str(tmp_path / "file"))
    assert_close(state(other), state(network), rtol=0, atol=0)
    assert all(other.variables[key] is value for key, value in variables.items())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@every_format
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    save, load = FORMATS[kind]
    network = NETWORKS["images"]().to(dtype)
    save(network, tmp_path / "file")
    same, plain = changed(NETWORKS["images"]()).to(dtype), changed(NETWORKS["images"]())
    load(same, tmp_path / "file")
    assert_close(state(same), state(network), rtol=0, atol=0)
    load(plain, tmp_path / "file")  # which keeps its own type
    assert_close(state(plain), {key: value.float() for key, value in state(network).items()}, rtol=0, atol=0)


def test_aliases() -> None:
    assert storage.save is storage.save_hdf5 and storage.load is storage.load_hdf5


def test_dictionary() -> None:
    network = Input(2, name="x") >> BatchNorm(name="bn")
    data = storage.save_dict(network)
    assert list(data) == ["metadata", "graph", "layers"]
    assert sorted(data["metadata"]) == ["created", "language", "library", "version"]
    assert data["graph"] == [("x", ["bn"]), ("bn", [])]
    assert data["layers"][0] == {
        "class_name": "Input",
        "name": "x",
        "parameters": {},
        "configs": {"name": "x", "shape": (2,)},
    }
    parameters = data["layers"][1]["parameters"]
    trained = {name: parameter["trainable"] for name, parameter in parameters.items()}
    assert trained == {"running_mean": False, "running_inv_std": False, "gamma": True, "beta": True}
    assert data["layers"][1]["configs"] == {"name": "bn", "axes": None, "epsilon": 1e-5, "alpha": 0.1}
    parameters["gamma"]["value"][...] = 9
    assert not (network.layers[1].gamma == 9).any()  # it is a copy


@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_that_of_neupy(indent: int | None, tmp_path: Path) -> None:
    storage.save_json(NETWORKS["branches"](), tmp_path / "file", indent=indent)
    text = (tmp_path / "file").read_text()
    assert ("\n  " in text) is (indent == 2)
    layers = json.loads(text)["layers"]
    assert layers[2]["configs"] == {"name": "r", "n_units": 3, "alpha": 0}
    assert layers[3]["configs"]["merge_function"].startswith("<function")


def test_pickle_refers_to_nothing_but_arrays(tmp_path: Path) -> None:
    for compatible in (False, True):
        storage.save_pickle(NETWORKS["branches"](), tmp_path / "file", python_compatible=compatible)
        content = (tmp_path / "file").read_bytes()
        assert content[1] == (2 if compatible else pickle.HIGHEST_PROTOCOL)
        data = pickle.loads(content)  # by Python's own
        assert isinstance(data["layers"][2]["parameters"]["weight"]["value"], np.ndarray)
        assert b"torch" not in content.replace(b"torchneupy", b"")


@pytest.mark.parametrize("names", ["neupy", "state_dict"])
def test_names_in_safetensors(names: str, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    network, other = (Input(2) >> Relu(3, name="a") >> Relu(1) for _ in range(2))
    changed(other)
    storage.save_safetensors(network, tmp_path / "file", names=names)
    expected = [f"{layer.name}/{name}" for layer, name in network.variables]
    assert set(load_file(tmp_path / "file")) == set(expected if names == "neupy" else network.state_dict())
    if names == "state_dict":
        storage.load_safetensors(other, tmp_path / "file", names=names)
        assert_close(state(other), state(network), rtol=0, atol=0)
    else:  # the second layer's automatic name is another one
        with pytest.raises(ParameterLoaderError, match="Missing or left over: relu"):
            storage.load_safetensors(other, tmp_path / "file", names=names)
        storage.load_safetensors(other, tmp_path / "file", names=names, ignore_missing=True)
        assert_close(other.layers[1].weight, network.layers[1].weight)
    with pytest.raises(ValueError, match="'neupy' or 'state_dict', got 'keras'"):
        storage.save_safetensors(network, tmp_path / "file", names="keras")


# What does not fit


@every_format
@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Input(4) >> Relu(5, name="a") >> Softmax(2, name="b", bias=None), r"shape (\(4, 3\)|\(3,\)) into `"),
        (lambda: Input(4) >> Relu(3, name="a") >> Softmax(9, name="b", bias=None), r"shape \(3, 2\).*\(3, 9\)"),
        (lambda: Input(4) >> Relu(3, name="a"), "2|left over"),
    ],
    ids=["first layer", "last layer", "fewer layers"],
)
def test_nothing_changes_if_something_does_not_fit(kind: str, make: Any, message: str, tmp_path: Path) -> None:
    save, load = FORMATS[kind]
    save(NETWORKS["dense"](), tmp_path / "file")
    network = make()
    before = state(network)
    with pytest.raises(ParameterLoaderError, match=message):
        load(network, tmp_path / "file")
    assert_close(state(network), before, rtol=0, atol=0)


@every_format
def test_networks_without_variables_yet(kind: str, tmp_path: Path) -> None:
    save, load = FORMATS[kind]
    save(NETWORKS["dense"](), tmp_path / "file")
    open_network = Relu(3, name="waiting") >> Relu(2)
    with pytest.raises(WeightInitializationError, match="`waiting`"):
        save(open_network, tmp_path / "other")
    with pytest.raises(WeightInitializationError, match="`waiting`"):
        load(open_network, tmp_path / "file")
    assert not (tmp_path / "other").exists()


@every_format
@pytest.mark.parametrize("wrong", [Relu(3), [Relu(3)], "network"], ids=["layer", "list", "text"])
def test_what_is_no_network(kind: str, wrong: Any, tmp_path: Path) -> None:
    save, load = FORMATS[kind]
    save(NETWORKS["dense"](), tmp_path / "file")
    for call in (lambda: save(wrong, tmp_path / "other"), lambda: load(wrong, tmp_path / "file")):
        with pytest.raises(TypeError, match=f"got {type(wrong).__name__} instance"):
            call()


@every_format
def test_missing_and_empty_files(kind: str, tmp_path: Path) -> None:
    _, load = FORMATS[kind]
    network = NETWORKS["dense"]()
    with pytest.raises(FileNotFoundError, match="missing"):
        load(network, tmp_path / "missing")
    (tmp_path / "empty").touch()
    with pytest.raises(InvalidFormat, match="empty"):
        load(network, tmp_path / "empty")
    with pytest.raises(OSError, match=tmp_path.name):
        load(network, tmp_path)


@pytest.mark.parametrize("kind", ["hdf5", "json", "pickle"])
def test_unknown_ways_to_load(kind: str, tmp_path: Path) -> None:
    save, load = FORMATS[kind]
    save(NETWORKS["dense"](), tmp_path / "file")
    with pytest.raises(ValueError, match=r"`load_by` argument: position.*names, order, names_or_order"):
        load(NETWORKS["dense"](), tmp_path / "file", load_by="position")


@pytest.mark.parametrize(
    "first, second, names",
    [("a", "a/weight", "'a'"), ("a", "a", "'a'"), (".", "b", "'.'"), ("/", "b", "'/'"), ("a", "a/", "'a/'")],
)
def test_names_that_hdf5_cannot_hold(first: str, second: str, names: str, tmp_path: Path) -> None:
    network = Input(2) >> Linear(2, name=first) >> Linear(2, name=second)
    with pytest.raises(ValueError, match=f"HDF5 has no place for a layer named.*{names}"):
        storage.save(network, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    other = changed(Input(2) >> Linear(2, name=first) >> Linear(2, name=second))
    storage.save_json(network, tmp_path / "file")
    storage.load_json(other, tmp_path / "file", load_by="order")
    assert_close(list(state(other).values()), list(state(network).values()), rtol=0, atol=0)


def test_a_layer_within_the_group_of_another(tmp_path: Path) -> None:
    network, other = (Input(2, name="x") >> Linear(2, name="a") >> Linear(2, name="a/b") for _ in range(2))
    storage.save(network, tmp_path / "file")
    storage.load(changed(other), tmp_path / "file")
    assert_close(state(other), state(network), rtol=0, atol=0)


@pytest.mark.parametrize(
    "data, message",
    [
        ([], "dictionary format"),
        ({}, "no key `layers`"),
        ({"layers": {}}, "list format"),
        ({"layers": []}, "any layer"),
        ({"layers": [[]]}, "position.*list"),
        ({"layers": [{"parameters": {}}]}, "`name`"),
        ({"layers": [{"name": 5, "parameters": {}}]}, "no text: 5"),
        ({"layers": [{"name": "a", "parameters": []}]}, "`list`"),
        ({"layers": [{"name": "a", "parameters": {"weight": 1}}]}, "`weight`.*int"),
        ({"layers": [{"name": "a", "parameters": {"weight": {}}}]}, "`weight`.*`value`"),
        ({"layers": [{"name": "a", "parameters": {"weight": {"value": [[1], [2, 3]]}}}]}, "`weight` of layer `a`"),
        ({"layers": [{"name": "a", "parameters": {"weight": {"value": "text"}}}]}, "`weight` of layer `a`"),
        ({"layers": [{"name": "a", "parameters": {"weight": {"value": None}}}]}, "`weight` of layer `a`"),
    ],
)
@pytest.mark.parametrize("skip_validation", [True, False])
def test_malformed_dictionaries(data: Any, message: str, skip_validation: bool) -> None:
    network = Input(2) >> Linear(1, name="a", bias=None)
    before = state(network)
    with pytest.raises(InvalidFormat, match=message):
        storage.load_dict(network, data, skip_validation=skip_validation)
    assert_close(state(network), before, rtol=0, atol=0)


def test_unknown_variables_are_refused_by_name() -> None:
    network = Input(2) >> Linear(1, name="a")
    data = {"layers": [{"name": "a", "parameters": {"kernel": {"value": [1]}}}]}
    with pytest.raises(ParameterLoaderError, match=r"`kernel` parameter from the `a` layer.*weight, bias"):
        storage.load_dict(network, data)


@pytest.mark.parametrize(
    "package, call",
    [
        ("h5py", lambda path: storage.save_hdf5(NETWORKS["dense"](), path)),
        ("pyfive", lambda path: storage.load_hdf5(NETWORKS["dense"](), path)),
        ("safetensors.torch", lambda path: storage.save_safetensors(NETWORKS["dense"](), path)),
        ("safetensors", lambda path: storage.load_safetensors(NETWORKS["dense"](), path)),
    ],
)
def test_a_missing_package_names_the_extra(
    package: str, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save_hdf5(NETWORKS["dense"](), tmp_path / "file")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=r'pip install "torchneupy\[storage\]"'):
        call(tmp_path / "file")
