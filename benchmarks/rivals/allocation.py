"""The C library's memory, for us and for rivals in processes of their own.

As worker.py, this has to run on Python 3.6, and without torch.
"""

import ctypes
import sys

__all__ = ["keep_what_is_freed"]

# Numbers of glibc's malloc.h, and the largest values that it takes.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
LIMITS = {TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**28, MMAP_THRESHOLD: 2**25}


def keep_what_is_freed() -> bool:
    """Let freed memory stay with the process; tells whether the C library does so.

    By default glibc gives large blocks back, now or later, by what was done before. Who then asks for memory pays for
    new pages, up to a third of the time of a layer of images: that is not to depend on who came before.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in LIMITS.items())
