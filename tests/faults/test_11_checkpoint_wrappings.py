"""FAULTS rows 4, 6, 11 and 18: checkpoints as other programs leave them, and damaged ones."""

from collections import OrderedDict
import itertools
import logging
import pathlib
import struct
import zipfile

import numpy as np
import pytest
from safetensors.torch import save_file
import torch

from model import convert, train, zoo
from model.families.layout import CHECKPOINT_SUFFIXES
from model.families.network import QsdTransformer
from model.families.spec import QsdtSpec
from model.integer import qsd_file
from model.training import checkpoint
from model.training.checkpoint import AVERAGED, CheckpointError, COPIES, PREFIXES


INPUTS = "checkpoints"

TINY = QsdtSpec(name="tiny", image_size=16, classes=3, dims=(4, 6, 8, 12, 18),
                depths=(1, 1, 1, 1, 1), heads=3)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return QsdTransformer(TINY).state_dict()


@pytest.fixture(scope="module")
def plain(state, tmp_path_factory):
    """The .qsd of the plain file, its name replaced by "net"."""
    path = tmp_path_factory.mktemp("plain") / "net.pth"
    torch.save(state, path)
    return converted(path)


def converted(path, **options):
    found = checkpoint.read(path, heads=3, image_size=16, **options)
    return qsd_file.to_bytes(found.state, found.spec)


PATHS = ["".join(p) for n in (1, 2) for p in itertools.permutations(PREFIXES, n)]


@pytest.mark.parametrize("prefix", PATHS)
def test_prefixes(tmp_path, state, plain, prefix):
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "net.pth")
    assert converted(tmp_path / "net.pth") == plain


@pytest.mark.parametrize("keys", [*((k,) for k in (*COPIES, *AVERAGED)), ("state_dict", "model"),
                                  ("model_ema", "module")])
def test_keys(tmp_path, state, plain, keys):
    content = state
    for key in reversed(keys):
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "net.pth")
    assert converted(tmp_path / "net.pth") == plain


@pytest.mark.parametrize("suffix", CHECKPOINT_SUFFIXES)
def test_file_names(tmp_path, state, plain, suffix):
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(dict(state), path)
    else:
        torch.save(state, path)
    assert converted(path) == plain
    assert zoo.read(weights=path, heads=3).spec.name == "net"


def test_what_lies_beside_the_weights(tmp_path, state, plain):
    torch.save({
        "model": state | {"total_ops": torch.zeros(1), "block3.0.attn.total_params": torch.ones(1)},
        "best": np.float64(0.7), "acc": np.float32(1), "seen": np.int64(4),
        "rng": (np.random.RandomState(1).get_state(), torch.get_rng_state()),
        "out": pathlib.Path("/runs/1"), "history": np.arange(3.0),
    }, tmp_path / "net.pth")
    assert converted(tmp_path / "net.pth") == plain


def test_two_copies_are_told_apart(tmp_path, state, plain, caplog):
    other = {k: v.clone() for k, v in state.items()}
    other["head.bias"] = other["head.bias"] + 1
    torch.save({"state_dict": state, "state_dict_ema": other}, tmp_path / "net.pth")
    with caplog.at_level(logging.WARNING):
        assert converted(tmp_path / "net.pth") == plain
        assert "state_dict and state_dict_ema; state_dict is taken (--averaged" in caplog.text
        caplog.clear()
        assert converted(tmp_path / "net.pth", averaged=True) != plain
    assert "state_dict_ema is taken" in caplog.text
    command = ["--checkpoint", str(tmp_path / "net.pth"), "--heads", "3", "--image-size", "16"]
    assert convert.cli([*command, "--averaged", "--out", str(tmp_path / "net.qsd")]) == 0
    assert qsd_file.load(tmp_path / "net.qsd")[2]["head.bias"][0] == other["head.bias"][0].item()


def test_a_second_head_is_refused_with_the_reason(tmp_path, state):
    torch.save({"model": state | {"head_kd.weight": torch.ones(1)}}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="head_kd, of distillation: its evaluation averages"):
        converted(tmp_path / "net.pth")


