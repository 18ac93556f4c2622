"""Warnings that point to the user's line."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import torch

__all__ = ["warn_user"]

LIBRARIES = tuple(f"{folder}{os.sep}" for folder in (Path(__file__).parents[1], Path(torch.__file__).parent))


def warn_user(message: str) -> None:
    """Warn, pointing to the line outside this library and torch that led here."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(LIBRARIES):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
