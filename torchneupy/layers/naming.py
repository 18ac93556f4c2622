"""Names of layers, and the keys under which a network keeps them.

A layer's name is NeuPy's: automatic names and patterns count on for the whole process. A network's keys, which are
what ``state_dict`` shows, are numbered within the network, so that the same code always gives the same keys.
"""

from __future__ import annotations

import re
import string
import threading
from collections import defaultdict
from collections.abc import Container, Sequence
from functools import lru_cache
from typing import Any

__all__ = ["automatic_pattern", "escape_key", "is_pattern", "new_name", "reset_names"]

_lock = threading.Lock()
_next_number: defaultdict[str, int] = defaultdict(lambda: 1)


def reset_names() -> None:
    """Start all counters of names again.

    >>> reset_names()
    >>> new_name("fc{}"), new_name("fc{}")
    ('fc1', 'fc2')
    """
    with _lock:
        _next_number.clear()


@lru_cache(maxsize=1024)
def automatic_pattern(class_name: str) -> str:
    """The pattern of names for layers of a class that were given none.

    >>> automatic_pattern("DropBlock"), automatic_pattern("PRelu"), automatic_pattern("LSTM")
    ('drop-block-{}', 'p-relu-{}', 'lstm-{}')
    """
    return re.sub(r"(?<!^)(?=[A-Z][a-z_])", "-", class_name).lower() + "-{}"


def fields(name: str) -> list[tuple[str, str]]:
    """Field names and format specifications of a format string.

    Raises
    ------
    ValueError
        If the text is no format string.
    """
    try:
        return [(field, spec or "") for _, field, spec, _ in string.Formatter().parse(name) if field is not None]
    except ValueError as error:
        raise ValueError(f"The name {name!r} is not a valid pattern: {error}") from error


@lru_cache(maxsize=1024)
def is_pattern(name: str) -> bool:
    """Whether a name has a field for a number.

    >>> is_pattern("fc{}"), is_pattern("fc-{:03d}"), is_pattern("fc1"), is_pattern("{{fc}}")
    (True, True, False, False)
    """
    return bool(fields(name))


@lru_cache(maxsize=1024)
def format_string(pattern: str) -> str:
    """A pattern as a format string that gives different numbers different names.

    Raises
    ------
    ValueError
        If the pattern has more than one field, or a named one.
    """
    found = fields(pattern)
    if len(found) != 1:
        raise ValueError(
            f"Provided pattern has more than one field specified. Expected one `{{}}`, got {len(found)}. "
            f"Pattern: {pattern}"
        )
    field, spec = found[0]
    if field not in ("", "0"):
        raise ValueError(f"The field of a name pattern cannot have a name, got {field!r}. Pattern: {pattern}")
    zeros = re.fullmatch(r"(?:0[<^]|[<^]0|0[<^]0)(\d+)d?", spec)
    return pattern.replace(":" + spec, f":0{zeros[1]}d") if zeros else pattern


def format_pattern(pattern: str, number: int) -> str:
    """A pattern's name for a number.

    Zeros are always put before the number: Python itself, asked to align to the left, would put them behind it and
    give one name to 1, 10 and 100.

    >>> format_pattern("fc-{:<03d}", 1), format_pattern("fc-{:<03d}", 10)
    ('fc-001', 'fc-010')

    Raises
    ------
    ValueError
        If the pattern has more than one field, a named one, or one that cannot format a whole number.
    """
    text = format_string(pattern)
    try:
        return text.format(number)
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"Cannot put the number {number} into the pattern {pattern!r}: {error}") from error


def new_name(pattern: str) -> str:
    """The next name of a pattern; a name that is no pattern stays what it is.

    The counter moves only if formatting worked. Safe under threads.
    """
    if not is_pattern(pattern):
        return pattern
    with _lock:
        name = format_pattern(pattern, _next_number[pattern])
        _next_number[pattern] += 1
    return name


