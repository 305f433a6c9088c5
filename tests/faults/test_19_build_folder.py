"""FAULTS.md row 19, for the steps of a build: full, read-only or left half-done."""

import errno
import os

import pytest

from gen.flow.step import discard_partial, run_step
from model.error import InputError


def step(folder, source, work):
    return run_step("a", folder, inputs={"a.in": source}, depends=1, outputs=["a.out"], work=work)


def good(place):
    (place / "a.out").write_text((place / "a.in").read_text().upper())
    return {"seconds": 1.0}


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_text("abc")
    return path


def test_full(tmp_path, source):
    """What was there stays, nothing half-written is left."""
    folder = tmp_path / "build"
    step(folder, source, good)

    def full(place):
        (place / "a.out").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place / "a.out"))

    source.write_text("other")
    with pytest.raises(InputError, match="build: no space left on device"):
        step(folder, source, full)
    assert sorted(path.name for path in folder.iterdir()) == ["a.out", "a.stamp.json"]
    assert (folder / "a.out").read_text() == "ABC"


def test_not_writable(tmp_path, source):
    with pytest.raises(InputError, match="/proc/build"):
        step(tmp_path.__class__("/proc/build"), source, good)


def test_folder_in_the_way(tmp_path, source):
    (tmp_path / "build" / "a.out" / "mine").mkdir(parents=True)
    with pytest.raises(InputError, match="build/a.out: is a folder"):
        step(tmp_path / "build", source, good)
    assert (tmp_path / "build" / "a.out" / "mine").is_dir()
    assert not list((tmp_path / "build").glob(".*"))


def test_leftovers(tmp_path, source):
    """Of a build that was killed: a work folder, and a file that was being written."""
    folder = tmp_path / "build"
    (folder / ".a.partial").mkdir(parents=True)
    (folder / ".a.partial" / "a.out").write_text("half")
    assert step(folder, source, good).outputs["a.out"].read_text() == "ABC"
    (folder / ".route-7.partial" / "deep").mkdir(parents=True)
    (folder / ".0123456789abcdef.partial").write_text("half")
    discard_partial(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["a.out", "a.stamp.json"]
