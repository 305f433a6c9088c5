"""What is installed, what is missing for which command, how to get it: ``qsdt doctor``."""

import argparse
from collections.abc import Sequence
import json
import sys

from gen.host import lines, look
from model.command import add_verbosity, ArgumentParser, called, main, next_step
from model.error import EXIT_OK, EXIT_TOOL_MISSING


__all__ = ["cli"]


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog=called("gen.doctor"),
        description="Tell what is installed, what is missing for which command and how to get it, "
                    "which tool of which version would be used and why, and whether a board is "
                    "connected. Nothing is changed and the network is not used.")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_verbosity(parser)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    found = look()
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(lines(found)))
    if not found["ok"]:
        return EXIT_TOOL_MISSING
    next_step("gen.verify", "--model", "qsdt_nano", "--forms", "integer,iss")
    return EXIT_OK


def cli(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if the base packages are there, else 3."""
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
