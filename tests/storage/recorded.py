"""Files that the real NeuPy 0.8.2 wrote, and what its networks computed with them: tests/golden/files.

``manifest.json`` has the networks, each with the source that builds it and its variables, and the loads into other
networks. What a variable holds follows from its names and its shape, as ``variable_value`` says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch

from torchneupy import init, layers, storage

FOLDER = Path(__file__).parents[1] / "golden" / "files"
MANIFEST: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text())
NETWORKS: dict[str, dict[str, Any]] = {entry["id"]: entry for entry in MANIFEST["networks"]}
LOADERS = {
    ".hdf5": storage.load_hdf5,
    ".json": storage.load_json,
    ".pickle": storage.load_pickle,
    ".safetensors": storage.load_safetensors,
}
SAVERS = {
    ".hdf5": storage.save_hdf5,
    ".json": storage.save_json,
    ".pickle": storage.save_pickle,
    ".safetensors": storage.save_safetensors,
}


def build(source: str) -> Any:
    names = {name: getattr(layers, name) for name in layers.__all__}
    return eval(source, {**names, "np": np, "init": init})


def load(network: Any, path: Path, **arguments: Any) -> None:
    LOADERS[path.suffix](network, path, **arguments)


def variable_value(key: str, shape: tuple[int, ...]) -> Any:
    """What the variable ``layer/variable`` of NeuPy's networks held when the files were written.

    The stream of numpy's RandomState is fixed for ever.
    """
    normal = np.random.RandomState(crc32(key.encode())).standard_normal(shape)
    variable = key.rsplit("/", 1)[1]
    if variable == "running_inv_std":
        value = 0.7 * np.exp(0.1 * normal)
    elif variable == "gamma":
        value = 1 + 0.1 * normal
    elif variable in ("bias", "beta", "running_mean"):
        value = 0.1 * normal
    else:
        value = normal * np.sqrt(2 / np.prod(shape[:-1]))
    return value.astype(np.float32)


def fill(network: Any) -> None:
    """Give a network the values that NeuPy's had."""
    with torch.no_grad():
        for (layer, name), variable in network.variables.items():
            variable.copy_(torch.as_tensor(variable_value(f"{layer.name}/{name}", tuple(variable.shape))))


def values(network: Any) -> dict[str, Any]:
    return {f"{layer.name}/{name}": v.detach().clone() for (layer, name), v in network.variables.items()}


def arrays(name: str, prefix: str) -> list[Any]:
    with np.load(FOLDER / name) as data:
        return [data[key] for key in sorted(data.files) if key.startswith(prefix)]


def outputs(network: Any, inputs: list[Any]) -> list[Any]:
    with torch.no_grad():
        found = network.output(*inputs)
    return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]
