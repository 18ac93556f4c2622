"""Every file that NeuPy recorded loads, by name and by order, and its network computes what NeuPy's computed."""

import json

import numpy as np
import pytest
import torch

from tests.storage.recorded import (
    FOLDER,
    LOADERS,
    MANIFEST,
    NETWORKS,
    SAVERS,
    arrays,
    build,
    fill,
    load,
    outputs,
    values,
    variable_value,
)
from torchneupy import layers, storage
from torchneupy.layers.naming import reset_names
from torchneupy.storage.saving import plain

FILES = [(name, file) for name, entry in NETWORKS.items() for file in entry["files"]]


def assert_is_recorded(network, entry):
    found = values(network)
    assert list(found) == [key for key, _, _ in entry["variables"]]
    for key, shape, _ in entry["variables"]:
        np.testing.assert_array_equal(found[key], variable_value(key, tuple(shape)))
    assert_computes(network, entry["data"])


def assert_computes(network, data):
    computed, expected = outputs(network, arrays(data, "input")), arrays(data, "output")
    assert len(computed) == len(expected)
    for one, other in zip(computed, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("load_by", ["names", "order", "names_or_order"])
@pytest.mark.parametrize("name, file", FILES)
def test_file(name, file, load_by):
    network = build(NETWORKS[name]["build"])
    load(network, FOLDER / file, load_by=load_by)
    assert_is_recorded(network, NETWORKS[name])


def test_all_files_are_tried():
    assert {file for _, file in FILES} == {path.name for path in FOLDER.iterdir() if path.suffix in LOADERS} - {
        "manifest.json"
    }


@pytest.mark.parametrize("ending", SAVERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_saved_and_loaded_again(name, ending, tmp_path):
    network = build(NETWORKS[name]["build"])
    fill(network)
    SAVERS[ending](network, tmp_path / f"network{ending}")
    reset_names()
    again = build(NETWORKS[name]["build"])
    load(again, tmp_path / f"network{ending}", load_by="names")
    assert_is_recorded(again, NETWORKS[name])


# What torchneupy keeps as it was asked for, "avg", "add" and None, NeuPy replaces by TensorFlow's functions and by
# axes. The functions of recurrent layers are TensorFlow's there and torch's here. Deconvolution has no dilation here.
DIFFERING = {"function", "merge_function", "axes", "dilation", "ingate", "forgetgate", "outgate"}
DIFFERING |= {"cell", "resetgate", "updategate", "hidden_update"}


def differing(ours, theirs):
    """The options that two layers do not share, or have other values of."""
    ours = json.loads(json.dumps(ours))
    return {key for key in ours.keys() | theirs.keys() if key not in ours or ours[key] != theirs.get(key, KeyError)}


@pytest.mark.parametrize("name", NETWORKS)
def test_dictionary_is_that_of_the_file(name):
    """What ``save_dict`` tells of a network is what NeuPy told of it, but for who saved it, and when."""
    network = build(NETWORKS[name]["build"])
    fill(network)
    ours = storage.save_dict(network)
    with storage.json_format.read_json(FOLDER / f"{name}.json") as theirs:
        assert ours["graph"] == [(layer, targets) for layer, targets in theirs["graph"]]
        assert ours["metadata"].keys() == theirs["metadata"].keys()
        for one, other in zip(ours["layers"], theirs["layers"], strict=True):
            assert list(one) == list(other)
            assert (one["name"], one["class_name"]) == (other["name"], other["class_name"])
            assert list(one["parameters"]) == list(other["parameters"])
            for key, parameter in one["parameters"].items():
                assert parameter["trainable"] == other["parameters"][key]["trainable"]
                np.testing.assert_array_equal(parameter["value"], np.float32(other["parameters"][key]["value"]))
            assert differing(plain(one["configs"]), other["configs"]) <= DIFFERING


@pytest.mark.parametrize("ending", LOADERS.keys() - {".safetensors"})
@pytest.mark.parametrize("case", MANIFEST["loads"], ids=lambda case: case["shows"])
def test_load_into_another_network(case, ending):
    network = build(case["build"])
    before = values(network)
    if case["result"] != "loaded":
        with pytest.raises((storage.ParameterLoaderError, ValueError), match=f"{case['file']}{ending}: "):
            load(network, FOLDER / f"{case['file']}{ending}", **case["arguments"])
        assert all(torch.equal(before[key], value) for key, value in values(network).items())
        return
    load(network, FOLDER / f"{case['file']}{ending}", **case["arguments"])
    if "output" in case:
        assert_computes(network, case["output"])
    found = values(network)
    for key in case.get("variables_loaded", ()):
        np.testing.assert_array_equal(found[key], variable_value(key, tuple(found[key].shape)))
    untouched = found.keys() - set(case.get("variables_loaded", found))
    assert all(torch.equal(before[key], found[key]) for key in untouched)


def test_cases_use_every_layer_with_variables():
    used = {type(layer).__name__ for entry in NETWORKS.values() for layer in build(entry["build"]) if layer.variables}
    assert used >= {"BatchNorm", "Convolution", "Deconvolution", "Embedding", "GRU", "GroupNorm", "LSTM", "PRelu"}
    assert used <= set(layers.__all__)
