"""Files of networks: NeuPy's formats, HDF5, JSON, pickle and dictionaries, and safetensors.

``save`` and ``load`` are those of HDF5. A load is all or nothing, and runs nothing that a file contains; a save leaves
the old file or the new one, whatever happens meanwhile. ``inspect`` tells what a file holds, ``convert`` writes it in
another format, state dicts of ``torch.save`` among them. HDF5 needs the extra ``storage``.
"""

from __future__ import annotations

from torchneupy.storage.conversion import convert
from torchneupy.storage.errors import InvalidFormat, ParameterLoaderError
from torchneupy.storage.hdf5_format import load_hdf5, save_hdf5
from torchneupy.storage.inspection import inspect
from torchneupy.storage.json_format import load_json, save_json
from torchneupy.storage.loading import (
    load_dict,
    load_dict_by_names,
    load_dict_sequentially,
    load_layer_parameter,
    validate_data_structure,
)
from torchneupy.storage.pickle_format import load_pickle, save_pickle
from torchneupy.storage.safetensors_format import load_safetensors, save_safetensors
from torchneupy.storage.saving import extract_network, save_dict

__all__ = [
    "InvalidFormat",
    "ParameterLoaderError",
    "convert",
    "extract_network",
    "inspect",
    "load",
    "load_dict",
    "load_dict_by_names",
    "load_dict_sequentially",
    "load_hdf5",
    "load_json",
    "load_layer_parameter",
    "load_pickle",
    "load_safetensors",
    "save",
    "save_dict",
    "save_hdf5",
    "save_json",
    "save_pickle",
    "save_safetensors",
    "validate_data_structure",
]

save = save_hdf5
load = load_hdf5
