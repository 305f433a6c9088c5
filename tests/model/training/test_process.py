"""model.training.process: threads, tiny numbers, memory that stays."""

import platform
import subprocess
import sys

import pytest
import torch

from model.training import process


torch.set_num_threads(1)

FAULTS = """
import resource
import torch
from model.training.process import prepare

if {kept}:
    prepare(1)
assert not {kept} or torch.get_num_threads() == 1
assert not {kept} or torch.tensor([1e-40]).mul(1.0).item() == 0
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64 << 18)    # 64 MB
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_of_a_step_before_is_used_again():
    """The pages of a large tensor are new each time, unless memory is kept."""
    new, kept = (int(subprocess.run([sys.executable, "-c", FAULTS.format(kept=kept)],
                                    capture_output=True, text=True, check=True).stdout)
                 for kept in (False, True))
    assert kept < 16 <= new


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(process.ctypes, "CDLL", lambda name: object())
    assert not process.keep_memory()
    monkeypatch.setattr(process.sys, "platform", "darwin")
    assert not process.keep_memory()
