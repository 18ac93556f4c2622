"""How a variant is asked a part of the public contract, or a law."""

from __future__ import annotations

import contextlib

import pytest

from tests.contract.entry import Variant
from tests.contract.example import concrete
from tests.contract.laws import LAWS
from torchneupy.testing import check_layer
from torchneupy.testing.parts import PARTS

__all__ = ["ask", "is_kept"]


def ask(name: str, variant: Variant) -> None:
    """Raises where the variant does not keep the part or the law of this name."""
    if name in LAWS:
        LAWS[name](variant)
    else:
        shapes = concrete(variant, variant.typical_sizes())
        check_layer(variant.make, shapes, skip=[other for other in PARTS if other != name])


def is_kept(name: str, variant: Variant) -> bool:
    with contextlib.suppress(Exception, pytest.fail.Exception):  # a law may be broken in any way
        ask(name, variant)
        return True
    return False
