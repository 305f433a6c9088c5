"""Tasks: a function with plain arguments, a key that follows from both, and files it works on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
import gzip
from importlib import import_module
import inspect
from itertools import product
from pathlib import Path
import tempfile
from typing import Any

from model.code import code_digest
from model.error import InputError, os_error_text
from model.files import digest_bytes, digest_of


__all__ = ["NAMES", "Task", "run_packed", "tasks_over", "works_on"]


NAMES = {
    "route": "gen.work:route",
    "verify": "gen.work:verify",
    "predict": "gen.work:predict",
}
"""Short names of functions. Any other function is named ``module:function``."""

FOLDER = "folder"
"""Parameter of functions that work on files: a folder with a copy of those that the function's
attribute ``files`` names."""


def works_on(*files: str) -> Callable[[Callable], Callable]:
    """A decorator: the function takes ``folder``, a folder with copies of these files."""
    def mark(function: Callable) -> Callable:
        vars(function)["files"] = files
        return function

    return mark


def _function(name: str) -> Callable[..., dict[str, Any]]:
    """The function that a task names."""
    module, _, attribute = NAMES.get(name, name).partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, ValueError, AttributeError):
        raise InputError(f"No task {name!r}: tasks are {', '.join(NAMES)}, or any function as "
                         "module:function") from None
    if not callable(found):
        raise InputError(f"Task {name!r} is no function")
    return found


@dataclass(frozen=True, kw_only=True)
class Task:
    """One call of a function.

    Parameters
    ----------
    function : str
        ``module:function``. It takes plain arguments by keyword (numbers, strings) and returns a
        dict of them; the same arguments must give the same result.
    arguments : mapping
    contents : mapping
        ``{name: gzip-compressed bytes}`` of the files that it works on.
    code : str
        Digest of the code that the function runs. Another machine must have the same.
    key : str
        Digest of all these.
    """

    function: str
    arguments: Mapping[str, Any]
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    code: str
    key: str

    @classmethod
    def of(cls, function: str, arguments: Mapping[str, Any],
           contents: Mapping[str, bytes] | None = None) -> "Task":
        contents = contents or {}
        code = _code_of(function)
        key = digest_of([function, dict(arguments), code, {
            name: digest_bytes(gzip.decompress(packed)) for name, packed in contents.items()}])
        return cls(function=function, arguments=dict(arguments), contents=contents, code=code,
                   key=key[:16])

    @property
    def packed(self) -> tuple[str, dict[str, Any], dict[str, bytes], str]:
        """What another machine needs to run it: see :func:`run_packed`."""
        return self.function, dict(self.arguments), dict(self.contents), self.code


def _code_of(function: str) -> str:
    return digest_of(code_digest(function.partition(":")[0]))


def run_packed(function: str, arguments: Mapping[str, Any], contents: Mapping[str, bytes],
               code: str) -> dict[str, Any]:
    """Run a task, perhaps on another machine, and return its result.

    Raises :exc:`InputError` where the code here is another than where the task was made.
    """
    if _code_of(function) != code:
        raise InputError(f"the code of {function} is another here than where the sweep was "
                         "started, or other versions of packages: install the same")
    call = _function(function)
    if not hasattr(call, "files"):
        return call(**arguments)
    with tempfile.TemporaryDirectory() as place:
        for name, packed in contents.items():
            (Path(place) / name).write_bytes(gzip.decompress(packed))
        return call(**arguments, **{FOLDER: Path(place)})


def tasks_over(name: str, fixed: Mapping[str, Any], over: Mapping[str, Sequence[Any]], *,
               folder: Path | None = None) -> list[Task]:
    """A task for every combination of the values in ``over``, the last name fastest.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`, or ``module:function``.
    fixed : mapping
        Arguments that all have.
    over : mapping
        Values of the arguments in which they differ.
    folder : Path
        Where the files lie that the function works on.

    Raises
    ------
    InputError
        There is no such function, it does not take these arguments, it needs others, or a file
        is missing.
    """
    call = _function(name)
    function = NAMES.get(name, name)
    names = [*fixed, *over]
    _check_arguments(name, call, names)
    if twice := set(fixed) & set(over):
        raise InputError(f"Argument {min(twice)} is given twice")
    contents = {}
    wanted: Iterable[str] = getattr(call, "files", ())
    if wanted and folder is None:
        raise InputError(f"Task {name} works on files ({', '.join(wanted)}): name their folder")
    if folder is not None and not wanted:
        raise InputError(f"Task {name} works on no files: leave out the folder")
    for file in wanted:
        path = Path(folder or ".") / file
        try:
            contents[file] = gzip.compress(path.read_bytes(), 6, mtime=0)
        except OSError as error:
            raise InputError(os_error_text(error, str(path))) from error
    combined = (dict(fixed) | dict(zip(over, values, strict=True))
                for values in product(*over.values()))
    return list({task.key: task for task in (Task.of(function, arguments, contents)
                                             for arguments in combined)}.values())


def _check_arguments(name: str, call: Callable, given: Sequence[str]) -> None:
    parameters = {key: parameter for key, parameter in inspect.signature(call).parameters.items()
                  if key != FOLDER or not hasattr(call, "files")}
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    takes = ", ".join(parameters)
    for key in given:
        if key not in parameters:
            raise InputError(f"Task {name} takes no argument {key!r}; it takes {takes}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in given:
            raise InputError(f"Task {name} needs the argument {key!r}; it takes {takes}")
