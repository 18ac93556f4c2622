"""NeuPy's pickle files, of which nothing is run.

A pickle is a program, and one that may call anything. Here it may name what is in ``ALLOWED`` and ``STAND_INS``, and
gets for these only what :class:`Callables` and :class:`StandIn` do: make arrays of numbers, and keep names.
"""

from __future__ import annotations

import io
import mmap
import pickle
import reprlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import numpy as np

from torchneupy.exceptions import InvalidFormat
from torchneupy.storage.dictionary import load_stored, save_dict
from torchneupy.storage.files import FilePath, about, mapped, plain, reading, replacing

__all__ = ["load_pickle", "read_pickle", "save_pickle"]

INITIALISERS = (
    "Constant",
    "HeNormal",
    "HeUniform",
    "Normal",
    "Orthogonal",
    "Uniform",
    "XavierNormal",
    "XavierUniform",
)
FUNCTIONS = (
    "abs",
    "add",
    "clip_by_value",
    "elu",
    "exp",
    "hard_sigmoid",
    "identity",
    "leaky_relu",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "reduce_logsumexp",
    "reduce_max",
    "reduce_max_v1",
    "reduce_mean",
    "reduce_mean_v1",
    "reduce_min",
    "reduce_min_v1",
    "reduce_prod",
    "reduce_prod_v1",
    "reduce_sum",
    "reduce_sum_v1",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "softmax",
    "softplus",
    "softsign",
    "sqrt",
    "square",
    "subtract",
    "tanh",
)
MODULES = ("array_ops", "clip_ops", "gen_array_ops", "gen_math_ops", "gen_nn_ops", "math_ops", "nn_impl", "nn_ops")

#: What NeuPy's files name besides arrays: initialisers, and functions of TensorFlow's.
STAND_INS = frozenset(
    {("neupy.init", name) for name in INITIALISERS}
    | {(f"tensorflow.python.ops.{module}", name) for module in MODULES for name in FUNCTIONS}
)


def save_pickle(network: Any, filepath: FilePath, python_compatible: bool = False) -> None:
    """Save a network's variables to a pickle file that NeuPy reads.

    Options are stored as text, unless they are numbers, texts or lists of these; the file refers to nothing but numpy's
    arrays.

    Parameters
    ----------
    network : LayerGraph
    filepath : path
        Replaced, if it exists, once the new file is complete.
    python_compatible : bool
        Whether Python 2 can read it. Defaults to ``False``.

    Raises
    ------
    TypeError, WeightInitializationError
        As for :func:`save_dict`.
    OSError
        If the file cannot be written; the old one is there still.
    """
    data = save_dict(network)
    for layer in data["layers"]:
        layer["configs"] = {name: plain(value) for name, value in layer["configs"].items()}
    with replacing(filepath) as file:
        ArrayPickler(file, protocol=2 if python_compatible else pickle.HIGHEST_PROTOCOL).dump(data)


class ArrayPickler(pickle.Pickler):
    """Writes arrays in a form that any version of numpy reads: its own one names modules that have moved."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray):
            return np.ndarray, (obj.shape, obj.dtype.str, obj.tobytes())
        return NotImplemented


def load_pickle(
    network: Any,
    filepath: FilePath,
    ignore_missing: bool = False,
    load_by: str = "names_or_order",
    skip_validation: bool = True,
) -> None:
    """Give a network the variables of a pickle file, of which nothing is run.

    Parameters
    ----------
    network, ignore_missing, load_by, skip_validation
        As for :func:`load_dict`.
    filepath : path

    Raises
    ------
    InvalidFormat
        If the file is none of NeuPy's pickles, or names anything that these do not; nothing has changed then.
    OSError, TypeError, ValueError, ParameterLoaderError, WeightInitializationError
        As for :func:`load_dict`, or if the file cannot be read.
    """
    with about(filepath):
        load_stored(network, read_pickle(filepath), ignore_missing, load_by)


def read_pickle(filepath: FilePath) -> Any:
    """What a pickle file holds."""
    with mapped(filepath) as content, reading(filepath, "pickle"):
        data = SafeUnpickler(content).load()
        fail_unless_arrays(data)
        return data


def fail_unless_arrays(data: Any) -> None:
    """Raise InvalidFormat if a value is nested: a few bytes of pickle can describe lists that nobody can count."""
    layers = data.get("layers") if isinstance(data, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        parameters = layer.get("parameters") if isinstance(layer, dict) else None
        for name, parameter in parameters.items() if isinstance(parameters, dict) else ():
            value = parameter.get("value") if isinstance(parameter, dict) else None
            if not isinstance(value, (np.ndarray, np.generic, int, float)):
                raise InvalidFormat(f"the parameter {name!r} is no array but {type(value).__name__}")


class StandIn:
    """Something that a file names and that is not here: it keeps its name and what it was given, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.given = args

    def __setstate__(self, state: Any) -> None:
        self.given = (state,)


