"""Files: digests, atomic writes, locked folders."""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import hashlib
import json
import os
from pathlib import Path
import secrets
import stat
from typing import BinaryIO

from model.error import InputError, os_error_text


__all__ = ["check_folder", "check_writable", "digest_bytes", "digest_file", "digest_of", "locked",
           "make_folder", "replacing", "write_atomic"]


def digest_bytes(*parts: bytes) -> str:
    """SHA-256 of byte strings, each with its length, as hexadecimal."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file, as ``sha256sum`` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: object) -> str:
    """SHA-256 of plain data (dicts, lists, strings, numbers), whatever the order of its keys."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A new binary file that takes the place of ``path`` when the block ends without an error.

    A reader, or a crash, sees the old content or all of the new. The new file has a name that
    nobody can foresee and that did not exist, so in a folder that others may write a planted
    symbolic link is never followed. After an error it is gone.

    Raises
    ------
    InputError
        If it cannot be written, or if ``path`` is there and is no regular file.
    """
    path = Path(path)
    _check_regular(path)
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(partial, flags, 0o666)
    except OSError as error:
        raise InputError(os_error_text(error, path)) from error
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(partial, path)
    except OSError as error:
        raise InputError(os_error_text(error, path)) from error
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike, content: str | bytes | memoryview) -> None:
    """Write a file so that a reader, or a crash, sees the old content or all of the new."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _check_regular(path: Path) -> None:
    """Refuse what a rename would destroy or cannot replace: folders, devices, pipes."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(os_error_text(error, path)) from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a folder; name a file")
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise InputError(f"{path}: is not a regular file; name another")


def make_folder(folder: str | os.PathLike) -> Path:
    """Make a folder and those above it where they do not exist, or say why that cannot be."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{folder}: is a file; name a folder") from None
    except OSError as error:
        raise InputError(os_error_text(error)) from error
    return folder


def check_writable(path: str | os.PathLike) -> None:
    """Say now what would prevent :func:`write_atomic` after a long computation.

    Makes a file of the final's folder and removes it; ``path`` itself is left as it is.
    """
    path = Path(path)
    _check_regular(path)
    probe = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
        probe.unlink()
    except OSError as error:
        raise InputError(os_error_text(error, path.parent)) from error


def check_folder(folder: str | os.PathLike) -> None:
    """Say now what would prevent :func:`make_folder`, and files in it, after a long computation."""
    place = Path(folder).absolute()
    if place.exists() and not place.is_dir():
        raise InputError(f"{folder}: is a file; name a folder")
    while not place.exists() and place != place.parent:
        place = place.parent
    check_writable(place / "file")


@contextmanager
def locked(folder: str | os.PathLike, what: str = "build", *, wait: bool = False
           ) -> Iterator[None]:
    """Keep other commands out of a folder, which is made where it does not exist.

    ``what`` names the work for the message that another one gets, e.g. ``training``. With ``wait``
    it gets no message but waits for the end of the first.
    """
    folder = make_folder(folder)
    try:
        # Neither truncated nor followed: in a shared folder it may be a link to somebody's file.
        descriptor = os.open(folder / ".lock",
                             os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InputError(os_error_text(error)) from error
    with open(descriptor, "wb"):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            raise InputError(f"{folder}: another {what} is running there; wait for its end or "
                             f"choose another folder") from None
        yield
