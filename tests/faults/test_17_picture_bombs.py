"""FAULTS row 17: pictures that ask for much memory or time, or are damaged, are one line."""

import resource
import subprocess
import sys
import time

from PIL import Image
import pytest

from model.data import on_demand
from model.data.pictures import Fitting, PictureError, read_picture, read_pictures


FITTING = Fitting(size=224, channels=3)


@pytest.mark.parametrize("name, message", [
    ("13400x13400_1bit.png", "more than 67,108,864 pixels; make it smaller"),
    ("bomb_header.png", "more than 67,108,864 pixels"),
    ("broken_chunk.png", "a damaged picture .* remove it or save it anew"),
    ("memory.png", "a damaged picture|needs too much memory"),
    ("tall_1x100000.png", "1x100000 pixels, one side over 64 times the other; cut it"),
])
def test_one_line_in_little_time(data_folder, name, message):
    started = time.process_time()
    with pytest.raises(PictureError, match=message) as caught:
        read_picture(data_folder / name, FITTING)
    assert time.process_time() - started < 5
    assert str(caught.value).startswith(str(data_folder / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), SyntaxError("broken"), RecursionError(),
                                   Image.DecompressionBombError("large"), KeyError("x")])
def test_whatever_a_decoder_raises(data_folder, monkeypatch, error):
    def load(self):
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(PictureError, match="g8.png: "):
        read_picture(data_folder / "g8.png", FITTING)


def test_the_largest_that_is_taken_stays_below_2_gb(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (8192, 8192)).save(path)
    code = ("import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30));"
            "from pathlib import Path; from model.data.pictures import *;"
            "print(read_picture(Path(sys.argv[1]), Fitting(size=224, channels=3)).shape)")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.stdout == "(224, 224, 3)\n", done.stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 2 << 30


def test_all_together_are_bounded(monkeypatch, data_folder):
    monkeypatch.setattr(on_demand, "BYTES_MAX", 2 * 3 * 224 * 224)
    with pytest.raises(ValueError, match=r"3 pictures of 3x224x224 need .* give fewer"):
        read_pictures([data_folder / "g8.png"] * 3, FITTING)


def test_other_formats_are_not_decoded(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(PictureError, match=r"a.png: is not a picture \(PNG"):
        read_picture(tmp_path / "a.png", FITTING)
