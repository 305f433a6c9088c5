"""The program image: one file that a host needs to run a compiled network on a core.

A safetensors file with one uint64 tensor, the payload for memory address 0, and one metadata
entry of JSON: configuration, addresses, how to make an image's words and how to read a result.
Deterministic, no pickle, no torch.
"""

from dataclasses import dataclass, field
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open, SafetensorError
from safetensors.numpy import save as to_safetensors

from gen.compile.layout import FeatureMap, im2col, laid_lanes
from gen.compile.results import Result
from hw.config import CoreConfig
from model.error import InputError
from model.files import digest_bytes, write_atomic
from model.integer.epilogue import LOGITS
from sim.reference.lanes import memory_words, pool_words


__all__ = ["ProgramImage", "image_words", "logits_of"]


FORMAT, VERSION = "qsdt-program", 6
CLASSES = 5
"""Version of programs whose only result are class scores; what such files say has not changed."""

_WEIGHT = "weight."
"""In front of the name of an output: the tensor with the weights that the host needs for it."""


@dataclass(frozen=True, kw_only=True)
class ProgramImage:
    """What the host knows of a program.

    Attributes
    ----------
    input_shape : tuple
        (C, H, W) of an image, (T, C, H, W) of T images that have one result.
    model, network_digest : str
        Name and SHA-256 of the integer network.
    config : CoreConfig
    payload : array of uint64
    program, image, image_words, result, result_words, log, memory_words : int
        Regions, in memory words; ``image_words`` are of all images that have one result.
    descriptors : int
    layers : list of str
        Layer of every descriptor.
    units : list of int
        Unit index of every descriptor.
    maps : dict
        "image" and what is read out, such as "logits_acc" (:class:`gen.compile.layout.FeatureMap`).
    stem : dict
        Patches of the image.
    results : list of Result
        Outputs, in order (:class:`gen.compile.results.Result`).
    predicted_cycles : int
        Of the cost model, per image.
    origin : str
        What the weights are if they were not trained, "" otherwise.
    identity : int
        Of the bitstream that the program was built with (:func:`gen.flow.rtl.identity_of`), 0 for
        a program that is bound to none.
    source : str
        The file that it was read from, "" if from none.
    """

    model: str
    network_digest: str
    config: CoreConfig
    payload: np.ndarray = field(repr=False)
    program: int
    image: int
    image_words: int
    result: int
    result_words: int
    log: int
    memory_words: int
    descriptors: int
    layers: list = field(repr=False)
    units: list = field(repr=False)
    maps: dict = field(repr=False)
    stem: dict
    results: list = field(repr=False)
    input_shape: tuple
    predicted_cycles: int = 0
    origin: str = ""
    identity: int = 0
    source: str = field(default="", compare=False)

    @classmethod
    def of(cls, program, *, model, network, predicted_cycles=0):
        """Image of a :class:`gen.isa.program.Program` of an IntegerNetwork."""
        return cls(
            model=model, network_digest=network.digest(), config=program.config,
            payload=program.payload, program=program.program, image=program.image,
            image_words=program.image_words, result=program.result,
            result_words=program.result_words, log=program.log,
            memory_words=program.memory_words, descriptors=len(program.descriptors),
            layers=[d.layer for d in program.descriptors],
            units=[d.unit.value for d in program.descriptors],
            maps={name: program.maps[name] for name in (
                "image", *dict.fromkeys(result.tensor for result in program.results))},
            stem=program.stem, results=program.results, input_shape=network.input_shape,
            predicted_cycles=predicted_cycles, origin=network.origin)

    @property
    def logits(self):
        """Scale and offset of the class scores; None where they are not the only result."""
        if [result.name for result in self.results] != [LOGITS]:
            return None
        return {"scale": self.results[0].scale, "offset": self.results[0].offset}

    @property
    def payload_digest(self):
        """SHA-256 of the payload."""
        return digest_bytes(self.payload.tobytes())

    def to_bytes(self):
        layers = list(dict.fromkeys(self.layers))
        header = {
            "format": FORMAT, "version": CLASSES if self.logits else VERSION, "model": self.model,
            "network_digest": self.network_digest, "config": self.config.to_dict(),
            **{name: getattr(self, name) for name in (
                "program", "image", "image_words", "result", "result_words", "log",
                "memory_words", "descriptors", "stem", "predicted_cycles", "units", "origin",
                "identity")},
            "layers": layers, "layer_of": [layers.index(name) for name in self.layers],
            "input_shape": list(self.input_shape),
            "maps": {name: _map_entry(m) for name, m in self.maps.items()},
            "payload_sha256": self.payload_digest,
        }
        weights = {}
        if self.logits:
            header["logits"] = {k: np.asarray(v).tolist() for k, v in self.logits.items()}
        else:
            header["results"] = [_result_entry(result) for result in self.results]
            weights = {_WEIGHT + result.name: np.ascontiguousarray(result.weight)
                       for result in self.results if result.weight is not None}
            header["weights_sha256"] = _weights_digest(weights)
        return to_safetensors({"payload": self.payload, **weights}, metadata={
            "program": json.dumps(header, sort_keys=True, separators=(",", ":"))})

    def save(self, path):
        """Write the file, whole or not at all."""
        write_atomic(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path):
        """Read and check a file.

        Raises
        ------
        InputError
            If it is not a program image of this version, or is damaged.
        """
        try:
            with safe_open(path, framework="np") as file:
                header = json.loads((file.metadata() or {}).get("program", "null"))
                payload = file.get_tensor("payload")
                weights = {key: file.get_tensor(key) for key in file.keys()  # noqa: SIM118
                           if key.startswith(_WEIGHT)}
        except (OSError, SafetensorError, ValueError, RecursionError) as error:
            raise InputError(f"{path} is not a complete program image: {error}") from None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise InputError(f"{path} is not a program image")
        if header.get("version") not in (CLASSES, VERSION):
            raise InputError(f"{path} has format version {header.get('version')}, this program "
                             f"reads {CLASSES} and {VERSION}: build it again")
        if (digest_bytes(payload.tobytes()) != header.get("payload_sha256")
                or (weights and _weights_digest(weights) != header.get("weights_sha256"))):
            raise InputError(f"{path} is damaged: its payload does not have the digest it states")
        try:
            return cls._of_header(header, payload, weights, str(path))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(f"{path} is damaged: its header lacks or misstates {error}") from None

    @classmethod
    def _of_header(cls, header, payload, weights, source):
        config = CoreConfig(**header["config"])
        maps = {name: _map_of(name, entry, config) for name, entry in header["maps"].items()}
        layers = [header["layers"][k] for k in header["layer_of"]]
        if header["version"] == CLASSES:
            results = [Result(LOGITS, f"{LOGITS}_acc", 0, *(
                np.array(header["logits"][k], np.float64) for k in ("scale", "offset")))]
        else:
            results = [_result_of(entry, maps, weights) for entry in header["results"]]
        rest = {name: header[name] for name in (
            "model", "network_digest", "program", "image", "image_words", "result",
            "result_words", "log", "memory_words", "descriptors", "stem", "predicted_cycles",
            "units", "origin")}
        identity = header["identity"]
        if not isinstance(identity, int) or not 0 <= identity < 1 << 32:
            raise ValueError(f"identity {identity!r}")
        return cls(config=config, payload=payload, maps=maps, layers=layers, results=results,
                   input_shape=tuple(header["input_shape"]), identity=identity, source=source,
                   **rest)


