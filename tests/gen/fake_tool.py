"""Stand-ins for external programs: small shell scripts in a folder on PATH."""

from pathlib import Path


def fake_tool(folder: Path, name: str, body: str) -> Path:
    """Write an executable ``name`` that runs ``body`` in sh."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def only_path(monkeypatch, folder: Path) -> None:
    """Make ``folder`` and the system's own commands all there is on PATH."""
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
