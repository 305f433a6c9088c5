"""Fuzzed inputs: `python -m tests.fuzz --count 20000` feeds every parser through its command.

A warm parent forks a child for every input, with limits on memory and time. The child runs the
real command and stops where the long work would begin. What may come out: the input is accepted,
or one line on stderr and exit status 1. Everything else is a finding: a traceback, a status that
means something else, more than 10 s, more than 2 GB, or an input that was changed and accepted
although its format says what it must hold. Input number n of a target depends on the seed, the
target and n alone: `--target T --only N` runs it again, and `--keep DIR` saves the findings.
"""

import argparse
from collections import Counter
import math
import os
from pathlib import Path
import random
import resource
import select
import signal
import sys
import tempfile
import time
import traceback

from tests.fuzz.targets import Accepted, Changed, TARGETS


SECONDS = 10
MEMORY = 2 << 30
"""What a command may take for an input that it refuses, beside what the parent already has."""

ACCEPTED, CHANGED, TRACEBACK = 70, 71, 72


def _child(target, path, write):
    """Run the command; ends the process."""
    os.dup2(write, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    status = TRACEBACK
    try:
        status = target.run(path)
    except Accepted:
        status = ACCEPTED
    except Changed as change:
        print(f"changed: {change}", file=sys.stderr)
        status = CHANGED
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status or 0)


def _run(target, path):
    """(exit status or "hang", stderr text, seconds, peak bytes) of a child."""
    read, write = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _child(target, path, write)
    os.close(write)
    text, hung = b"", False
    while True:
        left = SECONDS - (time.monotonic() - started)
        ready, _, _ = select.select([read], [], [], max(0, left))
        part = os.read(read, 65536) if ready else b""
        if ready and not part:
            break
        text += part[:max(0, 65536 - len(text))]
        if left <= 0:
            os.kill(pid, signal.SIGKILL)
            hung = True
            break
    os.close(read)
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return ("hang" if hung else code, text.decode("utf-8", "replace"),
            time.monotonic() - started, usage.ru_maxrss * 1024)


def _finding(outcome, text, peak, base):
    """What is wrong with an outcome, or ""."""
    if outcome == "hang":
        return "hang"
    if outcome == TRACEBACK or "Traceback (most recent call last)" in text:
        return "traceback"
    if outcome == CHANGED:
        return "silently changed"
    if peak > base + MEMORY:
        return "memory"
    if outcome not in (0, 1, ACCEPTED):
        return f"status {outcome}"
    if outcome == 1:
        lines = [line for line in text.splitlines()
                 if line.strip() and not line.startswith(("usage:", " "))]
        if not lines:
            return "no message"
        if len(max(lines, key=len)) > 2000:
            return "a message longer than 2,000 characters"
    return ""


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz",
                                     description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=2000, metavar="N",
                        help="inputs in all, shared out over the targets (default: %(default)s)")
    parser.add_argument("--seconds", type=float, metavar="S", help="stop after this time")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="default: %(default)s")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="repeatable")
    parser.add_argument("--only", type=int, metavar="N", help="this input of the target only")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="save inputs with findings here")
    arguments = parser.parse_args()
    names = arguments.target or list(TARGETS)
    started = time.monotonic()
    findings, table = [], {}
    with tempfile.TemporaryDirectory() as folder:
        targets = {name: TARGETS[name](Path(folder)) for name in names}
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        for name, target in targets.items():
            outcome, text, *_ = _run(target, target.valid())
            if outcome not in (0, ACCEPTED):
                print(f"{name}: the valid input is not accepted: {outcome} {text.strip()[-300:]}")
                return 1
        share = sum(1 / target.every for target in targets.values())
        numbers = ([arguments.only] if arguments.only is not None
                   else range(math.ceil(arguments.count / share)))
        done = 0
        for number in numbers:
            for name, target in targets.items():
                if arguments.seconds and time.monotonic() - started > arguments.seconds:
                    break
                if arguments.only is None and number % target.every:
                    continue
                rng = random.Random(f"{arguments.seed} {name} {number}")
                path = target.make(rng)
                outcome, text, seconds, peak = _run(target, path)
                done += 1
                row = table.setdefault(name, Counter())
                row["accepted" if outcome in (0, ACCEPTED) else "refused"] += 1
                row["slowest ms"] = max(row["slowest ms"], round(1000 * seconds))
                row["most MB"] = max(row["most MB"], (peak - base) >> 20)
                wrong = _finding(outcome, text, peak, base)
                if wrong:
                    row["findings"] += 1
                    findings.append((name, number, wrong, text.strip().splitlines()[-1:]))
                    print(f"FINDING {name} --only {number}: {wrong}: "
                          f"{(text.strip().splitlines() or [''])[-1][:200]}", flush=True)
                    if arguments.keep and path.is_file():
                        arguments.keep.mkdir(parents=True, exist_ok=True)
                        (arguments.keep / f"{name}-{number}{path.suffix}").write_bytes(
                            path.read_bytes())
    print(f"seed {arguments.seed}: {done} inputs in {time.monotonic() - started:.0f} s, "
          f"{len(findings)} findings")
    for name, row in table.items():
        print(f"  {name:12} accepted {row['accepted']:5}  refused {row['refused']:5}  "
              f"findings {row['findings']:3}  slowest {row['slowest ms']:5} ms  "
              f"memory {row['most MB']:5} MB")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
