"""The operators that layers and networks share: ``>>``, ``|``, and NeuPy's old ``>``."""

from __future__ import annotations

import copy
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from torch import nn

if TYPE_CHECKING:
    from torchneupy.layers.network import LayerGraph

__all__ = ["BaseGraph"]

# What only TensorFlow had, and what to write instead.
GONE = {
    "inputs": "pass a tensor: network(x)",
    "targets": "pass tensors to a loss function of torch",
    "outputs": "network.output(x)",
    "training_outputs": "network.output(x, training=True)",
}


#: The functions that compose, which composition.py puts here: it makes networks of layers, and layers have operators.
COMPOSERS: dict[str, Callable[..., Any]] = {}


def compose(function: str, *operands: Any) -> Any:
    """Call one of the functions that compose, on operands that are layers, networks or modules."""
    if not all(isinstance(operand, nn.Module) for operand in operands):
        return NotImplemented
    return COMPOSERS[function](*operands)


class BaseGraph:
    """What can stand beside an operator: a layer or a network.

    ======== ======================= ==========================================================
    operator function                result
    ======== ======================= ==========================================================
    a >> b   ``join(a, b)``          the outputs of ``a`` feed the inputs of ``b``
    a | b    ``parallel(a, b)``      ``a`` and ``b`` side by side
    a > b    ``join(a, b)``          NeuPy's old spelling; ``a > b > c`` works, ``>>`` is better
    ======== ======================= ==========================================================

    ``>>`` binds tighter than ``|``, which binds tighter than ``>``. No operator changes what stands beside it but for
    the variables that a layer gets when its input shape becomes known.
    """

    def __rshift__(self, other: Any) -> LayerGraph:
        return compose("join", self, other)  # type: ignore[no-any-return]

    def __rrshift__(self, other: Any) -> LayerGraph:
        return compose("join", other, self)  # type: ignore[no-any-return]

    def __or__(self, other: Any) -> LayerGraph:
        return compose("parallel", self, other)  # type: ignore[no-any-return]

    def __ror__(self, other: Any) -> LayerGraph:
        return compose("parallel", other, self)  # type: ignore[no-any-return]

    def __gt__(self, other: Any) -> LayerGraph:
        return _chain.extend(self, other, sys._getframe(1))  # type: ignore[no-any-return]

    def __lt__(self, other: Any) -> LayerGraph:
        # Called too for ``module > layer``, as nn.Module has no comparisons.
        return _chain.extend(other, self, sys._getframe(1))  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        if name in GONE:
            kind = type(self).__name__
            raise AttributeError(f"{kind} has no `{name}`, which belonged to TensorFlow; instead {GONE[name]}")
        if name != "_buffers" and name in self._buffers:
            # A compiler knows by this attribute that a tensor is a module's, whose sizes stay; nn.Module asks __dict__.
            return self._buffers[name]
        return super().__getattr__(name)  # type: ignore[misc]  # that of nn.Module

    def __sklearn_clone__(self) -> Self:
        """What scikit-learn copies in a search: all of it, as of any module, though there is ``get_params``."""
        return copy.deepcopy(self)

    def __bool__(self) -> bool:
        # Networks have a length, and an empty one would be false.
        _chain.keep(self)
        return True


def where(frame: FrameType) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where the expression that a frame is computing begins and ends, each as a line and a column."""
    positions = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    line, end_line, column, end_column = [position or 0 for position in positions]
    return (line, column), (end_line, end_column)


class Comparison:
    """A comparison ``left > right``: where it stands in a program, what it gave, and whether that was asked for truth.

    ``a > b > c`` is one expression, which Python evaluates as ``a > b and b > c``: it makes the first network, asks for
    its truth, drops it, and gives the second one.
    """

    def __init__(self, left: Any, right: Any, frame: FrameType) -> None:
        self.operands = weakref.ref(left), weakref.ref(right)
        self.frame = id(frame)
        self.instruction = frame.f_lasti
        self.begin, self.end = where(frame)
        self.result: weakref.ref[Any] | None = None
        self.kept: Any = None

    def is_open(self, frames: dict[int, FrameType]) -> bool:
        """Whether the program is still within the expression."""
        frame = frames.get(self.frame)
        if frame is None or frame.f_lasti <= self.instruction:
            return False
        begin, end = where(frame)
        return self.begin <= begin and end <= self.end

    def is_continued_by(self, other: Comparison) -> bool:
        """Whether the other one is the next comparison of the same chain."""
        left, right = (operand() for operand in self.operands)
        next_left, next_right = (operand() for operand in other.operands)
        is_same_expression = (self.frame, self.begin, self.end) == (other.frame, other.begin, other.end)
        # ``c < b < a`` comes here as ``b > c``, then ``a > b``.
        return self.kept is not None and is_same_expression and (right is next_left or left is next_right)


class Chain(threading.local):
    """Lets ``a > b > c`` join three layers.

    Each thread remembers the comparisons of the expressions that it is within, weakly. Python asks for the truth of a
    result only within a chain, and just there nothing else may hold it: from that moment it is kept, until the
    thread's next comparison outside that expression.
    """

    def __init__(self) -> None:
        self.open: list[Comparison] = []

    def keep(self, graph: BaseGraph) -> None:
        for comparison in self.open:
            if comparison.result is not None and comparison.result() is graph:
                comparison.kept = graph

    def extend(self, left: Any, right: Any, frame: FrameType) -> Any:
        joined = compose("join", left, right)
        if joined is NotImplemented:
            return joined
        comparison = Comparison(left, right, frame)
        frames: dict[int, FrameType] = {}
        outer: FrameType | None = frame
        while outer is not None:
            frames[id(outer)] = outer
            outer = outer.f_back
        self.open = [before for before in self.open if before.is_open(frames)]
        continued = [before for before in self.open if before.is_continued_by(comparison)]
        if continued:
            joined = compose("merge", continued[-1].kept, joined)
            self.open.remove(continued[-1])
        comparison.result = weakref.ref(joined)
        self.open.append(comparison)
        return joined


_chain = Chain()
