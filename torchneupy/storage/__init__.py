"""Files of weights: NeuPy's own, in HDF5, JSON and pickle, and safetensors.

A load changes all that it should or nothing, and runs nothing that a file says. A save leaves either the old file or
the new one.
"""

from __future__ import annotations

from torchneupy.exceptions import InvalidFormat, ParameterLoaderError
from torchneupy.storage.dictionary import load_dict, save_dict, validate_data_structure
from torchneupy.storage.hdf5 import load_hdf5, save_hdf5
from torchneupy.storage.json_files import load_json, save_json
from torchneupy.storage.pickle_files import load_pickle, save_pickle
from torchneupy.storage.safetensors_files import load_safetensors, save_safetensors

__all__ = [
    "InvalidFormat",
    "ParameterLoaderError",
    "load",
    "load_dict",
    "load_hdf5",
    "load_json",
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

# NeuPy's short names.
load = load_hdf5
save = save_hdf5
