"""What is promised of every layer and every network, promise by promise.

Each part is a function of a :class:`Subject` that raises AssertionError, or anything, where the promise is not kept.
"""

from __future__ import annotations

from torchneupy.testing.parts import calls, gradients, places, programs, state
from torchneupy.testing.parts.table import Part

__all__ = ["PARTS", "Part"]

#: The parts by name, in the order in which they are asked.
PARTS: dict[str, Part] = {**calls.PARTS, **gradients.PARTS, **state.PARTS, **places.PARTS, **programs.PARTS}