class Callables:
    """Functions that a pickle may call, in a form to which it can do nothing else."""

    __slots__ = ("function",)
    function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "function", function)

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise pickle.UnpicklingError(f"it sets {name!r} of something that cannot change")

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("it changes something that cannot change")


def make_dtype(code: Any, *args: Any) -> np.dtype[Any]:
    if not isinstance(code, (str, bytes)) or len(code) > 8:
        raise pickle.UnpicklingError(f"it has arrays of the unusual type {reprlib.repr(code)}")
    dtype = np.dtype(code if isinstance(code, str) else code.decode("latin1"))
    if dtype.kind not in "biuf":
        raise pickle.UnpicklingError(f"it has arrays of the type {dtype}, not of real numbers")
    return dtype


def make_array(shape: Any, code: Any, content: Any) -> np.ndarray[Any, Any]:
    """What :class:`ArrayPickler` writes."""
    content = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(content, make_dtype(code)).reshape(shape)


def begin_array(kind: Any, shape: Any, code: Any) -> np.ndarray[Any, Any]:
    """An array to be filled by what follows in the pickle, hence an empty one."""
    if shape != (0,):
        raise pickle.UnpicklingError(
            f"it begins an array of the shape {reprlib.repr(shape)}, and fills it with nothing"
        )
    return np.empty(0, np.int8)


def array_of_bytes(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, np.dtype) or order not in ("C", "F"):
        raise pickle.UnpicklingError("it has an array of no type")
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def make_scalar(dtype: Any, content: Any) -> Any:
    if not isinstance(dtype, np.dtype):
        raise pickle.UnpicklingError("it has a number of no type")
    content = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(content, dtype, count=1)[0]


def encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "iso-8859-1"):
        raise pickle.UnpicklingError(f"it encodes by {reprlib.repr(encoding)}")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): make_dtype,
    ("numpy", "ndarray"): make_array,
    ("_codecs", "encode"): encode,
    ("collections", "OrderedDict"): OrderedDict,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", begin_array),
            ("multiarray", "scalar", make_scalar),
            ("numeric", "_frombuffer", array_of_bytes),
        )
    },
}


class SafeUnpickler(pickle._Unpickler):
    """Reads a pickle without running anything that it says.

    Python's own, and not the one in C: that one makes a table as long as the largest number that a file gives to
    something it wants to remember.
    """

    def __init__(self, content: mmap.mmap | io.BytesIO) -> None:
        super().__init__(content, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED:
            return Callables(ALLOWED[module, name])
        if (module, name) in STAND_INS:
            return type(name, (StandIn,), {"__module__": module})
        raise pickle.UnpicklingError(f"it names `{module}.{name}`, which NeuPy's files do not")

    def load_bytearray8(self) -> None:
        """As Python's, but no larger than what is there."""
        unpickler: Any = self
        size = int.from_bytes(unpickler.read(8), "little")
        content = unpickler.read(size)
        if len(content) < size:
            raise pickle.UnpicklingError(f"it ends after {len(content)} of {size} bytes")
        unpickler.append(bytearray(content))

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: load_bytearray8}

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError(f"it refers to something outside, {reprlib.repr(pid)}")

    def get_extension(self, code: int) -> NoReturn:
        raise pickle.UnpicklingError(f"it uses the extension {code}")
