"""Where a build comes from, beside what is here: commit, tools, and the RTL of this code."""

from pathlib import Path
import tempfile

from gen.flow.rtl import write_rtl
from gen.flow.toolchain import find_toolchain
from hw.register import identity_text
from model.code import commit
from model.error import InputError, ToolMissing


__all__ = ["check_rtl", "notes"]


def notes(build):
    """What differs between where a build was made and here: a line each.

    Neither makes the build another one, but what they say must be known of a proof.

    Parameters
    ----------
    build : gen.proof.build.Build
    """
    found = []
    here = commit()
    if build.report["commit"] != here:
        found.append(f"built by commit {build.report['commit']}, checked by the code of commit "
                     f"{here}")
    try:
        tools = find_toolchain().versions()
    except ToolMissing:
        tools = {}
    for name, tool in build.report["tools"].items():
        if tools.get(name) != tool:
            other = tools.get(name)
            found.append(f"built with {name} {tool['version']} ({tool['origin']}), here is "
                         + (f"{other['version']} ({other['origin']})" if other else "none"))
    return found


def check_rtl(build, design, shell):
    """Refuse a build whose RTL is not that of this code: runs of the two prove nothing.

    Parameters
    ----------
    build : gen.proof.build.Build
    design : gen.api.Design
    shell : component
        What is synthesised of it.

    Raises
    ------
    InputError
        Naming both identities and commits.
    """
    config = design.config
    with tempfile.TemporaryDirectory() as folder:
        result = write_rtl(design.board, shell, Path(folder),
                           core_clock_hz=config.clock_hz, sdram_clock_hz=config.sdram_clock_hz,
                           config=config.to_dict())
    identity = result.data["identity"]
    if identity != build.identity:
        raise InputError(
            f"{build.folder}: is design {identity_text(build.identity)}, built by commit "
            f"{build.report['commit']}; the RTL of this code (commit {commit()}) is "
            f"{identity_text(identity)}: check that commit out, or build again: "
            f"{build.report['command']}")
