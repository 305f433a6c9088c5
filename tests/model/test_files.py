from concurrent.futures import ThreadPoolExecutor

import pytest

from model import files
from model.error import InputError


def test_write_atomic(tmp_path):
    files.write_atomic(tmp_path / "x", "text")
    files.write_atomic(tmp_path / "x", b"bytes")
    assert (tmp_path / "x").read_bytes() == b"bytes"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    with pytest.raises(InputError, match="none/x: no such file or directory; check the name"):
        files.write_atomic(tmp_path / "none" / "x", "")


def enter(folder):
    with files.locked(folder, wait=True):
        return True


def test_lock(tmp_path):
    with files.locked(tmp_path / "new"):
        with pytest.raises(InputError, match="another build is running there; wait"):
            with files.locked(tmp_path / "new"):
                pass
    with ThreadPoolExecutor(1) as pool, files.locked(tmp_path / "new"):
        waiting = pool.submit(enter, tmp_path / "new")
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
    assert waiting.result(10)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: is a file; name a folder"):
        with files.locked(tmp_path / "file"):
            pass


def test_digests():
    assert files.digest_of({"a": 1, "b": 2}) == files.digest_of({"b": 2, "a": 1})
    assert files.digest_bytes(b"ab", b"c") != files.digest_bytes(b"a", b"bc")
