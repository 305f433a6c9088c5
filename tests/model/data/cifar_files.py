"""Files of CIFAR with few rows, in both published versions, written for tests."""

import pickle

import numpy as np

from model.data import cifar


ROWS = {"train": 4, "test": 3}
"""Images in a file, in the place of 10,000 and 50,000."""

FINE = [f"class {number}" for number in range(100)]


def made(seed: int, rows: int, classes: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (rows, 3072)).astype(np.uint8),
            rng.integers(0, classes, rows).tolist())


def python2(value: object) -> bytes:
    """A pickle as Python 2 wrote it: texts are byte strings, arrays of NumPy 1."""
    def text(x: str | bytes) -> bytes:
        x = x.encode() if isinstance(x, str) else x
        return b"T" + len(x).to_bytes(4, "little") + x

    def part(x: object) -> bytes:
        match x:
            case str():
                return text(x)
            case int():
                return b"J" + x.to_bytes(4, "little", signed=True)
            case list():
                return b"](" + b"".join(map(part, x)) + b"e"
            case dict():
                return b"}(" + b"".join(part(k) + part(v) for k, v in x.items()) + b"u"
            case np.ndarray():
                return (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t"
                        + text("b") + b"tR(K\x01(" + b"".join(map(part, x.shape)) + b"t"
                        + b"cnumpy\ndtype\n(" + text("u1") + b"K\x00K\x01tR(K\x03" + text("|")
                        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
                        + b"I00\n" + text(x.tobytes()) + b"tb")
        raise TypeError

    return b"\x80\x02" + part(value) + b"."


def python3(value: dict) -> bytes:
    return pickle.dumps(value, protocol=2)


def write(folder, *, classes: int, version: str, dump=python2) -> dict[str, tuple]:
    """Files of a version; returns what every file holds."""
    folder.mkdir(parents=True, exist_ok=True)
    files = ([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"] if classes == 10
             else ["train", "test"])
    held = {}
    for seed, name in enumerate(files):
        pixels, labels = made(seed, ROWS["test" if "test" in name else "train"], classes)
        held[name] = pixels.reshape(-1, 3, 32, 32), labels
        if version == "binary":
            before = [labels] if classes == 10 else [[7] * len(labels), labels]
            rows = np.concatenate([np.array(before, np.uint8).T, pixels], 1)
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
        else:
            key = "labels" if classes == 10 else "fine_labels"
            (folder / name).write_bytes(dump({"data": pixels, key: labels, "batch_label": name}))
    names = list(cifar.CIFAR10_CLASSES) if classes == 10 else FINE
    if version == "binary":
        file = "batches.meta.txt" if classes == 10 else "fine_label_names.txt"
        (folder / file).write_text("\n".join(names) + "\n\n")
    elif classes == 10:
        (folder / "batches.meta").write_bytes(dump({"label_names": names, "num_vis": 3072}))
    else:
        (folder / "meta").write_bytes(dump({"fine_label_names": names}))
    return held
