"""Unpickling that runs nothing.

Python's own unpickler, the one written in Python, whose table of opcodes is cut down to what NeuPy's files use. What a
file names is looked up in a closed list, and what is found there is ours: numpy itself never sees the file's
instructions, only the bytes of arrays whose sizes were checked.

Against files that are small and mean a lot: keys of dictionaries are texts, whose hashes nobody can foresee; what is
converted may not be larger, in sum, than the file; and a structure may not have more nodes than the file has bytes,
counting what is referred to twice twice.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
import struct
from collections.abc import Callable, Collection, Mapping
from io import BufferedIOBase
from typing import Any, ClassVar, NamedTuple

import numpy as np

from torchneupy.storage.errors import InvalidFormat, quoted

__all__ = ["CODES", "Builder", "Clamped", "Named", "Unpickler", "load_safely", "unpickle"]

# What protocols 2 to 5 need for containers, texts, numbers, arrays and named objects. Not among them, beside the text
# opcodes of protocol 0: INST, OBJ, NEWOBJ_EX, EXT1 to EXT4, PERSID, BINPERSID, sets, and buffers kept elsewhere.
ADMITTED = """
    PROTO FRAME STOP MARK POP POP_MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT
    BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS
    GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD
"""
CODES = {opcode.name: ord(opcode.code) for opcode in pickletools.opcodes}
NAMES = {code: name for name, code in CODES.items()}

INITIALIZERS = (
    "Constant HeNormal HeUniform Initializer InitializerWithGain Normal Orthogonal Uniform XavierNormal XavierUniform"
)
# Where TensorFlow 1 defines its functions, and those that can stand as an option of a layer: what reduces in
# GlobalPooling, what merges in Elementwise, and what activates in LSTM and GRU.
TENSORFLOW_MODULES = """
    tensorflow tensorflow.math tensorflow.nn tensorflow.python.framework.ops
    tensorflow.python.ops.array_ops tensorflow.python.ops.clip_ops tensorflow.python.ops.gen_array_ops
    tensorflow.python.ops.gen_math_ops tensorflow.python.ops.gen_nn_ops tensorflow.python.ops.math_ops
    tensorflow.python.ops.nn tensorflow.python.ops.nn_impl tensorflow.python.ops.nn_ops
"""
TENSORFLOW_FUNCTIONS = """
    abs accumulate_n acos acosh add add_n add_v2 asin asinh atan atan2 atanh ceil clip_by_value concat cos cosh crelu
    cumprod cumsum div div_no_nan divide elu erf exp expm1 floor floor_div floordiv floormod hard_sigmoid identity
    l2_normalize leaky_relu log log1p log_sigmoid log_softmax logical_and logical_or logsumexp matmul maximum minimum
    mod moments multiply negative norm pow real_div realdiv reciprocal reduce_all reduce_any reduce_logsumexp
    reduce_logsumexp_v1 reduce_max reduce_max_v1 reduce_mean reduce_mean_v1 reduce_min reduce_min_v1 reduce_prod
    reduce_prod_v1 reduce_std reduce_sum reduce_sum_v1 reduce_variance relu relu6 relu_layer rint round rsqrt selu
    sigmoid sign sin sinh softmax softmax_v2 softplus softsign sqrt square squared_difference stack subtract swish tan
    tanh truediv zero_fraction
"""

DTYPE = re.compile(r"[biuf]\d{1,2}", re.ASCII)
LARGEST_RANK, LARGEST_SIZE = 32, 1 << 40


class Named:
    """Stands for a class, an object or a function that a file names; it holds the name, and the object's attributes."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name
        self.state: dict[str, Any] = {}

    def build(self, state: Any) -> None:
        if type(state) is not dict:
            raise InvalidFormat(f"{self.module}.{self.name} should have a dictionary of attributes: {quoted(state)}")
        self.state = state

    def __repr__(self) -> str:
        if self.module != "neupy.init":
            return f"<function {self.name}>"
        known = {key: value for key, value in self.state.items() if type(value) in (int, float, str, bool)}
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in known.items())})"


class Builder(NamedTuple):
    """What takes the place of a function of numpy's: called with the unpickler and the arguments in the file."""

    call: Callable[..., Any]


class PendingDtype:
    """A dtype of which the byte order may follow."""

    def __init__(self, code: str) -> None:
        if type(code) is not str or not DTYPE.fullmatch(code):
            raise InvalidFormat(f"arrays should hold real numbers, got the dtype {quoted(code)}")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        match state:
            case (_, "<" | ">" | "=" | "|" as order, *_):
                self.dtype = self.dtype.newbyteorder(order)
            case _:
                raise InvalidFormat("a dtype has no byte order")


