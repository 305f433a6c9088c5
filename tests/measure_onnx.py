"""ONNX files beside the integer model: `python tests/measure_onnx.py [--only NAME]`.

Every network is written by `model.exchange` and run by onnxruntime: every logit of all its images,
and every level map of the first, must be those of the integer model bit for bit. Prints sizes and
the CPU time of an image, one image at a time on one thread, and writes docs/results/onnx.json and
onnx.md; with ``--only`` the other rows stay as they were. Exit status 1 if anything differs. Takes
three minutes.
"""

import argparse
from collections import Counter
import json
from pathlib import Path
import statistics
import sys
import time

from measure_speed import machine
import numpy as np
import onnx

from model import zoo
from model.data.dataset import to_image_q
from model.data.options import read_split
from model.exchange.onnx_file import level_names, to_bytes
from model.exchange.onnx_runtime import differences, OnnxNetwork, RUNTIME
from model.integer.synthetic import natural_images


RECORD = Path(__file__).resolve().parents[1] / "docs" / "results" / "onnx.json"

NETWORKS = {
    "qsdt_nano": ("fashion_mnist", 100),
    "qsdt_s": ("fashion_scenes", 100),
    "qsdt_t": ("", 2),
    "sdt_v3_s": ("", 2),
}
"""{network: (data set, whose first validation images are run, or "" for synthetic ones; images)}"""


def images_of(spec, data, count):
    """int8 images of a data set, or random ones that are as smooth as photographs."""
    if not data:
        return natural_images(np.random.default_rng(1), count, spec)
    return to_image_q(read_split(data, "val", spec, count=count).images, spec)


def measure(name, data, count):
    """The row of one network."""
    found = zoo.read(name)
    network = zoo.network(found)
    levels, image_q = level_names(network), images_of(found.spec, data, count)
    content = to_bytes(network)
    model, whole = OnnxNetwork(content), OnnxNetwork(to_bytes(network, keep=levels))
    different = Counter(next(differences(network, whole, image_q[:1])))
    times = {"onnxruntime": [], "integer": []}
    for image in image_q[:, None]:
        started = time.process_time()
        made = model.run(image)
        middle = time.process_time()
        wanted = network.run(image, keep=made)
        times["onnxruntime"].append(middle - started)
        times["integer"].append(time.process_time() - middle)
        for key in made:
            bits = [x[key].view(np.int64) for x in (made, wanted)]
            different[key] += int(np.count_nonzero(bits[0] != bits[1]))
    return {
        "network": name, "origin": found.origin or "trained", "data": data or "synthetic",
        "images": count, "classes": found.spec.classes,
        "logits": 2 * count * found.spec.classes, "level_maps": len(levels),
        "levels": sum(int(np.prod(network.tensors()[level][1:])) for level in levels),
        "different": sum(different.values()), "differ": sorted(+different),
        "weights": found.spec.weight_count, "bytes": len(content),
        "nodes": len(onnx.load_from_string(content).graph.node),
        "cpu_ms": {key: round(1000 * statistics.median(taken), 1) for key, taken in times.items()},
    }


def table(record):
    """Lines of the page."""
    yield "# ONNX files beside the integer model"
    yield ""
    yield (f"`python tests/measure_onnx.py` on {record['machine']}, one thread: onnxruntime "
           f"{record['onnxruntime']}, onnx {record['onnx']}. The files are those of `qsdt export`. "
           "Compared are `logits` (float64, by their bits) and `logits_acc` of every image, and "
           "all level maps of the first; CPU time is the median for one image at a time.")
    yield ""
    yield ("| network | images | logits compared | level maps (levels) | different | weights | "
           "file, bytes | nodes | onnxruntime, CPU ms an image | integer model, CPU ms |")
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for row in record["networks"]:
        yield (f"| {row['network']} | {row['images']}, {row['data']} | {row['logits']:,} | "
               f"{row['level_maps']} ({row['levels']:,}) | {row['different']} | "
               f"{row['weights']:,} | {row['bytes']:,} | {row['nodes']:,} | "
               f"{row['cpu_ms']['onnxruntime']} | {row['cpu_ms']['integer']} |")
    for row in record["networks"]:
        if row["origin"] != "trained":
            yield ""
            yield f"Weights of {row['network']}: {row['origin']}."


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=NETWORKS, help="this network alone")
    only = parser.parse_args().only
    rows = {}
    if only is not None:
        rows = {row["network"]: row for row in json.loads(RECORD.read_text())["networks"]}
    for name in [only] if only else NETWORKS:
        rows[name] = measure(name, *NETWORKS[name])
        print(json.dumps(rows[name]))
    record = {"machine": machine(), "onnxruntime": RUNTIME.split()[1], "onnx": onnx.__version__,
              "networks": [rows[name] for name in NETWORKS if name in rows]}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    text = "\n".join(table(record)) + "\n"
    RECORD.with_suffix(".md").write_text(text)
    print(text, end="")
    sys.exit(any(row["different"] for row in record["networks"]))


if __name__ == "__main__":
    main()
