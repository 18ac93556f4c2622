"""NeuPy's notation for neural networks, running on PyTorch.

>>> from torchneupy.layers import *
>>> join(Input(10), Relu(5) >> Dropout(0.5), Relu(5) >> Dropout(0.5), Sigmoid(1))
(?, 10) -> [... 6 layers ...] -> (?, 1)
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["__version__", "architectures", "core", "distributed", "exceptions", "init", "layers", "storage"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # ``import torchneupy`` alone must not import torch: a module is loaded when it is first asked for.
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