class PendingArray:
    """An array of which shape, dtype and values may follow."""

    array: np.ndarray[Any, Any] | None = None

    def __init__(self, unpickler: Unpickler) -> None:
        self.unpickler = unpickler

    def build(self, state: Any) -> None:
        if type(state) is not tuple or len(state) != 5:
            raise InvalidFormat("an array should have a version, a shape, a dtype, an order and values")
        _, shape, dtype, is_fortran, values = state
        if type(values) is str:  # written by Python 2
            values = encode(self.unpickler, values, "latin1")
        self.array = bytes_to_array(values, dtype, shape, "F" if is_fortran is True else "C")


def bytes_to_array(values: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    """Bytes as an array; nothing is copied."""
    if not isinstance(dtype, PendingDtype):
        raise InvalidFormat(f"an array should have a dtype, got {quoted(dtype)}")
    if type(values) is not bytes:
        raise InvalidFormat(f"the values of an array should be bytes, got {quoted(values)}")
    if type(shape) is not tuple or len(shape) > LARGEST_RANK:
        raise InvalidFormat(f"an array should have a shape, got {quoted(shape)}")
    if not all(type(size) is int and 0 <= size < LARGEST_SIZE for size in shape):
        raise InvalidFormat("the shape of an array is not made of sizes")
    expected = math.prod(shape) * dtype.dtype.itemsize
    if expected != len(values):
        raise InvalidFormat(f"an array of shape {shape} and {dtype.dtype} takes {expected} bytes, got {len(values)}")
    return np.frombuffer(values, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def make_array(unpickler: Unpickler, *args: Any) -> PendingArray:
    return PendingArray(unpickler)


def make_array_at_once(unpickler: Unpickler, *args: Any) -> np.ndarray[Any, Any]:
    values, dtype, shape, order = args
    return bytes_to_array(values, dtype, shape, order)


def make_scalar(unpickler: Unpickler, *args: Any) -> Any:
    dtype, values = args
    if type(values) is str:
        values = encode(unpickler, values, "latin1")
    return bytes_to_array(values, dtype, (), "C")[()]


def make_dtype(unpickler: Unpickler, *args: Any) -> PendingDtype:
    return PendingDtype(*args[:1])


def encode(unpickler: Unpickler, *args: Any) -> bytes:
    text, encoding = args
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise InvalidFormat(f"only text of latin1 can be turned into bytes, got {quoted(text)} and {quoted(encoding)}")
    unpickler.spend(len(text))
    return text.encode("latin1")


def make_no_bytes(unpickler: Unpickler) -> bytes:
    """What protocol 2 has in place of empty bytes."""
    return b""


FOUND: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): Builder(encode),
    ("__builtin__", "bytes"): Builder(make_no_bytes),
    ("numpy", "dtype"): Builder(make_dtype),
    ("numpy", "ndarray"): None,  # an argument of _reconstruct
}
for core in ("numpy.core", "numpy._core"):
    FOUND[f"{core}.multiarray", "_reconstruct"] = Builder(make_array)
    FOUND[f"{core}.multiarray", "scalar"] = Builder(make_scalar)
    FOUND[f"{core}.numeric", "_frombuffer"] = Builder(make_array_at_once)
NAMED = {("neupy.init", name) for name in INITIALIZERS.split()} | {
    (module, name) for module in TENSORFLOW_MODULES.split() for name in TENSORFLOW_FUNCTIONS.split()
}


class Clamped:
    """A file that never sets aside more memory than it can fill."""

    def __init__(self, file: BufferedIOBase) -> None:
        self.file, self.size = file, file.seek(0, 2)
        file.seek(0)

    def read(self, size: int) -> bytes:
        return self.file.read(min(size, self.size))

    def readline(self) -> bytes:
        return self.file.readline(self.size)


