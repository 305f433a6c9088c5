"""RTL of a board's design: RTLIL, its identity, and pin constraints."""

from pathlib import Path
import resource
import time

from boards.spec import BoardSpec
from gen.flow.step import StepResult
from model.files import digest_file, digest_of, write_atomic


__all__ = ["identity_of", "read_identity", "write_rtl"]


MODULE = """\
module \\identity
  wire width 32 output 0 \\value
  connect \\value 32'{value:032b}
end
"""
"""The constant that a board's top has as an instance; last in ``top.il``."""


def identity_of(rtlil: str, constraints: str, *, board: BoardSpec, core_clock_hz: int,
                sdram_clock_hz: int | None, config: object) -> int:
    """Identity of a design, ``Register.IDENTITY`` of its bitstream: 32 bits, never 0.

    The first four bytes of the SHA-256 of the RTL without the constant itself, of pins, board and
    clocks, and of the configuration (plain data). Nothing else: not folder, commit or tools, and
    none of what synthesis and routing are asked to do.
    """
    digest = digest_of({"rtl": rtlil, "constraints": constraints, "board": board.name,
                        "clocks": [core_clock_hz, sdram_clock_hz], "config": config})
    return int(digest[:8], 16) or 1


def read_identity(text: str) -> tuple[str, int]:
    """The RTL in a ``top.il`` without the constant, and the constant.

    Raises
    ------
    ValueError
        There is no constant at its end.
    """
    start = text.rfind("module \\identity\n")
    digits = text[start:].rpartition("32'")[2][:32]
    if start < 0 or set(digits) - set("01") or text[start:] != MODULE.format(value=int(digits, 2)):
        raise ValueError("has no constant with the design's identity at its end")
    return text[:start], int(digits, 2)


def write_rtl(board: BoardSpec, shell, folder: Path, *, core_clock_hz: int,
              sdram_clock_hz: int | None = None, config: object = None) -> StepResult:
    """Elaborate ``shell`` in the board's top and write ``top.il`` and ``top.lpf``.

    Files whose content has not changed are left alone. The RTLIL carries no source positions: they
    would make it, and every digest after it, depend on where the repository lies.
    ``data["identity"]`` is :func:`identity_of` the design, of which ``config`` is a part.
    """
    started = time.monotonic()
    board.check_core_clock(core_clock_hz)
    top = board.top(shell, core_clock_hz=core_clock_hz, sdram_clock_hz=sdram_clock_hz)
    # prepare() alone: build() would look for tools that we find ourselves.
    plan = board.platform().prepare(top, emit_src=False)
    rtlil, constraints = (content if isinstance(content, str) else content.decode()
                          for content in (plan.files["top.il"], plan.files["top.lpf"]))
    identity = identity_of(rtlil, constraints, board=board, core_clock_hz=core_clock_hz,
                           sdram_clock_hz=sdram_clock_hz, config=config)
    outputs = {}
    reused = True
    for name, text in (("top.il", rtlil + MODULE.format(value=identity)),
                       ("top.lpf", constraints)):
        path = outputs[name] = Path(folder) / name
        if not path.is_file() or path.read_bytes() != text.encode():
            write_atomic(path, text)
            reused = False
    seconds = time.monotonic() - started
    # Elaboration runs in this process, so this peak includes whatever ran here before.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return StepResult(name="rtl", digest=digest_of([digest_file(p) for p in outputs.values()]),
                      outputs=outputs, reused=reused,
                      data={"seconds": seconds, "cpu_seconds": seconds, "peak_mb": peak_mb,
                            "identity": identity})
