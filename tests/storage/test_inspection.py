"""What is told of a file, and that its values are not read for it."""

import json

import numpy as np
import pytest
import torch

from tests.storage import recorded
from tests.storage.test_recorded_files import FILES
from torchneupy import storage
from torchneupy.exceptions import InvalidFormat
from torchneupy.layers import BatchNorm, Input, Relu, join
from torchneupy.storage.arrays import StoredArray

LAZY = [".hdf5", ".safetensors", ".pt"]
ALL = [*LAZY, ".json", ".pickle"]


def saved(folder, ending, *names):
    network = join(Input(3, name="in"), *[Relu(2, name=name) for name in names or ("a/b",)], BatchNorm(name="norm"))
    storage.save_json(network, folder / "network.json")
    path = folder / f"file{ending}"
    if ending == ".pt":
        torch.save(network.state_dict(), path)
    else:
        recorded.SAVERS[ending](network, path)
    return path


@pytest.mark.parametrize("name, file", FILES)
def test_recorded_files(name, file):
    found, network = storage.inspect(recorded.FOLDER / file), recorded.build(recorded.NETWORKS[name]["build"])
    assert (found.library, found.version) == ("neupy", "0.8.2")
    assert found.created is not None
    assert found.file_size == (recorded.FOLDER / file).stat().st_size
    assert found.n_parameters == network.n_parameters
    assert found.nbytes in (None, 4 * network.n_parameters)
    for layer, told in zip(network, found.layers, strict=True):
        assert told.class_name == type(layer).__name__
        shapes = {key: tuple(variable.shape) for key, variable in layer.variables.items()}
        assert {parameter.name: parameter.shape for parameter in told.parameters} == shapes
        trained = {key: variable.requires_grad for key, variable in layer.variables.items()}
        assert {parameter.name: parameter.trainable for parameter in told.parameters} == trained


@pytest.mark.parametrize("ending", ALL)
def test_what_each_format_tells(ending, tmp_path):
    found = storage.inspect(saved(tmp_path, ending))
    layers = {layer.name: layer for layer in found.layers}
    assert (found.library, found.version is None) == ((None, True) if ending == ".pt" else ("torchneupy", False))
    assert layers["a/b"].class_name == (None if ending == ".pt" else "Relu")
    assert ("in" in layers) == (ending != ".pt")
    weight = {parameter.name: parameter for parameter in layers["a/b"].parameters}["weight"]
    assert (weight.shape, weight.size) == ((3, 2), 6)
    assert (weight.dtype, weight.nbytes) == (("float32", 24) if ending in LAZY else (None, None))
    assert weight.trainable == (None if ending == ".pt" else True)
    assert found.n_parameters == 6 + 2 + 8
    assert found.nbytes == (64 if ending in LAZY else None)


@pytest.mark.parametrize("ending", LAZY)
def test_values_are_not_read(ending, tmp_path, monkeypatch):
    path = saved(tmp_path, ending)
    monkeypatch.delattr(StoredArray, "read_into")
    assert storage.inspect(path).n_parameters == 16


def test_keys_of_safetensors(tmp_path):
    path = tmp_path / "file.safetensors"
    storage.save_safetensors(join(Input(3), Relu(2, name="a.b")).bfloat16(), path, names="state_dict")
    found = storage.inspect(path)
    assert [(layer.name, layer.class_name) for layer in found.layers] == [("a.b", None)]
    assert {(p.dtype, p.nbytes, p.trainable) for p in found.layers[0].parameters} == {
        ("bfloat16", 12, None), ("bfloat16", 4, None)
    }  # fmt: skip


def test_pickles_with_arrays_tell_dtypes():
    found = storage.inspect(recorded.FOLDER / "dense.pickle")
    assert {parameter.dtype for layer in found.layers for parameter in layer.parameters} == {"float32"}


@pytest.mark.parametrize("metadata", [None, [], {"library": ["a"], "version": 3}])
def test_metadata_that_are_none(metadata, tmp_path):
    (tmp_path / "file.json").write_text(json.dumps({"metadata": metadata, "layers": []}))
    found = storage.inspect(tmp_path / "file.json")
    assert (found.library, found.version, found.created, found.layers, found.nbytes) == (None, None, None, (), 0)
    assert str(found).endswith("Total: 0 parameters, 0 bytes")


@pytest.mark.parametrize("ending", ALL)
def test_errors(ending, tmp_path):
    (tmp_path / f"damaged{ending}").write_bytes(b"nonsense")
    with pytest.raises(InvalidFormat, match=rf"damaged{ending}: "):
        storage.inspect(tmp_path / f"damaged{ending}")
    with pytest.raises(FileNotFoundError):
        storage.inspect(tmp_path / f"missing{ending}")
    with pytest.raises(ValueError, match="end with one of"):
        storage.inspect(tmp_path)


def test_lists_are_looked_through(tmp_path):
    layers = [{"name": "a", "parameters": {"b": {"value": [[1, 2], [3]]}}}]
    (tmp_path / "file.json").write_text(json.dumps({"layers": layers}))
    with pytest.raises(InvalidFormat, match=r"file\.json: the rows of an array"):
        storage.inspect(tmp_path / "file.json")


# The table


def test_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hidden = {"hidden.weight": torch.ones(300, 20), "hidden.bias": torch.ones(3, 1).double()}
    torch.save({**hidden, "b": torch.tensor(1)}, "a.pt")
    found = storage.inspect("a.pt")
    assert str(found) == (
        f"""a.pt: torch state dict, {found.file_size:,} bytes

Layer   Class  Parameter  Shape      Dtype    Trained   Bytes
------  -----  ---------  ---------  -------  -------  ------
hidden         weight     (300, 20)  float32           24,000
               bias       (3, 1)     float64               24
               b          ()         int64                  8
------  -----  ---------  ---------  -------  -------  ------
Total: 6,004 parameters, 24,032 bytes"""
    )


def test_names_cannot_move_the_cursor(tmp_path):
    name = "a\x1b[2J\n\u202e\ud800"
    data = {
        "metadata": {"library": name},
        "layers": [{"name": name, "class_name": name, "parameters": {name: {"value": 1}}}],
    }
    (tmp_path / "file.json").write_text(json.dumps(data))
    lines = str(storage.inspect(tmp_path / "file.json")).split("\n")
    assert len(lines) == 7
    assert all(line.isprintable() for line in lines)
    assert lines[4].startswith(r"a\x1b[2J\n\u202e\ud800  a\x1b[2J")


@pytest.mark.parametrize("ending", ALL)
def test_as_json(ending, tmp_path):
    found = storage.inspect(saved(tmp_path, ending))
    told = json.loads(json.dumps(found.to_dict()))
    assert told["n_parameters"] == 16
    assert told["nbytes"] == found.nbytes
    sizes = [np.prod(p["shape"]) for layer in told["layers"] for p in layer["parameters"]]
    assert sum(sizes) == 16
