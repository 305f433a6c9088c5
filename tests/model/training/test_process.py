"""model.training.process: threads, tiny numbers, memory that stays."""

import platform
import subprocess
import sys

import pytest
import torch

from model.training import process


torch.set_num_threads(1)

BYTES = """
import ctypes
import torch
from model.training.process import prepare

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]

info = ctypes.CDLL(None).mallinfo2
info.restype = Info
if {kept}:
    prepare(1)
assert not {kept} or torch.get_num_threads() == 1
assert not {kept} or torch.tensor([1e-40]).mul(1.0).item() == 0
before = info()
tensor = torch.ones(64 << 18)    # 64 MB
during = info()
del tensor
print(during.hblkhd - before.hblkhd, info().arena - during.arena)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_of_a_step_before_is_kept():
    """A large tensor is mapped by itself and handed back, unless memory is kept: then it is part of
    the heap, which does not shrink."""
    new, kept = ([int(count) for count in subprocess.run(
        [sys.executable, "-c", BYTES.format(kept=kept)],
        capture_output=True, text=True, check=True).stdout.split()] for kept in (False, True))
    assert new[0] >= 64 << 20
    assert kept == [0, 0]


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(process.ctypes, "CDLL", lambda name: object())
    assert not process.keep_memory()
    monkeypatch.setattr(process.sys, "platform", "darwin")
    assert not process.keep_memory()
