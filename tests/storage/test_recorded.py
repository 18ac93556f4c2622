"""Files that NeuPy 0.8.2 wrote load, and the networks compute what NeuPy computed with them.

tests/golden/files has the files; manifest.json says which network wrote each of them (``build``), and into which other
networks it loads by which arguments (``loads``).
"""

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch

from torchneupy import architectures, init, layers, storage
from torchneupy.exceptions import ParameterLoaderError

FOLDER = Path(__file__).parents[1] / "golden" / "files"
MANIFEST: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text())
LOADERS = {".hdf5": storage.load_hdf5, ".json": storage.load_json, ".pickle": storage.load_pickle}
NAMES = {name: getattr(layers, name) for name in layers.__all__}
NAMES |= {name: getattr(architectures, name) for name in architectures.__all__} | {"init": init, "np": np}


def build(source: str) -> Any:
    return eval(source, dict(NAMES))


def value_of(layer: str, variable: str, shape: Any) -> Any:
    """What the recorded network had in a variable."""
    normal = np.random.RandomState(crc32(f"{layer}/{variable}".encode())).standard_normal(shape)
    if variable == "running_inv_std":
        value = 0.7 * np.exp(0.1 * normal)
    elif variable == "gamma":
        value = 1 + 0.1 * normal
    elif variable in ("bias", "beta", "running_mean"):
        value = 0.1 * normal
    else:
        value = normal * np.sqrt(2 / np.prod(shape[:-1]))
    return value.astype(np.float32)


def computes_as_recorded(network: Any, file: str) -> None:
    with np.load(FOLDER / file) as data:
        inputs = [data[key] for key in sorted(data.files) if key.startswith("input")]
        expected = [data[key] for key in sorted(data.files) if key.startswith("output")]
    found = network.eval()(*inputs)
    found = found if isinstance(found, tuple) else (found,)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.detach().numpy(), other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("by", ["names", "order", "names_or_order"])
@pytest.mark.parametrize(
    "entry, file",
    [pytest.param(entry, file, id=file) for entry in MANIFEST["networks"] for file in entry["files"]],
)
def test_file(entry: dict[str, Any], file: str, by: str) -> None:
    network = build(entry["build"])
    if by == "names" and entry["id"] == "automatic":
        by = "order"  # NeuPy's automatic names depend on what was built before
    LOADERS[Path(file).suffix](network, FOLDER / file, load_by=by, skip_validation=False)
    found = {f"{layer.name}/{name}": value for (layer, name), value in network.variables.items()}
    assert [value.requires_grad for value in found.values()] == [trained for _, _, trained in entry["variables"]]
    for value, (key, shape, _) in zip(found.values(), entry["variables"], strict=True):
        layer, name = key.rsplit("/", 1)
        np.testing.assert_array_equal(value.detach().numpy(), value_of(layer, name, tuple(shape)))
    computes_as_recorded(network, entry["data"])


@pytest.mark.parametrize("suffix", LOADERS)
@pytest.mark.parametrize("entry", MANIFEST["loads"], ids=[entry["shows"] for entry in MANIFEST["loads"]])
def test_load_into_another_network(entry: dict[str, Any], suffix: str) -> None:
    network = build(entry["build"])
    before = {key: value.clone() for key, value in network.state_dict().items()}

    def load() -> None:
        LOADERS[suffix](network, FOLDER / f"{entry['file']}{suffix}", **entry["arguments"])

    if entry["result"] != "loaded":
        error = ParameterLoaderError if entry["result"] == "ParameterLoaderError" else ValueError
        with pytest.raises(error, match=r"name|shape|layers"):
            load()
        torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
        return
    load()
    if "output" in entry:
        computes_as_recorded(network, entry["output"])
    for (layer, name), value in network.variables.items():
        if f"{layer.name}/{name}" in entry.get("variables_loaded", ()):
            np.testing.assert_array_equal(value.detach().numpy(), value_of(layer.name, name, tuple(value.shape)))
