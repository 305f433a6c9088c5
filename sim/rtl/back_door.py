"""The back door of the virtual board: its memory filled at once, faults planted, copies made.

What goes over the link takes simulated time, and a fault has to come at a certain moment of it;
neither is any use over the link itself. Arrays are those of the core and of the memory behind it.
"""

from pathlib import Path
import re
import socket
import tempfile

import numpy as np


__all__ = ["BACK_DOOR", "BackDoor", "BackDoorError", "public_arrays"]


BACK_DOOR = Path(__file__).with_name("back_door.cpp")

_ARRAY = re.compile(r"(?m)^(  reg (?:\[\d+:0\] )?(?:\\\S+ |[\w$]+ )\s*\[\d+:0\]);")

_MODULE = re.compile(r"(?m)^module \\?(\S+)")

_INSIDE = "top.shell.core", "top.shell.memory"

_ANSWER_S = 60.0


class BackDoorError(Exception):
    """The simulator does not take an order."""


def public_arrays(text):
    """Verilog of a :class:`sim.rtl.virtual_board.VirtualTop` whose arrays a harness may reach:
    those of the core and of the memory behind it."""
    modules = _MODULE.split(text)
    parts = [modules[0]]
    for name, body in zip(modules[1::2], modules[2::2], strict=True):
        escaped = "\\" if "." in name else ""
        if name.startswith(_INSIDE):
            body = _ARRAY.sub(r"\1 /* verilator public_flat_rw */;", body)
        parts.append(f"module {escaped}{name}{body}")
    return "".join(parts)


class Control:
    """Lines to a simulator and back."""

    def __init__(self, sent, received):
        self._sent, self._received = sent, received

    def say(self, *words):
        try:
            self._sent.write(" ".join(map(str, words)) + "\n")
            self._sent.flush()
        except (OSError, ValueError):           # or it was stopped here
            raise BackDoorError("The simulator has ended") from None

    def line(self):
        """Words of the next line; none if there is none any more."""
        try:
            return self._received.readline().split()
        except (OSError, ValueError):
            return []


class BackDoor:
    """Orders to a running virtual board.

    Parameters
    ----------
    control : Control
    arrays : dict or None
        Of the board that it is a copy of.
    """

    def __init__(self, control, arrays=None):
        self._control = control
        self._arrays = arrays

    @property
    def arrays(self):
        """{name: (entries, bits)} of what :meth:`flip` reaches, in a fixed order."""
        if self._arrays is None:
            self._control.say("arrays")
            kind, *words = self._control.line() or [""]
            if kind != "ARRAYS":
                raise BackDoorError("The simulator has ended")
            self._arrays = {name: (int(entries), int(bits)) for name, entries, bits
                            in zip(words[::3], words[1::3], words[2::3], strict=True)}
        return self._arrays

    def _order(self, *words):
        self._control.say(*words)
        answer = self._control.line()
        if answer != ["OK"]:
            order = " ".join(map(str, words))
            raise BackDoorError(f"The simulator refuses {order!r}" if answer
                                else "The simulator has ended")

    def _number(self, array):
        return [*self.arrays].index(array)

    def load(self, array, values, first=0):
        """Put an array of NumPy integers, of the entries' size in bytes, at entry ``first``."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(np.ascontiguousarray(values).tobytes())
            file.flush()
            self._order("load", self._number(array), first, file.name)

    def forget(self, *arrays):
        """What a restart that calibrates the memory anew overwrites from now on, one block of 256
        entries in 16."""
        self._order("forget", *map(self._number, arrays))

    def decay(self):
        """Overwrite the same now, as in a short while without power."""
        self._order("decay")

    def identify(self, identity):
        """Set ``Register.IDENTITY``."""
        self._order("identity", identity)

    @property
    def planted(self):
        """How many faults have come about so far."""
        self._control.say("planted")
        kind, *count = self._control.line() or [""]
        if kind != "PLANTED":
            raise BackDoorError("The simulator has ended")
        return int(count[0])

    def flip(self, array, entry, bit):
        """A fault, for :meth:`plant`: another value of a bit."""
        return "flip", self._number(array), entry, bit

    def poke(self, array, entry, value):
        """A fault: the low 64 bits of an entry."""
        return "poke", self._number(array), entry, f"{int(value):x}"

    def plant(self, fault, *, byte=None, run=None, cycle=0):
        """Let a fault come about: now, or when the board has received ``byte`` more bytes, or in a
        cycle of a run, counted from 1 and from now (not at all if that ends before).

        A fault is that of :meth:`flip` or :meth:`poke`, or ``("restart", cause)``, or
        ``("die",)``: the process ends.
        """
        if byte is not None:
            self._order("at", "byte", byte, *fault)
        elif run is not None:
            self._order("at", "run", run, cycle, *fault)
        else:
            self._order("now", *fault)

    def copy(self):
        """Another board in the same state: a :class:`CopiedBoard`."""
        with (tempfile.TemporaryDirectory(prefix="qsdt-board-") as folder,
              socket.socket(socket.AF_UNIX) as listener):
            path = f"{folder}/control"
            listener.bind(path)
            listener.listen(1)
            listener.settimeout(_ANSWER_S)
            self._control.say("fork", path)
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                raise BackDoorError("The simulator makes no copy of itself") from None
        return CopiedBoard(connection, dict(self.arrays))


class CopiedBoard:
    """A copy of a virtual board, in a process of its own. Use as a context manager.

    Members
    -------
    url
        As of :class:`sim.rtl.virtual_board.VirtualBoard`.
    door : BackDoor
    """

    def __init__(self, connection, arrays):
        self._connection = connection
        self._files = connection.makefile("w"), connection.makefile("r")
        control = Control(*self._files)
        kind, *port = control.line() or [""]
        if kind != "PORT":
            self.stop()
            raise BackDoorError("The copy of the simulator did not start")
        self.url = f"socket://127.0.0.1:{port[0]}"
        self.door = BackDoor(control, arrays)

    def stop(self):
        """End the process; it sees its input closed. From any thread."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:                         # it is gone already
            pass
        for file in (*self._files, self._connection):
            try:
                file.close()
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()
