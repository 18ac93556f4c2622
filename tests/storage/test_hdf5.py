"""HDF5: names as paths, files of other writers, and files that declare more than they hold."""

import json
import re
import struct
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from tests.storage.recorded import FOLDER, NETWORKS, build, values
from torchneupy import storage
from torchneupy.exceptions import InvalidFormat, ParameterLoaderError
from torchneupy.layers import Input, Relu, join
from torchneupy.storage import hdf5_reading
from torchneupy.storage.arrays import StoredArray
from torchneupy.storage.hdf5_format import read_hdf5, write_hdf5


def network(*names):
    return join(Input(2, name="input"), *[Relu(2, name=name) for name in names])


def filled(*names):
    made = network(*names)
    with torch.no_grad():
        for number, variable in enumerate(made.variables.values(), start=1):
            variable.fill_(number)
    return made


def numbers(loaded):
    return [variable.flatten()[0].item() for variable in loaded.variables.values()]


def write_like_neupy(path, arrays, **options):
    """A file as NeuPy writes it: ``arrays`` has for each layer its parameters."""
    with h5py.File(path, "w", **options) as file:
        for layer, parameters in arrays.items():
            group = file.require_group(layer)
            group.attrs["name"] = json.dumps(layer)
            group.attrs["class_name"] = json.dumps("Relu")
            group.attrs["configs"] = json.dumps({"name": layer})
            for name, array in parameters.items():
                group.create_dataset(name, data=array).attrs["trainable"] = True
        file.attrs["metadata"] = json.dumps({"library": "neupy", "version": "0.8.2"})
        file.attrs["graph"] = json.dumps([])
        file.attrs["layer_names"] = json.dumps(list(arrays))
    return path


WEIGHT, BIAS = np.full((2, 2), 7, "f4"), np.full(2, 8, "f4")
BOTH = {"weight": WEIGHT, "bias": BIAS}


def refused(path, *names):
    """The message of a load that has changed nothing."""
    target = network(*names or ("a",))
    before = values(target)
    with pytest.raises((InvalidFormat, ParameterLoaderError), match=f"{path.name}: ") as caught:
        storage.load(target, path)
    assert all(torch.equal(before[key], value) for key, value in values(target).items())
    return str(caught.value)


# Names


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("/x", "q/"), ("a//b", "c/./d"), ("..", "..."),
                                   ("\u00e4", "\u4e2d\u6587/\U0001f600"), ("a b", "a.b"), ("weight", "bias"),
                                   ("a/weights", "a"), ("x" * 300, "y" * 300 + "/z")])  # fmt: skip
def test_names(names, tmp_path):
    """NeuPy saves a layer "a" beside a layer "a/b", and cannot load it."""
    storage.save(filled(*names), tmp_path / "file.hdf5")
    for load_by in ("names", "order"):
        loaded = network(*names)
        storage.load(loaded, tmp_path / "file.hdf5", load_by=load_by)
        assert numbers(loaded) == [1, 2, 3, 4]


COLLISIONS = [
    (("a", "a"), "The name of layer 'a' cannot be a path in an HDF5 file, as that of layer 'a'"),
    (("a", "a/"), "The name of layer 'a/' cannot be a path in an HDF5 file, as that of layer 'a'"),
    (("a", "a/weight"), "Layer 'a/weight' would be stored where layer 'a' keeps a parameter"),
    (("a/bias/b", "a"), "Layer 'a/bias/b' would be stored where layer 'a' keeps a parameter"),
    ((".", "a"), "The name of layer '.' cannot be a path"),
    (("", "a"), "The name of layer '' cannot be a path"),
    (("a\0b", "a"), r"The name of layer 'a\x00b' cannot be a path"),
]


@pytest.mark.parametrize("names, message", COLLISIONS)
def test_names_that_collide(names, message, tmp_path):
    path = tmp_path / "file.hdf5"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        storage.save(network(*names), path)
    assert "JSON, pickle and safetensors take all names" in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.hdf5"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["a/b", "/", "a\0b"])
def test_parameter_that_is_no_name(name, tmp_path):
    data = storage.save_dict(network("a"))
    data["layers"][1]["parameters"] = {name: {"value": WEIGHT, "trainable": True}}
    message = f"Parameter {re.escape(repr(name))} of layer 'a' cannot be a name in HDF5"
    with (tmp_path / "file").open("w+b") as file, pytest.raises(ValueError, match=message):
        write_hdf5(data, file)


# Other writers


VERSIONS = [{}, {"libver": "latest"}, {"libver": "v108"}, {"userblock_size": 512}, {"track_order": True}]


@pytest.mark.parametrize("options", VERSIONS)
def test_other_versions_of_the_format(options, tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": BOTH, "b": BOTH}, **options)
    loaded = network("a", "b")
    storage.load(loaded, path, load_by="names")
    assert numbers(loaded) == [7, 8, 7, 8]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "i1", "i4", ">i8", "u1", "u8", "?"])
