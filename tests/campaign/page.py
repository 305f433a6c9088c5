"""The page of a campaign: what each rung caught, and why others were not caught."""

from collections import Counter


RUNGS = ("lvs", "bitstream", "gate", "unknown")


def is_caught(fault, rungs):
    return any(fault[rung] for rung in rungs)


def rates(faults):
    """``[(where planted, faults, by each rung, with LVS off, with LVS on)]``."""
    rows = []
    for place in ("passes", "routed", "bitstream", "all"):
        group = [fault for fault in faults if place in ("all", fault["place"])]
        rows.append((place, len(group), *(sum(is_caught(fault, rungs) for fault in group)
                                          for rungs in (*((rung,) for rung in RUNGS), RUNGS[1:],
                                                        RUNGS))))
    return rows


def page(record):
    faults = record["faults"]
    yield "# Planted faults behind synthesis"
    yield ""
    yield (f"Made by `python -m tests.campaign --count {record['count']} --seed {record['seed']} "
           f"--seeds {record['seeds']}` on {record['model']} for {record['board']}, "
           f"bitstream SHA-256 `{record['bitstream']}`, in {record['seconds']} s.")
    yield ("A third of the faults lies between the netlist and placement, where our passes work, a "
           "third in the routed design, a third in the bitstream. Of the first two the bitstream "
           "is taken to follow faithfully.")
    unknown = (f"`unknown` are {record['seeds']} runs with random values where nothing defines one."
               if record["seeds"] else "`unknown` was not run.")
    yield (f"`gate` is a run of one image; {unknown} Of the faults in the bitstream these ran what "
           "the fault does to the routed design.")
    yield ""
    yield "| planted in | faults | `lvs` | `bitstream` | `gate` | `unknown` | LVS off | LVS on |"
    yield "|---|---|---|---|---|---|---|---|"
    for place, count, *caught, off, on in rates(faults):
        yield (f"| {place} | {count} | {' | '.join(map(str, caught))} | {_rate(off, count)} | "
               f"{_rate(on, count)} |")
    yield ""
    yield ("LVS off: `bitstream`, `gate` and `unknown`, of which only the last two look at what "
           "passes and routing did.")
    yield ""
    alone = [fault for fault in faults if fault["place"] == "bitstream"]
    yield (f"Of the {len(alone)} in the bitstream, {sum(fault['text'] for fault in alone)} differ "
           f"from what nextpnr wrote, and {sum(fault['design'] for fault in alone)} from the "
           "routed design itself.")
    yield ""
    yield from _kinds(faults)
    yield from _caught_at(faults)
    yield from _survivors(faults)


def _rate(caught, count):
    return f"{caught} ({100 * caught / max(count, 1):.1f} %)"


def _kinds(faults):
    yield "| kind | planted in | faults | LVS off | LVS on |"
    yield "|---|---|---|---|---|"
    counts = Counter((fault["kind"], fault["place"]) for fault in faults)
    for (kind, place), count in sorted(counts.items()):
        group = [fault for fault in faults if (fault["kind"], fault["place"]) == (kind, place)]
        off, on = (sum(is_caught(fault, rungs) for fault in group) for rungs in (RUNGS[1:], RUNGS))
        yield f"| {kind} | {place} | {count} | {off} | {on} |"
    yield ""


def _caught_at(faults):
    yield "## Where `gate` saw it"
    yield ""
    yield "| first difference | faults |"
    yield "|---|---|"
    places = Counter(_where(fault["gate"]["how"]) for fault in faults if fault["gate"])
    for place, count in places.most_common():
        yield f"| {place} | {count} |"
    yield ""


def _where(how):
    label, _, text = how.partition(": ")
    if "completion log" in text or "records" in text:
        return "a record of the completion log"
    if "loop" in text:
        return "a loop of gates does not come to rest"
    if "result" in text:
        return "the result"
    return {"counters": "the counters", "end": "the core is still busy"}.get(
        label, "answers before the run")


def _survivors(faults):
    yield "## Survivors with LVS on"
    yield ""
    found = [fault for fault in faults if not is_caught(fault, RUNGS)]
    if not found:
        yield "None: every fault is caught by a rung."
    yield from map(_line, found)
    yield ""
    yield "## Not caught by `gate` or `unknown`"
    yield ""
    yield ("Those in passes and routed design survive with LVS off; those in the bitstream are "
           "caught by the rung `bitstream`.")
    yield ""
    yield from (_line(fault) for fault in faults if not is_caught(fault, ("gate", "unknown")))
    yield ""
    yield "## Caught in the bitstream, but not by the routed design alone"
    yield ""
    hidden = [fault for fault in faults
              if fault["place"] == "bitstream" and fault["text"] and not fault["design"]]
    if not hidden:
        yield "None."
    for fault in hidden:
        yield f"- {fault['number']}, {fault['kind']}: {fault['what']}."


def _line(fault):
    return (f"- {fault['number']}, {fault['kind']} in {fault['place']}: {fault['what']}; "
            f"{why(fault)}.")


def why(fault):
    """Why the rungs gate and unknown did not see a fault."""
    if fault["why"]:
        return fault["why"]
    first, cycles = fault["stirred"]
    kind = fault["kind"]
    if kind == "block RAM word":
        return ("written before it is read" if not cycles else
                f"read in {cycles:,} cycles, the first {first:,}, before it is written; not used")
    if kind == "start value":
        return f"other for {cycles:,} cycles, until the register is written; not used before"
    if not cycles:
        return {
            "inverted enable": "whenever its enable changes nothing, the register holds what it "
                               "would load: this bit of its data is the same in the whole run",
            "wrong input": "what both inputs carry is the same whenever the register is enabled",
            "LUT bit": "the run never brings the LUT's inputs to this value, or a LUT-RAM is "
                       "written before it is read there",
            "open input": "the LUT does not depend on the input with the values that occur",
        }.get(kind, "with the values that occur in this run its cells put out the same")
    return (f"its cells put out another value in {cycles:,} cycles, the first {first:,}, which "
            "no record, counter, answer or result depends on in this run")