# A key cannot be an attribute of nn.Module or of a network. The list is frozen, so that a key never changes because
# a later version has more attributes; a test says when a public attribute is missing here.
# fmt: off
RESERVED_KEYS = frozenset((
    "T_destination", "add_module", "apply", "backward_graph", "bfloat16", "buffers", "call_super_init", "children",
    "compile", "cpu", "create_variables", "cuda", "double", "dump_patches", "dynamic_shapes", "end", "eval",
    "extra_repr", "float",
    "forward", "forward_graph", "get_buffer", "get_extra_state", "get_output_shape", "get_parameter", "get_params",
    "get_submodule", "half", "input_layers", "input_shape", "input_shapes", "inputs", "ipu", "is_built",
    "is_sequential", "layer", "layer_names_only", "layers", "load_state_dict", "modules", "mtia", "n_parameters",
    "named_buffers", "named_children", "named_modules", "named_parameters", "output", "output_layers",
    "output_shape", "output_shapes_per_layer", "outputs", "parameters", "predict", "register_backward_hook",
    "register_buffer", "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_load_state_dict_post_hook", "register_load_state_dict_pre_hook",
    "register_module", "register_parameter", "register_state_dict_post_hook", "register_state_dict_pre_hook",
    "requires_grad_", "set_extra_state", "set_submodule", "share_memory", "show", "start", "state_dict", "summary",
    "targets", "to", "to_empty", "train", "training", "training_outputs", "type", "variables", "xpu", "zero_grad",
))
# fmt: on


def escape_key(name: str) -> str:
    """A layer's name as a key that ``nn.Module`` accepts; different names give different keys.

    A name that is empty, has a dot, begins with ``_`` or ``@``, or is an attribute of every network, gets ``@`` put
    before it, and in it ``%`` and ``.`` become ``%25`` and ``%2E``. All other names stay as they are.

    >>> escape_key("relu-1"), escape_key("output"), escape_key("block.conv"), escape_key("")
    ('relu-1', '@output', '@block%2Econv', '@')
    """
    if name and "." not in name and name[0] not in "_@" and name not in RESERVED_KEYS:
        return name
    return "@" + name.replace("%", "%25").replace(".", "%2E")


class NameRequest:
    """What a layer wants to be called in a network: a literal name, or the next name of a pattern."""

    __slots__ = ("literal", "text")

    def __init__(self, text: str, literal: bool) -> None:
        self.text, self.literal = text, literal


def assign_keys(
    requests: Sequence[NameRequest], taken: Container[str] = (), numbers: dict[str, int] | None = None
) -> tuple[list[str], dict[str, int]]:
    """Keys for layers in topological order.

    Literal names claim theirs first; a repeated one gets a suffix. Patterns are then numbered in order, each from 1,
    skipping what is claimed.

    Parameters
    ----------
    requests : sequence of NameRequest
    taken : container of str
        Keys that cannot be used any more.
    numbers : dict or None
        The next number of each pattern, to go on from.

    Returns
    -------
    keys : list of str
    numbers : dict
        The next number of each pattern.
    """
    numbers = dict(numbers or {})
    keys: dict[int, str] = {}
    claimed: set[str] = set()

    def claim(index: int, key: str) -> bool:
        if key in claimed or key in taken:
            return False
        claimed.add(key)
        keys[index] = key
        return True

    literal = [index for index, request in enumerate(requests) if request.literal]
    repeated = [index for index in literal if not claim(index, escape_key(requests[index].text))]
    for index in repeated:
        suffix = 2
        while not claim(index, escape_key(f"{requests[index].text}-{suffix}")):
            suffix += 1
    for index, request in enumerate(requests):
        while index not in keys:
            number = numbers.get(request.text, 1)
            numbers[request.text] = number + 1
            claim(index, escape_key(format_pattern(request.text, number)))
    return [keys[index] for index in range(len(requests))], numbers


def name_request(layer: Any) -> NameRequest:
    """What a layer wants to be called; a name that was assigned later counts as literal."""
    pattern = getattr(layer, "_name_pattern", None)
    if pattern is not None and layer.name == getattr(layer, "_generated_name", None):
        return NameRequest(pattern, literal=False)
    return NameRequest(getattr(layer, "name", "") or "", literal=True)
