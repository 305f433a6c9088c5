"""What the everyday commands cost: `python tests/measure_speed.py [--before COMMIT] [--only NAME]`.

CPU seconds (user and system, children included) of configurations, of the second command that
finds the first one's plan, of compiling the simulator, and of a warm run on the virtual board;
with ``--before`` also of an earlier commit, in the same run, from a worktree that is removed
afterwards. Writes docs/results/speed.json and speed.md; with ``--only`` the other rows stay as they
were. Takes minutes; nothing else should run.
"""

import argparse
from dataclasses import replace
import hashlib
import json
import os
from pathlib import Path
import resource
import signal
import subprocess
import sys
import tempfile
import time

from record_digests import found, integer_network


ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "results" / "speed.json"

LIMIT = 600
"""CPU seconds after which a measurement is given up."""

DIMS = {5: (8, 16, 32, 40, 72), 4: (16, 32, 40, 72)}
"""Widths of the small network of the published layout, with and without those of stage 1."""

CONFIGURATIONS = {
    "qsdt_t": ("qsdt_t", "ulx3s-85f", None, 40),
    "qsdt_nano, 12F": ("qsdt_nano", "ulx3s-12f", None, 5),
    "qsdt_nano, 25F": ("qsdt_nano", "ulx3s-25f", None, 5),
    "qsdt_nano, 45F": ("qsdt_nano", "ulx3s-45f", None, 5),
    "qsdt_nano, 85F": ("qsdt_nano", "ulx3s-85f", None, 5),
    "published layout, dims 16/32/40/72, 8 heads, 96x96": ("small", "ulx3s-85f", 96, 30),
    "published layout, dims 16/32/40/72, 8 heads, 224x224": ("small", "ulx3s-85f", 224, 30),
}
"""{row: (network, board, image size, CPU seconds wanted)}"""