KEY = "downsample1_1.encode_conv.weight"


@pytest.mark.parametrize("change, said", [
    (lambda t: t.to(torch.int8), "must be of real numbers, not int8"),
    (lambda t: t.to(torch.complex64), "must be of real numbers, not complex64"),
    (lambda t: t.to(torch.float8_e4m3fn), "is float8_e4m3fn; save it as a dense float32"),
    (lambda t: t.to_sparse(), "is sparse; save it"),
    (lambda t: t.to("meta"), "is without values"),
    (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is quantised; save it|refused"),
    (lambda t: torch.zeros(1).expand(1 << 40), "more than 268,435,456 numbers in all"),
])
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_weights(tmp_path, state, change, said):
    torch.save({"model": state | {KEY: change(state[KEY])}}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=said) as caught:
        converted(tmp_path / "net.pth")
    assert "\n" not in str(caught.value)


def test_flipped_bits_inside_the_zip(tmp_path, state):
    """Row 4: every stored tensor's bytes, which torch takes without looking at the checksum."""
    path = tmp_path / "net.pth"
    torch.save(state, path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = [e for e in archive.infolist() if "/data/" in e.filename and e.file_size]
    rng = np.random.default_rng(0)
    for entry in rng.choice(np.array(entries, object), 25):
        name, extra = struct.unpack_from("<HH", content, entry.header_offset + 26)
        place = entry.header_offset + 30 + name + extra + int(rng.integers(entry.file_size))
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1:])
        with pytest.raises(CheckpointError, match="the checksum of .* is wrong; copy it again"):
            converted(path)


def test_size_is_limited(tmp_path, state, monkeypatch):
    torch.save(state, tmp_path / "net.pth")
    monkeypatch.setattr(checkpoint, "FILE_BYTES_MAX", 1000)
    with pytest.raises(CheckpointError, match="bytes, more than 1,000; save the weights alone"):
        converted(tmp_path / "net.pth")


@pytest.mark.parametrize("name, said", [
    ("depths_2_64.qsd", "depths must be at most 64, not 18446744073709551616"),
    ("nested_json.qsd", "not a .qsd file"),
])
def test_qsd_with_absurd_values(data_folder, name, said):
    with pytest.raises(qsd_file.QsdError, match=said):
        qsd_file.load(data_folder / name)


@pytest.mark.parametrize("content", [
    "resume_not_a_mapping_1.pth", "resume_not_a_mapping_2.pth", [1], {"recipe": {}},
    {"epoch": float("nan")}, {"epoch": 99}, {"epoch": -1}, {"recipe": {"epochs": float("nan")}},
    {"recipe": {"nonsense": 1}}, {"model": OrderedDict()}, {"optimiser": {}}, {"spec": {}},
    {"log": [{}]}, {"best": {}, "epoch": 1},
])
def test_resume_with_wrong_contents(data_folder, tmp_path, monkeypatch, capsys, content):
    from model.data import dataset as data
    from model.data import options
    from model.training.recipe import Recipe
    from model.training.trainer import Trainer

    grey = QsdtSpec(name="grey", in_channels=1, image_size=16, classes=2, dims=(4, 4, 4, 6, 6),
                    strides=(2, 1, 2, 1, 1), depths=(1,) * 5, conv_expansion=(1, 1, 1),
                    mlp_ratio=1, heads=2, norm_mean=(0.3,), norm_std=(0.3,))
    part = data.Split(images=np.zeros((8, 16, 16), np.uint8), labels=np.arange(8) % 2)
    fake = data.Dataset(train=part, val=part, test=part)
    monkeypatch.setitem(options.DATASETS, "fake", lambda folder, spec: fake)
    path = tmp_path / "checkpoint.pth"
    if isinstance(content, str):
        path.write_bytes((data_folder / content).read_bytes())
    else:
        state = Trainer(grey, Recipe(epochs=2, batch=4), fake).state()
        torch.save(state | content if isinstance(content, dict) else content, path)
    assert train.cli(["--data", "fake", "--resume", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("error: ") and "Traceback" not in "".join(error)
