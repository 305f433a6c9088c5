"""What is fuzzed: for every parser a valid input, how it is changed, and the command that reads it.

A target's ``run(path)`` returns the command's exit status, raises :class:`Accepted` where the work
behind the parser would begin, and :class:`Changed` where the format promises a content (by a
digest or a CRC) and another one was accepted.
"""

from contextlib import contextmanager, ExitStack
from dataclasses import replace
from functools import cache
import gzip
import io
import json
from pathlib import Path
import random
import sys
from unittest import mock

import numpy as np
from PIL import Image
import torch
import yaml

from gen import build
from gen import run as run_command
from gen.compile.package import ProgramImage
from gen.config import derive as derive_module
from gen.pnr import estimate
from model import convert, evaluate, train, zoo
from model.data import cifar, mnist
from model.data.dataset import Dataset, Split
from model.data.options import DATASETS
from model.families.spec import spec
from model.families.spec_file import read_spec
from model.training import session, trainer
from model.training.recipe import Recipe
from tests.fuzz import mutate
from tests.model.data.cifar_files import python2, python3, ROWS, write
from tests.model.data.recorded import aedat2, aedat3, aedat4, events4, packet3, random_rows


class Accepted(BaseException):
    """The input was read; what would follow is the command's work."""


class Changed(BaseException):
    """The input was accepted with another content than its format promises."""


def stop(*args, **options):
    raise Accepted


@cache
def places_of(function):
    """(module, name) of every name in any module that stands for a function; found once, in the
    parent, because that takes longer than most inputs."""
    return [(module, name) for module in list(sys.modules.values())
            for name, value in list(getattr(module, "__dict__", {}).items()) if value is function]


@contextmanager
def stopping(function=derive_module.derive, instead=stop):
    """Every name that stands for ``function`` calls ``instead``, which ends the command."""
    with ExitStack() as stack:
        for module, name in places_of(function):
            stack.enter_context(mock.patch.object(module, name, instead))
        yield


def nano():
    """The shipped network, read and converted once: what is fuzzed is read beside it."""
    return mock.patch.multiple(zoo, read=mock.Mock(return_value=READ),
                               network=mock.Mock(return_value=NANO))


READ = zoo.read("qsdt_nano")
NANO = zoo.network(READ, params=READ.params)


class Target:
    """One parser. ``make`` writes a mutation of a valid input, chosen by ``rng``."""

    suffix = ""
    mutation = staticmethod(mutate.of_bytes)
    every = 1
    """One input in so many numbers: less often where each takes long."""

    def __init__(self, folder: Path):
        self.folder = folder / type(self).__name__
        self.folder.mkdir()
        self.inputs = self.seeds()
        places_of(derive_module.derive)
        self.path = self.folder / f"input{self.suffix}"

    def seeds(self) -> list[bytes]:
        """Valid inputs."""
        raise NotImplementedError

    def valid(self) -> Path:
        """The first valid input, as a file."""
        return self.write(self.inputs[0])

    def write(self, content: bytes) -> Path:
        self.path.write_bytes(content)
        return self.path

    def make(self, rng: random.Random) -> Path:
        return self.write(self.mutation(rng.choice(self.inputs), rng))

    def run(self, path: Path) -> int:
        raise NotImplementedError


SPEC = {"name": "tiny", "dims": [16, 16, 16, 16], "depths": [1, 1, 1, 1], "heads": 2}


def small_weights():
    """A network of some thousand weights: name, spec and state, quick to write and read."""
    from model.training.checkpoint import load_vectors

    return load_vectors(Path(__file__).parents[1] / "data" / "official_small.npz")


class Config(Target):
    """Overrides of the configuration: YAML."""

    suffix = ".yaml"
    mutation = staticmethod(mutate.of_yaml)

    def seeds(self):
        configs = [{"core": {"rows": 32, "plane_skip": True}, "clock_mhz": 80, "fold": 2},
                   {"memory": "sdram", "sdram_mhz": 125, "strip_rows": 4},
                   {"memory_words": 20000, "twin": {"latency": 9, "stall": 0.2, "seed": 3}}]
        return [yaml.safe_dump(config).encode() for config in configs]

    def run(self, path):
        with stopping(), nano():
            return build.cli(["--board", "ulx3s", "--model", "qsdt_nano", "--config", str(path),
                              "--until", "config", "--out", str(self.folder / "out")])


