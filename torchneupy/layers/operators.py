"""The operators that layers and networks share: ``>>``, ``|``, and NeuPy's old ``>``."""

from __future__ import annotations

import sys
import threading
import weakref
from types import FrameType
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from torchneupy.layers.network import LayerGraph

__all__ = ["BaseGraph"]


def compose(function: str, *operands: Any) -> Any:
    """Call one of the functions of ``composition`` on operands that are layers, networks or modules."""
    # Composing makes networks of layers, and layers carry these operators: only at the call are all of them there.
    from torchneupy.layers import composition

    if not all(isinstance(operand, nn.Module) for operand in operands):
        return NotImplemented
    return getattr(composition, function)(*operands)


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

    def __bool__(self) -> bool:
        # Networks have a length, and an empty one would be false.
        _chain.keep(self)
        return True


class Comparison:
    """Where in a program a comparison stands: ``a > b > c`` is one expression, evaluated as ``a > b and b > c``."""

    def __init__(self, frame: FrameType) -> None:
        self.frame = id(frame)
        self.code = frame.f_code
        self.instruction = frame.f_lasti

    def position(self) -> Any:
        return list(self.code.co_positions())[self.instruction // 2]

    def is_continued_by(self, other: Comparison) -> bool:
        """Whether the other one is a later comparison of the same chain."""
        return (
            self.frame == other.frame
            and self.code is other.code
            and self.instruction < other.instruction
            and self.position() == other.position()
        )


class Chain(threading.local):
    """Lets ``a > b > c`` join three layers: Python drops the first comparison's result and returns the second's.

    Remembered is only the last comparison of a thread, weakly. Python asks for the truth of a result within a chain,
    and just there nothing else may hold it: from that moment it is kept, until the thread's next comparison.
    """

    result: weakref.ref[Any] | None = None
    right: weakref.ref[Any] | None = None
    comparison: Comparison | None = None
    kept: Any = None

    def keep(self, graph: BaseGraph) -> None:
        if self.result is not None and self.result() is graph:
            self.kept = graph

    def extend(self, left: BaseGraph, right: Any, frame: FrameType) -> Any:
        comparison = Comparison(frame)
        before, self.kept = self.kept, None
        chained = (
            before is not None
            and self.right is not None
            and self.right() is left
            and self.comparison is not None
            and self.comparison.is_continued_by(comparison)
        )
        self.result = self.right = self.comparison = None
        joined = compose("join", left, right)
        if joined is NotImplemented:
            return joined
        if chained:
            joined = compose("merge", before, joined)
        self.result, self.right, self.comparison = weakref.ref(joined), weakref.ref(right), comparison
        return joined


_chain = Chain()
