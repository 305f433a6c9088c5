"""Two measurements or builds side by side, or the numbers that texts state beside their records."""

from collections import Counter
from pathlib import Path
import sys

from gen.measurement.claims import check
from gen.measurement.comparison import compare
from gen.measurement.comparison_page import FILES, write_comparison
from gen.measurement.ledger import Ledger, TAGS
from gen.measurement.record import read_record
from gen.measurement.table import csv_text
from model.command import add_verbosity, ArgumentParser, called, main, next_step
from model.error import InputError, VerificationFailed
from model.files import check_folder, make_folder, write_atomic


__all__ = ["cli"]


CLAIMS = "claims.csv"


def _parser():
    parser = ArgumentParser(
        prog=called("gen.compare"), usage="%(prog)s [options] (A B | --claims FILE)",
        description="Put two measurements or builds side by side: every figure with how it was "
                    "obtained and the ratio, what they were made with where that differs, and "
                    "what cannot be compared, with the reason. With --claims, compare the "
                    "numbers that texts state with the records that they come from, and those "
                    "records with each other.")
    for name in "ab":
        parser.add_argument(name, type=Path, nargs="?", metavar=name.upper(),
                            help="a folder of qsdt measure or qsdt build, or its measure.json or "
                                 "report.json")
    parser.add_argument("--claims", type=Path, metavar="FILE",
                        help="a ledger, as docs/results/claims.yaml; exit status 1 if a number "
                             "does not hold")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help=f"folder for {' and '.join(FILES)}, or for {CLAIMS}")
    add_verbosity(parser)
    return parser


def _claims(arguments):
    """Check a ledger."""
    ledger = Ledger(arguments.claims)
    found = check(ledger)
    records = {record for claim in ledger.claims.values() if claim.record
               for record in claim.record.split(" and ")}
    without = sum(not place["record"] for place in found.places)
    print(f"{len(found.places)} numbers in {len(ledger.texts)} texts, {without} of them without "
          f"a record; {len(ledger.claims)} figures from {len(records)} records")
    tags = Counter(tag for place in found.places for tag in place["tag"].split(" against "))
    print("how obtained: " + ", ".join(f"{tag} {tags[tag]}" for tag in TAGS))
    if arguments.out:
        make_folder(arguments.out)
        write_atomic(arguments.out / CLAIMS, csv_text(found.places))
        print(f"table: {arguments.out / CLAIMS}")
    for failure in found.failures:
        print(failure)
    if found.failures:
        raise VerificationFailed(f"{arguments.claims}: {len(found.failures)} claims do not hold, "
                                 "see above; change the text, or make the record again")
    print("every one is that of its record, and records agree as far as the ledger says")
    next_step("gen.measure", "--board", "virtual", "--model", "qsdt_nano", "--count", 2)


def _run(arguments):
    if arguments.out:
        check_folder(arguments.out)
    if arguments.claims:
        if arguments.a:
            raise InputError("--claims needs no A and B: it names what it compares")
        _claims(arguments)
        return
    if not arguments.b:
        raise InputError("name two measurements or builds, A and B, or a ledger with --claims")
    found = compare(read_record(arguments.a), read_record(arguments.b))
    print("\n".join(found.lines()))
    if arguments.out:
        write_comparison(found, arguments.out, arguments.command_line)
        print(f"page: {arguments.out / FILES[0]}")
    next_step("gen.measure", "--board", found.b.settings["board"], "--model", found.b.model)


def cli(argv=None):
    """The command."""
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