class Spec(Target):
    """A network's spec: YAML."""

    suffix = ".yaml"
    mutation = staticmethod(mutate.of_yaml)

    def seeds(self):
        folder = Path(__file__).parents[2]
        return [path.read_bytes() for pattern in ("configs/**/*.yaml", "model/**/*.yaml")
                for path in sorted(folder.glob(pattern)) if b"family" in path.read_bytes()]

    def run(self, path):
        with stopping():
            return build.cli(["--board", "ulx3s", "--model", str(path), "--until", "config",
                              "--out", str(self.folder / "out")])


class Qsd(Target):
    """An exported network: .qsd, with a SHA-256 inside."""

    suffix = ".qsd"

    def seeds(self):
        self.wanted = zoo.read("qsdt_nano")
        return [(Path(zoo.__file__).parent / "weights" / "qsdt_nano.qsd").read_bytes()]

    def run(self, path):
        wanted = self.wanted

        def check(*args, **options):
            found = zoo.read(None, path)
            if found.spec != wanted.spec or any(
                    not np.array_equal(value, found.state[key])
                    for key, value in wanted.state.items()):
                raise Changed("another network")
            raise Accepted

        with stopping(instead=check):
            return build.cli(["--board", "ulx3s", "--weights", str(path), "--until", "config",
                              "--out", str(self.folder / "out")])


class Checkpoint(Target):
    """A published checkpoint: .pth, a zip with CRCs around a pickle."""

    suffix = ".pth"

    def seeds(self):
        self.wanted = set()
        self.spec, self.state = small_weights()
        tensors = {key: torch.from_numpy(np.array(value)) for key, value in self.state.items()}
        contents = []
        for content in (tensors, {"model": {f"module.{k}": v for k, v in tensors.items()}}):
            file = io.BytesIO()
            torch.save(content, file)
            contents.append(file.getvalue())
        return contents

    def run(self, path):
        out = path.with_name("out.qsd")
        status = convert.cli(["--checkpoint", str(path), "--heads", str(self.spec.heads),
                               "--out", str(out)])
        # The name of the file is the network's: the first input was converted under the same one.
        if status == 0 and out.read_bytes() not in self.wanted:
            raise Changed("another network")
        return status

    def valid(self):
        path = super().valid()
        for content in self.inputs:
            self.write(content)
            out = path.with_name("out.qsd")
            convert.cli(["-q", "--checkpoint", str(path), "--heads", str(self.spec.heads),
                         "--out", str(out)])
            self.wanted.add(out.read_bytes())
        return self.write(self.inputs[0])


class Archive(Target):
    """Images as .npz."""

    suffix = ".npz"

    def seeds(self):
        images = np.random.default_rng(0).integers(-128, 128, (3, 1, 28, 28), dtype=np.int8)
        contents = []
        for save in (np.savez, np.savez_compressed):
            file = io.BytesIO()
            save(file, image_q=images, labels=np.arange(3))
            contents.append(file.getvalue())
        return contents

    def run(self, path):
        with stopping(), nano():
            return run_command.cli(["--board", "virtual", "--model", "qsdt_nano", "--images",
                                    str(path)])


