"""What a process that trains sets once: threads, tiny numbers, and memory that it keeps."""

import ctypes
import sys

import torch


__all__ = ["keep_memory", "prepare"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_SETTINGS = {_MMAP_THRESHOLD: 1 << 30, _TRIM_THRESHOLD: (1 << 31) - 1, _TOP_PAD: 1 << 26}
"""Parameters of glibc's ``mallopt`` (malloc.h), in bytes."""


def prepare(threads: int) -> None:
    """Use so many threads, flush tiny numbers to 0, keep freed memory."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # tiny gradients would otherwise cost a trap each
    keep_memory()


def keep_memory() -> bool:
    """Have glibc keep freed memory instead of handing it back; whether it could be told.

    A step frees and takes again some hundred megabytes, and the kernel clears every page that it
    gives anew: 7 % of the time of a step of qsdt_nano.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    done = [set_option(option, value) for option, value in _SETTINGS.items()]
    return done == [1] * len(done)
