"""Plans of earlier searches, so that a second command need not search again.

A plan is what a search decided: the configuration, and what the compiler chose. The program is
compiled from it in a second or two, and is the same to the bit. Plans lie under the digest of all
that they depend on: the network, the board, the overrides and the code.
"""

from dataclasses import asdict, fields
import json
import logging
from pathlib import Path

from gen.compile.compiler import compile_plan
from gen.config.spec import AcceleratorConfig
from hw.config import CoreConfig
from model.code import code_digest
from model.error import InputError
from model.files import digest_of, make_folder, write_atomic


__all__ = ["Plans"]


log = logging.getLogger(__name__)

KEPT = 200
"""Plans in the folder at most, of some kilobytes each; the oldest go first."""


class Plans:
    """Plans in a folder.

    A folder that cannot be read or written, and a file that is damaged, only cost a new search.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder):
        self._folder = Path(folder)

    def path(self, board, network, overrides):
        """Where the plan of a search lies: arguments as for :func:`gen.config.derive.derive`."""
        described = {field.name: repr(value) for field in fields(board)
                     if not callable(value := getattr(board, field.name))}
        return self._folder / (digest_of({
            "network": network.digest(), "board": described, "overrides": overrides,
            "code": code_digest("gen.config.derive", "gen.config.plans", "boards")}) + ".json")

    def read(self, path, network):
        """(AcceleratorConfig, Program) by the plan, or None."""
        try:
            kept = json.loads(path.read_text())
            plan = kept["plan"]
            if digest_of(plan) != kept["digest"]:
                raise ValueError("its digest is another")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.info("%s: not used (%s)", path, error)
            return None
        core = CoreConfig(**plan["config"]["core"])
        config = AcceleratorConfig(**plan["config"] | {"core": core})
        return config, compile_plan(network, config.core, plan["program"])

    def write(self, path, config, program):
        """Keep the plan of a search that led to this."""
        plan = {"config": asdict(config), "program": program.plan}
        try:
            make_folder(self._folder)
            write_atomic(path, json.dumps({"digest": digest_of(plan), "plan": plan}))
            for old in sorted(self._folder.glob("*.json"), key=lambda p: p.stat().st_mtime)[:-KEPT]:
                old.unlink(missing_ok=True)
        except (InputError, OSError) as error:
            log.info("The configuration is not kept for the next command: %s", error)