class Picture(Target):
    """Pictures in several formats and kinds of pixels."""

    def seeds(self):
        rng = np.random.default_rng(0)
        grey = Image.fromarray(rng.integers(0, 256, (40, 30), dtype=np.uint8))
        colour = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
        wide = Image.fromarray((rng.integers(0, 65536, (28, 28))).astype(np.uint16))
        kinds = [(grey, "PNG", {}), (colour, "JPEG", {}), (colour.convert("RGBA"), "PNG", {}),
                 (wide, "PNG", {}), (grey, "BMP", {}), (colour.convert("P"), "GIF", {}),
                 (colour, "TIFF", {}), (colour, "WEBP", {}), (colour.convert("CMYK"), "JPEG", {})]
        contents = []
        for picture, form, options in kinds:
            file = io.BytesIO()
            picture.save(file, form, **options)
            contents.append(file.getvalue())
        return contents

    def make(self, rng):
        index = rng.randrange(len(self.inputs))
        suffix = (".png", ".jpg", ".png", ".png", ".bmp", ".gif", ".tif", ".webp", ".jpg")[index]
        self.path = self.folder / f"input{suffix}"
        return self.write(self.mutation(self.inputs[index], rng))

    def valid(self):
        self.path = self.folder / "input.png"
        return self.write(self.inputs[0])

    def run(self, path):
        with stopping(), nano():
            return run_command.cli(["--board", "virtual", "--model", "qsdt_nano", "--images",
                                    str(path)])


class Idx(Target):
    """Labels of Fashion-MNIST: gzip, known by their SHA-256."""

    every = 20

    FILES = ("t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "train-labels-idx1-ubyte",
             "train-images-idx3-ubyte")

    def seeds(self):
        self.source = mnist.DEBIAN_FOLDER
        for name in self.FILES[1:]:
            found = next(self.source.glob(f"{name}*"))
            (self.folder / found.name).symlink_to(found)
        found = next(self.source.glob(f"{self.FILES[0]}*"))
        content = found.read_bytes()
        self.labels = mnist.fashion_mnist(self.source).test.labels
        return [content if found.suffix == ".gz" else gzip.compress(content)]

    def write(self, content):
        path = self.folder / f"{self.FILES[0]}.gz"
        path.write_bytes(content)
        return path

    def run(self, path):
        def reading(folder, spec):
            if not np.array_equal(mnist.fashion_mnist(folder).test.labels, self.labels):
                raise Changed("other labels")
            raise Accepted

        with mock.patch.dict(DATASETS, fashion_mnist=reading), nano():
            return evaluate.cli(["--model", "qsdt_nano", "--form", "integer", "--data",
                                  "fashion_mnist", "--data-dir", str(path.parent)])


class Cifar(Target):
    """A batch of CIFAR-10, a pickle of either Python, with few rows."""

    def seeds(self):
        self.few = tuple(replace(version, rows=ROWS) for version in cifar._CIFAR10)
        self.read = zoo.Weights(replace(spec("qsdt_t"), image_size=32, classes=10), None, {})
        contents = []
        for dump in (python2, python3):
            write(self.folder, classes=10, version="python", dump=dump)
            contents.append((self.folder / "test_batch").read_bytes())
        return contents

    def write(self, content):
        path = self.folder / "test_batch"
        path.write_bytes(content)
        return path

    def run(self, path):
        with mock.patch.object(cifar, "_CIFAR10", self.few), \
                mock.patch.object(zoo, "read", mock.Mock(return_value=self.read)), \
                mock.patch.object(evaluate, "run", stop):
            return evaluate.cli(["--model", "qsdt_t", "--data", "cifar10", "--data-dir",
                                 str(path.parent)])


class Recording(Target):
    """Recordings of event cameras, in every format that is read."""

    def seeds(self):
        import lz4.frame
        import zstandard

        self.read = zoo.Weights(replace(read_spec("small_events.yaml"), classes=2), None, {})
        place = self.folder / "data" / "test"
        for name in ("a", "b"):
            (place / name).mkdir(parents=True)
        rows = random_rows(30)
        (place / "b" / "whole.aedat").write_bytes(aedat2(rows))
        packet = events4(rows)
        return [aedat2(rows, header="# AEChip: DVS128\r\n"),
                aedat3(packet3(rows), packet3(rows[:3], kind=2), packet3(rows[:5], room=2)),
                aedat4((1, packet), (0, b"12"), (1, packet)),
                aedat4((1, lz4.frame.compress(packet)), packing=1),
                aedat4((1, zstandard.compress(packet)), packing=3)]

    def __init__(self, folder):
        super().__init__(folder)
        self.path = self.folder / "data" / "test" / "a" / "input.aedat"

    def run(self, path):
        with mock.patch.object(zoo, "read", mock.Mock(return_value=self.read)), \
                mock.patch.object(evaluate, "run", stop):
            return evaluate.cli(["--model", "x", "--data", f"folder:{self.folder / 'data'}"])