def cpu_seconds():
    """User and system time of this process and of its children that ended."""
    return sum(usage.ru_utime + usage.ru_stime for usage in
               map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def network_of(name, size):
    """An integer network by name; ``small`` has weights of seed 0."""
    if name != "small":
        return integer_network(name)
    from model.families.spec import MODELS
    from model.integer.export import export
    from model.integer.synthetic import synthetic_state

    base = MODELS["qsdt_t"]
    spec = replace(base, name="small", dims=DIMS[len(base.dims)], heads=8, image_size=size)
    return export(synthetic_state(spec, 0), spec)


def configure(name, board, size, plans=None):
    """Figures of a configuration, in this process."""
    from boards import find_board

    derive = found("gen.config.derive:derive", "gen.configure:derive")
    network = network_of(name, int(size or 0))
    started, options = cpu_seconds(), {}
    if plans:
        options["plans"] = found("gen.config.plans:Plans")(Path(plans))
    config, program = derive(find_board(board), network, {}, **options)
    return {"cpu_s": round(cpu_seconds() - started, 2),
            "payload": hashlib.sha256(program.payload.tobytes()).hexdigest(),
            "config": config.describe()}


def compile_simulator(cache):
    """Figures of the compiled simulator of qsdt_nano's core; a second one finds the library."""
    from boards import find_board

    derive = found("gen.config.derive:derive", "gen.configure:derive")
    core_class = found("sim.rtl.core:RtlCore", "sim.rtl:RtlCore")
    memory = found("sim.rtl.core:twin_memory", "sim.rtl:twin_memory")
    _, program = derive(find_board("ulx3s"), network_of("qsdt_nano", 0), {})
    figures = {}
    for row, latency in (("cpu_s", 2), ("second_cpu_s", 3)):
        started = cpu_seconds()
        core_class(program.config, memory=memory(program.memory_words, latency=latency),
                   cache=Path(cache))
        figures[row] = round(cpu_seconds() - started, 1)
    return figures


def measured(root, *arguments):
    """What a function of this file returns when it runs on the code in ``root``."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, __file__, "--measure", *map(str, arguments)], cwd=root,
                           env=environment, capture_output=True, text=True, check=False)
    if ended.returncode == -signal.SIGXCPU:
        return {"over_s": LIMIT}
    if ended.returncode:
        return {"failed": ended.stderr.strip().splitlines()[-1][:200]}
    return json.loads(ended.stdout.splitlines()[-1])


def virtual_run(root, folder):
    """Wall and CPU seconds of a warm run on the virtual board: the second of two."""
    command = [sys.executable, "-m", "gen.run", "--board", "virtual", "--model", "qsdt_nano",
               "--count", "4"]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1",
                   "XDG_CACHE_HOME": str(folder)}
    for _ in range(2):
        wall, cpu = time.monotonic(), cpu_seconds()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        figures = {"wall_s": round(time.monotonic() - wall, 1),
                   "cpu_s": round(cpu_seconds() - cpu, 1)}
    return figures


def rows(roots, only):
    """(name, wanted, {which: figures}) of everything that is measured."""
    for name, (network, board, size, wanted) in CONFIGURATIONS.items():
        if only in f"configuration of {name}":
            yield f"configuration of {name}", wanted, {
                which: measured(root, "configure", network, board, size or "")
                for which, root in roots.items()}
    now = {"now": roots["now"]}
    for network in ("qsdt_t", "qsdt_nano"):
        name = f"configuration of {network} in a second command"
        if only in name:
            with tempfile.TemporaryDirectory() as folder:
                figures = [measured(now["now"], "configure", network, "ulx3s-85f", "", folder)
                           for _ in range(2)]
            if figures[0]["payload"] != figures[1]["payload"]:
                raise SystemExit(f"error: {name}: another program than the first")
            yield name, 3, {"now": figures[1]}
    if only in "simulator of qsdt_nano's core":
        found = {}
        for which, root in roots.items():
            with tempfile.TemporaryDirectory() as folder:
                found[which] = measured(root, "simulator", folder)
        yield "simulator of qsdt_nano's core, the first of all", "half", found
        yield "simulator of qsdt_nano's core, a further one", "half", {
            which: {"cpu_s": figures["second_cpu_s"]} for which, figures in found.items()
            if "second_cpu_s" in figures}
    if only in "run on the virtual board":
        with tempfile.TemporaryDirectory() as folder:
            yield "run --board virtual --model qsdt_nano --count 4, warm (wall)", 25, {
                "now": virtual_run(now["now"], folder)}


def shown(figures):
    """A cell of the table."""
    if not figures:
        return ""
    if "over_s" in figures:
        return f"over {figures['over_s']} (given up)"
    if "failed" in figures:
        return figures["failed"]
    if "wall_s" in figures:
        return f"{figures['wall_s']} (CPU {figures['cpu_s']})"
    return str(figures["cpu_s"])


def table(record):
    """Lines of docs/results/speed.md."""
    yield "# Speed of everyday commands"
    yield ""
    yield "CPU seconds (user and system, children included) on one core of the machine below; the"
    yield "figures of a row come from one run, each from a process of its own. The virtual"
    yield "board's row is wall time. The program of both has the same SHA-256 where it says equal."
    yield (f"`python tests/measure_speed.py --before {record['before'] or 'COMMIT'}` on "
           f"{record['machine']}.")
    yield ""
    yield "| what | before | now | wanted | program | commit |"
    yield "|---|---|---|---|---|---|"
    for name, row in record["rows"].items():
        before, now = (row["figures"].get(which) for which in ("before", "now"))
        payloads = [figures.get("payload") for figures in (before or {}, now or {})]
        equal = "" if None in payloads else "equal" if payloads[0] == payloads[1] else "another"
        yield (f"| {name} | {shown(before)} | {shown(now)} | {row['wanted']} | {equal} | "
               f"{row['commit']} |")


def git(*arguments):
    return subprocess.run(["git", "-C", ROOT, *arguments], check=True, capture_output=True,
                          text=True).stdout.strip()


def machine():
    """The processor's name, and how many there are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines
                 if line.startswith("model name")), "unknown processor")
    return f"{name}, {os.cpu_count()} cores"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--before", metavar="COMMIT", help="measure this commit, too")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with this in their name")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        sys.path.insert(0, os.getcwd())
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 10))
        what, *rest = arguments.measure
        print(json.dumps({"configure": configure, "simulator": compile_simulator}[what](*rest)))
        return
    commit = git("rev-parse", "--short", "HEAD")
    record = {"before": arguments.before, "machine": machine(), "rows": {}}
    if arguments.only and RECORD.is_file():
        kept = json.loads(RECORD.read_text())
        record |= {"rows": kept["rows"], "before": arguments.before or kept["before"]}
    with tempfile.TemporaryDirectory() as folder:
        roots = {"now": ROOT}
        if arguments.before:
            roots = {"before": Path(folder) / "before", **roots}
            git("worktree", "add", "--detach", str(roots["before"]), arguments.before)
        try:
            for name, wanted, figures in rows(roots, arguments.only):
                record["rows"][name] = {"wanted": wanted, "commit": commit, "figures": figures}
                print(f"{name}: " + ", ".join(f"{which} {shown(found)}"
                                              for which, found in figures.items()), flush=True)
        finally:
            if arguments.before:
                git("worktree", "remove", "--force", str(roots["before"]))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    RECORD.with_suffix(".md").write_text("\n".join(table(record)) + "\n")
    print(RECORD.with_suffix(".md").relative_to(ROOT))


if __name__ == "__main__":
    main()
