import io

import pytest

from gen import step
from gen.error import InputError, ToolFailed


class Work:
    """A step that copies its input and can be made to fail."""

    def __init__(self):
        self.runs = 0
        self.fail = False
        self.forget = False

    def __call__(self, place):
        self.runs += 1
        (place / "a.log").write_text("some words\n")
        (place / "a.out").write_text("partial")
        if self.fail:
            raise ToolFailed("tool broke", log=place / "a.log")
        (place / "a.out").write_text((place / "a.in").read_text().upper())
        if self.forget:
            (place / "a.out").unlink()
        return {"seconds": float(self.runs)}


@pytest.fixture
def build(tmp_path):
    (tmp_path / "source").write_text("abc")
    work = Work()

    def run(depends="1", **options):
        return step.run_step("a", tmp_path, inputs={"a.in": tmp_path / "source"}, depends=depends,
                             outputs=["a.out", "a.log", "maybe.log"], work=work, **options)
    return tmp_path, work, run


def test_reuse(build):
    folder, work, run = build
    first = run()
    assert not first.reused
    assert first.outputs["a.out"].read_text() == "ABC"
    assert "maybe.log" not in first.outputs
    again = run()
    assert again.reused and again.seconds == 1.0 and again.digest == first.digest
    assert again.outputs == first.outputs
    assert not run(force=True).reused
    assert not run(depends="2").reused
    (folder / "source").write_text("abd")
    assert not run(depends="2").reused
    (folder / "a.out").write_text("tampered")
    assert not run(depends="2").reused
    assert (folder / "a.out").read_text() == "ABD"
    (folder / "a.stamp.json").write_text("{")
    assert not run(depends="2").reused


def test_failure_keeps_good_outputs(build):
    folder, work, run = build
    run()
    work.fail = True
    (folder / "source").write_text("new")
    with pytest.raises(ToolFailed) as raised:
        run()
    assert (folder / "a.out").read_text() == "ABC"
    assert raised.value.log == folder / "a.failed.log"
    assert str(folder / "a.failed.log") in str(raised.value)
    assert (folder / "a.failed.log").read_text() == "some words\n"
    assert not list(folder.glob(".*partial"))
    work.fail = False
    run()
    assert not (folder / "a.failed.log").exists()


def test_missing_output(build):
    folder, work, run = build
    work.forget = True
    with pytest.raises(ToolFailed, match="Step a did not write a.out"):
        run()


def test_write_atomic(tmp_path):
    step.write_atomic(tmp_path / "x", "text")
    step.write_atomic(tmp_path / "x", b"bytes")
    assert (tmp_path / "x").read_bytes() == b"bytes"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    with pytest.raises(InputError, match="Cannot write"):
        step.write_atomic(tmp_path / "none" / "x", "")


def test_lock(tmp_path):
    with step.locked(tmp_path / "new"):
        with pytest.raises(InputError, match="Another build is running in"):
            with step.locked(tmp_path / "new"):
                pass
    with step.locked(tmp_path / "new"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write to"):
        with step.locked(tmp_path / "file"):
            pass


def test_digests():
    assert step.digest_of({"a": 1, "b": 2}) == step.digest_of({"b": 2, "a": 1})
    assert step.digest_bytes(b"ab", b"c") != step.digest_bytes(b"a", b"bc")


def test_progress_lines():
    out = io.StringIO()
    progress = step.Progress(2, out=out)
    with progress.step("one"):
        progress.update("never shown: too early")
        progress.note("reused")
    progress.interval_s = 0
    with pytest.raises(ValueError, match="x"):
        with progress.step("two"):
            progress.update("tail of the log")
            raise ValueError("x")
    assert out.getvalue().splitlines() == [
        "[1/2] one … 0 s  reused", "[2/2] two … 0 s  tail of the log", "[2/2] two … 0 s  failed"]


def test_progress_on_a_terminal(monkeypatch):
    out = io.StringIO()
    out.isatty = lambda: True
    progress = step.Progress(1, out=out)
    with progress.step("one"):
        progress.update("tail " * 100)
    lines = out.getvalue().split("\r\x1b[K")
    assert max(map(len, lines)) < 200
    assert lines[-1] == "[1/1] one … 0 s\n"


def test_progress_silent():
    progress = step.Progress(1, out=None)
    with progress.step("one"):
        progress.update("x")
