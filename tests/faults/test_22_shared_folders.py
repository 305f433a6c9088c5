"""FAULTS row 22: folders that others write too: planted links, left-over names, two at once."""

import os
import secrets

import pytest

from model import convert, train
from model.error import InputError
from model.files import check_writable, locked, write_atomic
from tests.faults import test_19_places_to_write


workplace = test_19_places_to_write.workplace

CONVERT, TRAIN = test_19_places_to_write.CONVERT, test_19_places_to_write.TRAIN


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


def test_a_planted_link_is_not_followed(tmp_path, victim, monkeypatch):
    """Not even by one who knows the next temporary name, which is random."""
    monkeypatch.setattr(secrets, "token_hex", lambda size: "0" * 2 * size)
    (tmp_path / ".0000000000000000.partial").symlink_to(victim)
    for write in (lambda: write_atomic(tmp_path / "x", "new"),
                  lambda: check_writable(tmp_path / "x")):
        with pytest.raises(InputError, match="it is there already; choose another name"):
            write()
    assert victim.read_text() == "precious" and not (tmp_path / "x").exists()


def test_a_link_in_place_of_the_output_is_replaced(tmp_path, victim):
    (tmp_path / "x").symlink_to(victim)
    write_atomic(tmp_path / "x", "new")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "x").is_symlink() and (tmp_path / "x").read_text() == "new"


def test_a_link_in_place_of_the_lock(tmp_path, victim):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(victim)
    with pytest.raises(InputError, match="symbolic link, which is not followed here; remove it"):
        with locked(tmp_path / "run"):
            pass
    assert victim.read_text() == "precious"


def test_left_over_names_stop_nothing(workplace):
    """What interrupted runs of this process number, or of older programs, left behind."""
    left = [f".x.qsd.{os.getpid()}.tmp", f".x.qsd.{os.getpid()}.partial", "x.part"]
    for name in left:
        (workplace / name).write_text("half")
    assert convert.cli([*CONVERT, "x.qsd"]) == 0
    assert all((workplace / name).read_text() == "half" for name in left)


def test_two_trainings_in_one_folder(workplace, capsys):
    with locked("run", "training"):
        assert train.cli([*TRAIN, "run"]) == 1
    assert capsys.readouterr().err == ("error: run: another training is running there; wait for "
                                       "its end or choose another folder\n")
    assert os.listdir("run") == [".lock"]
    assert train.cli([*TRAIN, "run"]) == 0


def test_files_have_the_usual_permissions(tmp_path):
    """Temporary files of Python are for their owner alone; results are as the umask says."""
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "x", "new")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