def test_dtypes(dtype, tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": {"weight": np.eye(2).astype(dtype), "bias": BIAS}})
    loaded = network("a")
    storage.load(loaded, path)
    assert loaded["a"].weight.tolist() == [[1, 0], [0, 1]]


def test_layer_beside_its_name(tmp_path):
    """As NeuPy writes, and cannot read it."""
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": BOTH, "a/b": BOTH})
    loaded = network("a", "a/b")
    storage.load(loaded, path, load_by="names")
    assert numbers(loaded) == [7, 8, 7, 8]


def test_attributes_of_a_layer_may_be_missing_or_no_json(tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": BOTH})
    with h5py.File(path, "a") as file:
        del file["a"].attrs["class_name"]
        file["a"].attrs["configs"] = "{"
        file["a"].attrs["name"] = json.dumps("another")
        file["a"].attrs["number"] = 5
    with read_hdf5(path) as data:
        layer = data["layers"][0]
    assert (layer["name"], layer["class_name"], layer["configs"], layer["number"]) == ("a", "", "{", 5)


# What is read, and when


def test_values_are_read_when_all_is_compared(tmp_path, monkeypatch):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": BOTH, "b": {"weight": np.ones((3, 2)), "bias": BIAS}})

    def read_into(array, memory, start=0):
        raise AssertionError("values were read")

    monkeypatch.setattr(StoredArray, "read_into", read_into)
    assert "`weight` of layer `b` has the shape (2, 2), the stored one has (3, 2)" in refused(path, "a", "b")


def test_large_arrays_are_read_in_pieces(tmp_path):
    path, size = tmp_path / "file.hdf5", 3_000_001
    values_of_a = np.arange(2 * size, dtype="f8").reshape(2, size)
    write_like_neupy(path, {"a": {"weight": values_of_a, "bias": np.ones(size)}})
    with read_hdf5(path) as data:
        stored = data["layers"][0]["parameters"]["weight"]["value"]
        assert repr(stored) == f"<StoredArray shape=(2, {size}) dtype=float64>"
        assert max(len(piece) for piece in stored.pieces()) * 8 <= 1 << 20
        np.testing.assert_array_equal(np.asarray(stored), values_of_a)
        assert np.asarray(stored, "f4").dtype == np.float32
    loaded = Input(2) >> Relu(size, weight=0, name="a")
    storage.load(loaded, path)
    np.testing.assert_array_equal(loaded["a"].weight.detach().numpy(), values_of_a.astype("f4"))


def test_autograd_knows_that_values_were_read(tmp_path):
    path, loaded = write_like_neupy(tmp_path / "file.hdf5", {"a": BOTH}), network("a")
    loss = (loaded(torch.ones(1, 2)) @ loaded["a"].weight).sum()
    storage.load(loaded, path)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_file_that_becomes_shorter(tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": {"weight": np.ones((2, 10**6)), "bias": np.ones(10**6)}})
    with read_hdf5(path) as data:
        with path.open("r+b") as file:
            file.truncate(10**6)
        with pytest.raises(InvalidFormat, match="became shorter while it was read"):
            np.asarray(data["layers"][0]["parameters"]["weight"]["value"])


# Malformed


@pytest.mark.parametrize("name", ["metadata", "graph", "layer_names"])
def test_missing_attributes_of_the_file(name, tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": BOTH})
    with h5py.File(path, "a") as file:
        del file.attrs[name]
    assert f"'/' has no attribute `{name}` with a text; it is no file of NeuPy's" in refused(path)


TEXTS = [5, 1.5, np.ones(3), "{", b"\xff", "[", "{}", '"a"', "[1]", '["b"]', '["a", "a/weight"]', '[["a"]]']
TEXTS += [h5py.Empty("f4")]


@pytest.mark.parametrize("value", TEXTS, ids=repr)
def test_wrong_attributes_of_the_file(value, tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": BOTH})
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = value
    refused(path)


@pytest.mark.parametrize("value", [["a"] * 3, np.array([b"[]", b"[]"]), np.zeros((1000, 1000), "i1"), 1j,
                                   np.array((1, 2.0), [("x", "i4"), ("y", "f4")])], ids=repr)  # fmt: skip
def test_attribute_that_is_no_single_value(value, tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": BOTH}, libver="latest")
    with h5py.File(path, "a") as file:
        file["a"].attrs["configs"] = value
    assert "no single text or number" in refused(path)


def test_missing_trainable(tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": BOTH})
    with h5py.File(path, "a") as file:
        del file["a/weight"].attrs["trainable"]
    assert "'/a/weight' has no attribute `trainable`" in refused(path)


CHUNKED = [{"chunks": (1, 2)}, {"compression": "gzip"}, {"shuffle": True}, {"maxshape": (None, 2)}]


@pytest.mark.parametrize("options", CHUNKED)
def test_chunks(options, tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": {"bias": BIAS}})
    with h5py.File(path, "a") as file:
        file["a"].create_dataset("weight", data=WEIGHT, **options).attrs["trainable"] = True
    assert "'/a/weight': the array is stored in chunks or compressed, as NeuPy never does; `h5repack" in refused(path)


def test_huge_declared_size(tmp_path):
    """A few bytes that declare a petabyte."""
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": {"bias": BIAS}})
    with h5py.File(path, "a") as file:
        file["a"].create_dataset("weight", shape=(2**25, 2**25), dtype="f4").attrs["trainable"] = True
    assert path.stat().st_size < 10_000
    assert "shape (33554432, 33554432) and float32 takes 4503599627370496 bytes" in refused(path)


@pytest.mark.parametrize("data", ["text", b"bytes", np.array([b"ab", b"cd"]), np.ones((2, 2), complex),
                                  np.array((1, 2.0), [("x", "i4"), ("y", "f4")]), h5py.Empty("f4"),
                                  np.void(b"opaque"), ["a", "b"]], ids=repr)  # fmt: skip
def test_arrays_that_are_no_numbers(data, tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": {"bias": BIAS, "weight": data}})
    refused(path)


def test_never_written(tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": {"bias": BIAS}})
    with h5py.File(path, "a") as file:
        file["a"].create_dataset("weight", shape=(2, 2), dtype="f4").attrs["trainable"] = True
    assert "takes 16 bytes from byte 18446744073709551615 on" in refused(path)


def test_values_in_another_file(tmp_path):
    (tmp_path / "secret").write_bytes(b"s" * 16)
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": {"bias": BIAS}})
    with h5py.File(path, "a") as file:
        made = file["a"].create_dataset("weight", (2, 2), "f4", external=[(tmp_path / "secret", 0, 16)])
        made.attrs["trainable"] = True
    refused(path)


LINKS = {
    "itself": h5py.SoftLink("/a"),
    "circle": h5py.SoftLink("/b"),
    "nowhere": h5py.SoftLink("/c/d"),
    "another file": h5py.ExternalLink("other.hdf5", "/a"),
}


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_links(link, tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"x": BOTH})
    with h5py.File(path, "a") as file:
        file["a"], file["b"] = link, h5py.SoftLink("/a")
        file.attrs["layer_names"] = '["a"]'
    refused(path)


def test_groups_in_a_circle(tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": BOTH})
    with h5py.File(path, "a") as file:
        file["a/again"] = file["a"]
        file["a/root"] = file["/"]
    loaded = network("a")
    storage.load(loaded, path)
    assert numbers(loaded) == [7, 8]
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = json.dumps(["a" + "/again" * 50_000])
    assert "read again and again" in refused(path)


def test_a_layer_a_thousand_times(tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": BOTH})
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = json.dumps(["a"] * 100_000)
    assert "read again and again" in refused(path)


def test_type_in_place_of_an_array(tmp_path):
    path = write_like_neupy(tmp_path / "file.hdf5", {"a": BOTH})
    with h5py.File(path, "a") as file:
        file["a/type"] = np.dtype("f4")
    assert "'/a' holds 'type', which is no array" in refused(path)


def test_every_address_leads_to_every_other(tmp_path):
    """Wherever the file has an address, another one in its place: circles of every kind come to an end."""
    content = (FOLDER / "dense.hdf5").read_bytes()
    found = [struct.unpack_from("<Q", content, place)[0] for place in range(0, len(content) - 8, 8)]
    places = [8 * index for index, value in enumerate(found) if 90 < value < len(content) and value % 8 == 0]
    addresses = sorted({found[place // 8] for place in places})
    path, target = tmp_path / "file.hdf5", build(NETWORKS["dense"]["build"])
    assert len(places) > 20
    outcomes = set()
    for place in places:
        for address in addresses[:: len(addresses) // 12]:
            path.write_bytes(content[:place] + struct.pack("<Q", address) + content[place + 8 :])
            try:
                storage.load(target, path, ignore_missing=True)
                outcomes.add("loaded")
            except (InvalidFormat, ParameterLoaderError) as error:
                outcomes.add(type(error).__name__)
    assert outcomes == {"loaded", "InvalidFormat", "ParameterLoaderError"}


# What reading may cost


@pytest.mark.parametrize("name", NETWORKS)
def test_recorded_files_stay_far_below_the_bound(name):
    with (FOLDER / f"{name}.hdf5").open("rb") as file:
        bounded: Any = hdf5_reading.BoundedFile(file)
        allowed = bounded.left
        hdf5_reading.read_network(bounded)
        assert bounded.left > 0.75 * allowed


def test_bounded_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    with path.open("rb") as file:
        bounded = hdf5_reading.BoundedFile(file)
        assert (bounded.seek(10), bounded.tell(), bounded.read(2)) == (10, 10, b"\n\x0b")
        assert bounded.seek(-1, 2) == 99
        assert (bounded.read(), bounded.read(5)) == (b"c", b"")
        for position in (101, -1, 2**64):
            with pytest.raises(InvalidFormat, match=rf"refers to byte {position}, but has 100"):
                bounded.seek(position)
        bounded.seek(0)
        with bounded.at_most(100):
            bounded.read(30)
            with pytest.raises(InvalidFormat, match="again and again"):
                bounded.read(30)
