"""Planted faults: `python -m tests.mutation` says which tests of the default tier catch which.

Every fault of faults.py is put into a copy of the tree, and the default tier runs on it: tests of
the file's own stem first, then those of its folder, of its package, then the rest. The first
failure stops. Results go to docs/results/mutation.json after every fault, so that a run that was
interrupted goes on; a fault is run again when its text or its file has changed. `--list` only
checks that every fault still has its place in the sources.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
import hashlib
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import threading
import time

from tests.mutation.faults import FAULTS


ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs" / "results" / "mutation.json"
TABLE = RECORD.with_suffix(".md")

TIER = "not slow and not board"
"""The default tier, as README and CI run it."""

LIMIT_S = 600
"""Seconds for all tests of one fault."""

GROUPS = ("tests/faults", "tests/hw", "tests/sim", "tests/gen", "tests/model", "tests/boards",
          "tests/rtl", "tests/synth")


def key_of(fault):
    """What a result is valid for: the fault and the file that it is planted in."""
    text = (ROOT / fault.file).read_text()
    return hashlib.sha256(f"{fault.old}\0{fault.new}\0{text}".encode()).hexdigest()[:16]


def planted(fault):
    """Text of the file with the fault; raises ValueError where its place is not there once."""
    text = (ROOT / fault.file).read_text()
    if text.count(fault.old) != 1:
        raise ValueError(f"fault {fault.name}: its text stands {text.count(fault.old)} times in "
                         f"{fault.file}, not once")
    return text.replace(fault.old, fault.new)


def stages(fault):
    """Groups of test paths, the nearest first; no path comes twice."""
    path = Path(fault.file)
    package, *rooms = path.parent.parts
    mirror = Path("tests", package, *rooms)
    own = [mirror / f"test_{path.stem}.py", *map(Path, fault.tests)]
    folder = sorted((ROOT / mirror).glob("test_*.py"))
    rest = [found for group in (f"tests/{package}", *GROUPS)
            for found in sorted((ROOT / group).rglob("test_*.py"))]
    seen, result = set(), []
    for paths in (own, folder, rest):
        stage = []
        for found in paths:
            found = (ROOT / found).relative_to(ROOT)
            if (ROOT / found).is_file() and found not in seen:
                seen.add(found)
                stage.append(str(found))
        if stage:
            result.append(stage)
    return result


def copy_tree(folder):
    """All tracked files, in a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE,
                           check=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)


def run_tests(folder, paths, seconds):
    """(outcome, first failing test): "passed", "failed" or "timeout"."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider",
               "-m", TIER, *paths]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=max(1, seconds))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return "timeout", ""
    if process.returncode in (0, 5):    # 5: none of these tests is in the tier
        return "passed", ""
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    # Without a name where pytest itself broke off over the failure's traceback.
    return "failed", found[1] if found else f"{paths[0]} (pytest's exit {process.returncode})"


def check(fault, folder):
    """The result of one fault."""
    copy_tree(folder)
    (folder / fault.file).write_text(planted(fault))
    started = time.monotonic()
    outcome, test = "passed", ""
    for paths in stages(fault):
        left = LIMIT_S - (time.monotonic() - started)
        if left <= 0:
            outcome = "timeout"
            break
        outcome, test = run_tests(folder, paths, left)
        if outcome != "passed":
            break
    shutil.rmtree(folder, ignore_errors=True)
    return {"file": fault.file, "what": fault.what, "key": key_of(fault), "test": test,
            "caught": outcome == "failed", "outcome": outcome,
            "seconds": round(time.monotonic() - started, 1)}


def write_table(results):
    """The Markdown table of all results."""
    caught = sum(result["caught"] for result in results.values())
    lines = ["# Planted faults", "",
             "Made by `python -m tests.mutation`: each fault is put into a copy of the sources, "
             "and the default tier runs on it, the nearest tests first, for at most "
             f"{LIMIT_S // 60} minutes. Seconds are wall clock.", "",
             f"**{caught} of {len(results)} caught.**",
             "", "| fault | file | what is wrong | caught by | s |", "|---|---|---|---|---|"]
    for name, result in results.items():
        by = result["test"] if result["caught"] else f"**missed** ({result['outcome']})"
        lines.append(f"| {name} | {result['file']} | {result['what']} | {by} | "
                     f"{result['seconds']:.0f} |")
    TABLE.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.mutation",
                                     description=__doc__.split("\n")[0])
    parser.add_argument("--list", action="store_true", help="check places, run nothing")
    parser.add_argument("--only", metavar="TEXT", help="faults whose name or file holds TEXT")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="faults at once")
    parser.add_argument("--again", action="store_true", help="run those missed once more")
    arguments = parser.parse_args()
    results = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    todo = []
    for fault in FAULTS:
        if arguments.only and arguments.only not in f"{fault.name} {fault.file}":
            continue
        try:
            planted(fault)
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        known = results.get(fault.name, {})
        if known.get("key") != key_of(fault) or (arguments.again and not known["caught"]):
            todo.append(fault)
    print(f"{len(FAULTS)} faults, {len(todo)} to run")
    if arguments.list:
        return 0
    lock = threading.Lock()
    base = ROOT / "build" / "mutation"

    def work(fault):
        result = check(fault, base / fault.name)
        with lock:
            results[fault.name] = result
            order = {one.name: results[one.name] for one in FAULTS if one.name in results}
            RECORD.write_text(json.dumps(order, indent=1) + "\n")
            write_table(order)
            print(f"{fault.name}: {'caught by ' + result['test'] if result['caught'] else 'MISSED'}"
                  f" ({result['outcome']}, {result['seconds']:.0f} s)", flush=True)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(work, todo))
    missed = [name for name, result in results.items() if not result["caught"]]
    print(f"{len(results) - len(missed)} of {len(results)} caught"
          + (f"; missed: {', '.join(missed)}" if missed else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
