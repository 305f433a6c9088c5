"""docs/versions.md tells the versions that the code has, and another version is refused."""

import json
from pathlib import Path
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from gen.compile import package
from hw import register
from model.error import InputError
from model.files import digest_bytes
from model.integer import qsd_file


TEXT = (Path(__file__).resolve().parents[1] / "docs" / "versions.md").read_text()


@pytest.mark.parametrize("module", [qsd_file, package, register])
def test_the_page_has_the_version_of_the_code(module):
    row = next(line for line in TEXT.splitlines() if f"`{module.__name__}.VERSION`" in line)
    assert int(re.search(r"\| (\d+)[ ;]", row)[1]) == module.VERSION


@pytest.mark.parametrize("key, read, header", [
    ("qsd", qsd_file.load, {"format": qsd_file.FORMAT, "version": qsd_file.VERSION + 1}),
    ("program", package.ProgramImage.load,
     {"format": package.FORMAT, "version": package.VERSION + 1}),
])
def test_another_version_is_refused(tmp_path, key, read, header):
    path = tmp_path / "x.file"
    save_file({"payload": np.zeros(1, np.uint64)}, path, {key: json.dumps(header)})
    number = header["version"]
    with pytest.raises((InputError, ValueError), match=rf"x\.file.*version {number}.*{number - 1}"):
        read(path)


@pytest.mark.parametrize("header", [
    "[" * 100_000, "{}", '{"format": "qsdt-program"}', '{"format": "qsdt-program", "version": 3}',
    json.dumps({"format": "qsdt-program", "version": package.VERSION}),
    json.dumps({"format": "qsdt-program", "version": package.VERSION, "config": 3,
                "payload_sha256": digest_bytes(np.zeros(1, np.uint64).tobytes())}), "null", "\0",
])
def test_damaged_program_images(tmp_path, header):
    path = tmp_path / "x.img"
    save_file({"payload": np.zeros(1, np.uint64)}, path, {"program": header})
    with pytest.raises(InputError, match=r"x\.img"):
        package.ProgramImage.load(path)
