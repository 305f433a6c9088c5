"""gen.config.find: configurations that come with the project, from any folder."""

import pytest

from gen.config.find import find_config, shipped_configs
from gen.config.spec import read_overrides
from model.error import InputError


@pytest.mark.parametrize("name", ["sdram", "sdram.yaml", "configs/sdram.yaml"])
def test_shipped(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == shipped_configs()["sdram"]
    assert read_overrides(name)["memory"] == "sdram"


def test_own_files_go_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sdram.yaml").write_text("memory: onchip")
    assert read_overrides("sdram.yaml") == {"memory": "onchip"}
    assert read_overrides("sdram")["memory"] == "sdram"


@pytest.mark.parametrize("name", ["none", "other/sdram.yaml", "sdram.json", "/sdram.yaml"])
def test_unknown(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"^{name}: no such file; .*clocks50.*sdram.*stalls"):
        find_config(name)


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_all_can_be_read(name):
    assert read_overrides(name)
