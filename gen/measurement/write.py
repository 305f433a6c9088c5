"""Files of a measurement: measure.json, a table for everything that is shown, and report.html."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from gen.flow.page import page_environment
from gen.flow.roofline import draw, planes_of, Point
from gen.measurement.power import image_picture, image_power, ImagePower, power_picture
from gen.measurement.runs import Run
from gen.measurement.table import csv_text
from gen.measurement.timeline import Turn
from gen.meter.account import joules_text
from gen.meter.trace import Trace
from model.files import make_folder, write_atomic


__all__ = ["FILES", "write_measurement"]


FILES = ("measure.json", "figures.csv", "units.csv", "layers.csv", "roofline.csv", "runs.csv",
         "power.csv", "energy.csv", "image-power.csv", "report.html")
"""All that can be written: the last three tables need a meter, image-power.csv one with a marker
and samples enough."""


def _roofline(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The picture of the layers under the roofs of array and memory."""
    roofs = content["roofs"]
    points = [Point(row["name"], row["MAC"]["value"], row["bytes"]["value"],
                    row["cycles"]["value"], row["wall"], row["group"]) for row in content["layers"]]
    return draw(points, lanes=roofs["lanes"]["value"],
                bytes_per_cycle=roofs["bytes_per_cycle"]["value"],
                planes=planes_of(content["config"]),
                clock_hz=content["config"]["clock_hz"],
                tag=content["layers"][0]["cycles"]["tag"])


def _image_power(content: Mapping[str, Any], trace: Trace) -> ImagePower | str:
    """Power over an image, whose time is by the board's counter; that of a simulation by the
    host's clock."""
    if not content["timeline"]:
        return "Layers are not told apart: cycles were recorded without their order in time."
    figures = content["figures"]
    rate = figures["images_per_s"]
    if rate["tag"] == "rtl-sim":
        rate = figures["images_per_s_host"]
    turns = [Turn(tuple(turn["layers"]), turn["start"], turn["end"])
             for turn in content["timeline"]]
    return image_power(trace, turns, 1 / rate["value"])


def _energy_rows(energy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Phases of the energy account as a table, then the energies of an image."""
    rows = [{"what": name, "watts": phase["watts"], "error_watts": phase["error_watts"],
             "joules": phase["joules"], "error_joules": phase["error_joules"],
             "seconds": phase["seconds"], "tag": energy["tag"]}
            for name, phase in energy["phases"].items()]
    for name, key in (("an image, whole board", "joules_per_image"),
                      ("an image, above idle", "joules_per_image_above_idle")):
        if energy[key] is not None:
            rows.append({"what": name, "watts": "", "error_watts": "", "joules": energy[key],
                         "error_joules": energy[f"error_{key}"], "seconds": "",
                         "tag": energy["tag"]})
    return rows


def write_measurement(folder: Path, content: Mapping[str, Any], runs: Sequence[Run], tag: str,
                      trace: Trace | None) -> None:
    """Write all files of a measurement; report.html last.

    Parameters
    ----------
    folder : path
    content : mapping
        Of measure.json.
    runs : sequence of Run
    tag : str
        ``board`` or ``rtl-sim``.
    trace : Trace or None
        Of a meter that gives samples; with the board's own there is energy without one.
    """
    make_folder(folder)
    for name in FILES:    # nothing of an earlier measurement stays beside this one
        (folder / name).unlink(missing_ok=True)
    roof = _roofline(content)
    tables: dict[str, Sequence[Mapping[str, Any]]] = {
        "figures.csv": [{"figure": name, "value": figure["value"], "tag": figure["tag"],
                         "text": figure.get("text", "")}
                        for name, figure in content["figures"].items()],
        "units.csv": content["units"],
        "layers.csv": content["layers"],
        "roofline.csv": [{"layer": point["name"], "MAC/byte": point["x"], "MAC/cycle": point["y"],
                          "roof, MAC/cycle": point["roof"], "share of the roof": point["share"],
                          "wall": point["wall"], "tag": tag}
                         for point in ([*roof["points"], *roof["groups"]] if roof else [])],
        "runs.csv": [{"run": number, "images": run.images, "tag": tag,
                      "busy_s": f"{run.busy_s:.6f}", "seconds": f"{run.seconds:.6f}",
                      **run.counters} for number, run in enumerate(runs, 1)],
    }
    power: ImagePower | str = "Layers are not told apart: there are no samples, only sums."
    if trace is not None:
        power = _image_power(content, trace)
        trace.write_csv(folder / "power.csv")
    if content["energy"] is not None:
        tables["energy.csv"] = _energy_rows(content["energy"])
    if isinstance(power, ImagePower):
        tables["image-power.csv"] = power.rows(content["energy"]["tag"])
    write_atomic(folder / "measure.json", json.dumps(content, indent=1) + "\n")
    for name, rows in tables.items():
        if rows:
            write_atomic(folder / name, csv_text(rows))
    page = page_environment("gen.measurement").get_template("measure.html")
    write_atomic(folder / "report.html", page.render(
        m=content, runs=runs, tag=tag, joules=joules_text, roof=roof,
        picture=None if trace is None else power_picture(trace),
        image=image_picture(power) if isinstance(power, ImagePower) else None,
        unresolved=power if isinstance(power, str) else ""))