def image_words(program, image_q):
    """Memory words of an image int8 (C, H, W), or of a sample of several (T, C, H, W) one behind
    the other; of each its patches (see Program.stem)."""
    if image_q.ndim == 4:
        return np.concatenate([image_words(program, one) for one in image_q])
    tensor = program.maps["image"]
    words = tensor.pack(im2col(image_q, **program.stem)).reshape(tensor.height, -1)
    return np.concatenate([memory_words(row, tensor.rows) for row in words])


def logits_of(program, words):
    """Memory words of a result -> (raw accumulators int64 (classes,), logits float64).

    Of other networks all outputs, one behind the other: :func:`gen.compile.results.named`.
    """
    accs, values = [], []
    for result in program.results:
        tensor = program.maps[result.tensor]
        rows = words[result.start:result.start + tensor.memory_words].reshape(tensor.height, -1)
        pool = np.concatenate([pool_words(row, tensor.rows)[:tensor.row_words] for row in rows])
        acc = result.acc(tensor.unpack(pool))
        accs.append(acc.reshape(-1))
        values.append(np.asarray(result.values(acc), np.float64).reshape(-1))
    return np.concatenate(accs), np.concatenate(values)


def _map_entry(tensor):
    """A map in a header, with the smallest fold that lies alike."""
    shape = tensor.channels, tensor.height, tensor.width * tensor.fold
    for fold in (1 << k for k in range(tensor.fold.bit_length())):
        for whole in (False, True)[:1 + (tensor.copies > 1)]:
            lanes = laid_lanes(tensor.channels, tensor.rows, fold, tensor.copies, whole=whole)
            if np.array_equal(lanes, tensor.lanes[:len(lanes)]) and (
                    len(lanes) * tensor.fold == len(tensor.lanes) * fold):
                more = [] if fold * tensor.copies == 1 else [fold, tensor.copies, whole]
                return [tensor.kind, *shape, *more]
    raise ValueError(f"{tensor.name} lies as no header says")


def _map_of(name, entry, config):
    kind, channels, height, width, *more = entry
    fold, copies, whole = more or (1, 1, False)
    return FeatureMap.make(name, kind, (channels, height, width), config, fold=fold, copies=copies,
                           whole=whole)


def _result_entry(result):
    entry = {"name": result.name, "tensor": result.tensor, "start": result.start}
    if result.scale is not None:
        entry |= {"scale": np.asarray(result.scale).tolist(),
                  "offset": np.asarray(result.offset).tolist()}
    return entry


def _result_of(entry, maps, weights):
    real = {key: np.array(entry[key], np.float64) for key in ("scale", "offset") if key in entry}
    result = Result(entry["name"], entry["tensor"], entry["start"], **real,
                    weight=weights.get(_WEIGHT + entry["name"]))
    maps[result.tensor]    # which must be there
    return result


def _weights_digest(weights):
    return digest_bytes(b"".join(name.encode() + weights[name].tobytes()
                                 for name in sorted(weights)))
