"""RTL of a board's design: RTLIL and pin constraints."""

from pathlib import Path
import resource
import time

from boards.spec import BoardSpec
from gen.flow.step import StepResult
from model.files import digest_file, digest_of, write_atomic


__all__ = ["write_rtl"]


def write_rtl(board: BoardSpec, shell, folder: Path, *, core_clock_hz: int,
              sdram_clock_hz: int | None = None) -> StepResult:
    """Elaborate ``shell`` in the board's top and write ``top.il`` and ``top.lpf``.

    Files whose content has not changed are left alone. The RTLIL carries no source positions: they
    would make it, and every digest after it, depend on where the repository lies.
    """
    started = time.monotonic()
    board.check_core_clock(core_clock_hz)
    top = board.top(shell, core_clock_hz=core_clock_hz, sdram_clock_hz=sdram_clock_hz)
    # prepare() alone: build() would look for tools that we find ourselves.
    plan = board.platform().prepare(top, emit_src=False)
    outputs = {}
    reused = True
    for name in ("top.il", "top.lpf"):
        content = plan.files[name]
        content = content.encode() if isinstance(content, str) else content
        path = outputs[name] = Path(folder) / name
        if not path.is_file() or path.read_bytes() != content:
            write_atomic(path, content)
            reused = False
    seconds = time.monotonic() - started
    # Elaboration runs in this process, so this peak includes whatever ran here before.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return StepResult(name="rtl", digest=digest_of([digest_file(p) for p in outputs.values()]),
                      outputs=outputs, reused=reused,
                      data={"seconds": seconds, "cpu_seconds": seconds, "peak_mb": peak_mb})
