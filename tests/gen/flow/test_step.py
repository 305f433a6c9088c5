import pytest

from gen.flow import step
from model.error import ToolFailed


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