class Unpickler(pickle._Unpickler):
    """See the text of this module. Subclasses read other pickles by other tables."""

    #: Whose pickles these are, for messages; what takes the place of what they name; and names that are only kept.
    owner: ClassVar[str] = "NeuPy's files"
    found: ClassVar[Mapping[tuple[str, str], Any]] = FOUND
    named: ClassVar[Collection[tuple[str, str]]] = NAMED

    # What Python's class has, and its type hints lack.
    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        CODES[name]: pickle._Unpickler.dispatch[CODES[name]] for name in ADMITTED.split()
    }

    def __init__(self, file: Clamped) -> None:
        # Texts of Python 2 are bytes.
        super().__init__(file, encoding="latin1")
        self.left = self.size = file.size

    def spend(self, amount: int) -> None:
        """Count what is converted; it cannot be more than what the file has."""
        self.left -= amount
        if self.left < 0:
            raise InvalidFormat("the same text is turned into bytes again and again")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.named:
            return Named(module, name)
        if (module, name) not in self.found:
            raise InvalidFormat(
                f"the pickle asks for {quoted(f'{module}.{name}')}, which {self.owner} have no need of; nothing of it "
                f"was imported or run"
            )
        return self.found[module, name]

    def load_reduce(self) -> None:
        args = self.stack.pop()
        builder = self.stack[-1]
        if not isinstance(builder, Builder) or type(args) is not tuple:
            raise InvalidFormat(f"the pickle calls {describe(builder)}")
        self.stack[-1] = builder.call(self, *args)

    def load_newobj(self) -> None:
        args = self.stack.pop()
        cls = self.stack.pop()
        if not isinstance(cls, Named) or type(args) is not tuple or args:
            raise InvalidFormat(f"the pickle makes an object of {describe(cls)}")
        self.append(Named(cls.module, cls.name))

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, (Named, PendingDtype, PendingArray)):
            raise InvalidFormat(f"the pickle sets attributes of {describe(target)}")
        target.build(state)

    def load_setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self.set_items([key, value])

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.set_items(items)

    @staticmethod
    def is_key(value: Any) -> bool:
        """Whether a dictionary may have a key."""
        return type(value) is str

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        keys, values = items[::2], items[1::2]
        if type(target) is not dict or not all(map(self.is_key, keys)):
            raise InvalidFormat("keys of dictionaries should be text, and belong to dictionaries")
        target.update(zip(keys, values, strict=True))

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise InvalidFormat(f"the pickle appends to {describe(target)}")
        target.extend(items)

    def load_append(self) -> None:
        self.extend([self.stack.pop()])

    def load_appends(self) -> None:
        self.extend(self.pop_mark())

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(min(size, self.size)))


for name in ("REDUCE", "NEWOBJ", "BUILD", "SETITEM", "SETITEMS", "DICT", "APPEND", "APPENDS", "BYTEARRAY8"):
    Unpickler.dispatch[CODES[name]] = getattr(Unpickler, f"load_{name.lower()}")


def describe(value: Any) -> str:
    return f"{value.module}.{value.name}" if isinstance(value, Named) else quoted(value)


def fail_if_larger_than_file(data: Any, size: int) -> None:
    """Raise InvalidFormat if a structure, walked through, has more nodes than the file has bytes."""
    waiting, left = [data], size
    while waiting:
        node = waiting.pop()
        if type(node) is dict:
            node = list(node.values())
        elif isinstance(node, Named):
            node = list(node.state.values())
        left -= len(node)
        if left < 0:
            raise InvalidFormat("lists or dictionaries hold themselves, or each other many times")
        waiting += [child for child in node if type(child) in (list, tuple, dict) or isinstance(child, Named)]


def unpickle(unpickler: Unpickler) -> Any:
    """What an unpickler makes of its file.

    Raises
    ------
    InvalidFormat
        If the file asks for what is not admitted, which is not imported and not run.
    Exception
        If it is damaged.
    """
    try:
        data = unpickler.load()
    except KeyError as error:
        code = error.args[0] if error.args else None
        if isinstance(code, int) and code in NAMES and code not in unpickler.dispatch:
            raise InvalidFormat(
                f"the pickle uses the instruction {NAMES[code]}, which {unpickler.owner} have no need of; it was not "
                f"followed"
            ) from error
        raise
    if type(data) is dict:
        fail_if_larger_than_file(data, unpickler.size)
    return data


def load_safely(file: BufferedIOBase) -> Any:
    """The containers, numbers and texts of a pickle; arrays as arrays, all else that is admitted as :class:`Named`.

    Raises
    ------
    InvalidFormat, Exception
        As :func:`unpickle`.
    """
    return finish(unpickle(Unpickler(Clamped(file))))


def finish(data: Any) -> Any:
    """Put the arrays in their places, as far as the structure is that of a network."""
    layers = data.get("layers") if type(data) is dict else None
    for layer in layers if type(layers) is list else []:
        parameters = layer.get("parameters") if type(layer) is dict else None
        for parameter in parameters.values() if type(parameters) is dict else []:
            if type(parameter) is dict and isinstance(parameter.get("value"), PendingArray):
                parameter["value"] = parameter["value"].array
    return data