class Resume(Target):
    """A training's checkpoint."""

    suffix = ".pth"

    def seeds(self):
        from model.families.spec import MODELS

        torch.set_num_threads(1)
        pixels = np.zeros((200, 28, 28), np.uint8)
        split = Split(images=pixels, labels=np.arange(200) % 10)
        self.data = Dataset(train=split, val=split, test=split)
        network = trainer.Trainer(MODELS["qsdt_nano"], Recipe(epochs=2, batch=100), self.data)
        file = io.BytesIO()
        torch.save(network.state(), file)
        return [file.getvalue()]

    def write(self, content):
        folder = self.folder / "run"
        folder.mkdir(exist_ok=True)
        path = folder / "checkpoint.pth"
        path.write_bytes(content)
        return path

    def run(self, path):
        with mock.patch.dict(DATASETS, fashion_mnist=lambda folder, spec: self.data), \
                mock.patch.object(session, "train", stop):
            return train.cli(["--resume", "--out", str(path.parent), "--data", "fashion_mnist"])


class Program(Target):
    """A program image: safetensors with a SHA-256 of its payload."""

    suffix = ".img"

    def seeds(self):
        from boards import find_board

        found = zoo.read("qsdt_nano")
        network = zoo.network(found, params=found.params)
        _, program = derive_module.derive(find_board("ulx3s"), network, {})
        self.wanted = ProgramImage.of(program, model="qsdt_nano", network=network)
        return [self.wanted.to_bytes()]

    def run(self, path):
        from model.command import main

        def work(arguments):
            found = ProgramImage.load(path)
            if not np.array_equal(found.payload, self.wanted.payload):
                raise Changed("another payload")
            raise Accepted

        import argparse

        return main(work, argparse.ArgumentParser(), [])


class Netlist(Target):
    """A netlist as yosys writes it: JSON."""

    suffix = ".json"
    mutation = staticmethod(mutate.of_json)

    def seeds(self):
        cells = {f"c{k}": {"type": "TRELLIS_FF", "parameters": {"CEMUX": "1"},
                           "port_directions": {"DI": "input", "CLK": "input", "Q": "output"},
                           "connections": {"DI": [k + 2], "CLK": [1], "Q": [k + 3]}}
                 for k in range(4)}
        cells["lut"] = {"type": "LUT4", "parameters": {},
                        "port_directions": {"A": "input", "Z": "output"},
                        "connections": {"A": [6], "Z": [2]}}
        names = {"n": {"bits": [2, 3, 4], "hide_name": 0}}
        return [json.dumps({"modules": {"top": {"cells": cells, "netnames": names}}}).encode()]

    def run(self, path):
        return estimate.cli([str(path)])


class Frames(Target):
    """What a board answers: COBS frames with a CRC-32, through the host's side of the link."""

    def seeds(self):
        from gen.device.frame import encode_frame

        self.payloads = [bytes(range(length)) for length in (8, 16, 64)]
        return [b"".join(encode_frame(payload) for payload in self.payloads)]

    def run(self, path):
        from gen.device.frame import decode_frame

        for stuffed in path.read_bytes().split(b"\0"):
            payload = decode_frame(stuffed)
            if payload is not None and payload not in self.payloads:
                raise Changed("another payload")
        raise Accepted


TARGETS = {"config": Config, "spec": Spec, "qsd": Qsd, "pth": Checkpoint, "npz": Archive,
           "picture": Picture, "idx": Idx, "cifar": Cifar, "recording": Recording, "resume": Resume,
           "program": Program, "netlist": Netlist, "frames": Frames}
