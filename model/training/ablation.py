"""Ablations: the same training with one part changed, for several seeds. Plan, table, picture.

A plan is a YAML file (`model/ablations`): ``model``, ``data``, ``train_images``, ``seeds``, the
``recipe`` of every row, that of the ``teacher``, and ``rows``, each with what it changes of
``network`` and ``recipe``, its ``pretraining``, if any (the ``recipe`` by name, and ``epochs``),
and, for comparison, the ``paper``'s accuracy in per cent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
import math
from pathlib import Path
import statistics
from typing import Any

from model import yaml_file
from model.error import InputError
from model.families.base import NetworkSpec
from model.files import replacing
from model.training.recipe import Masking, network_changes, read_preset, Recipe


__all__ = ["Plan", "plans", "picture", "Pretraining", "read_plan", "Row", "saturation",
           "saturation_picture", "table"]


VERSION = 1
"""Rises when a plan of before would mean other trainings."""

ROWS_MAX = 100
SEEDS_MAX = 100


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """How a network is prepared without labels, on the same pictures, before it is trained."""

    recipe: Recipe
    masking: Masking


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant: `recipe`, what it changes of the network, `pretraining` before it or None, the
    paper's accuracy or None."""

    name: str
    recipe: Recipe
    network: Mapping[str, Any]
    paper: float | None = None
    pretraining: Pretraining | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared. `teacher` is the recipe of the ANN twin, for rows that learn from it."""

    name: str
    model: str
    data: str
    train_images: int | None
    seeds: int
    teacher: Recipe
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of a name. Raises InputError listing them."""
        for row in self.rows:
            if row.name == name:
                return row
        raise InputError(f"row must be one of {', '.join(row.name for row in self.rows)}, "
                         f"not {name}")

    def check(self, spec: NetworkSpec) -> None:
        """Raise InputError naming the first row that does not fit the network."""
        for row in self.rows:
            try:
                spec.changed(**row.network)
            except ValueError as error:
                raise InputError(f"{self.name}: rows.{row.name}: {error}") from None


def plans() -> tuple[str, ...]:
    """Names of the plans that come with this package."""
    folder = resources.files("model") / "ablations"
    return tuple(sorted(Path(entry.name).stem for entry in folder.iterdir()
                        if entry.name.endswith(".yaml")))


def read_plan(name: str | Path) -> Plan:
    """A plan by name or from a file (``F.yaml``).

    Raises InputError naming the file and the key, or listing the known plans.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if str(name) not in plans():
            raise InputError(f"plan must be one of {', '.join(plans())} or a file (F.yaml), "
                             f"not {name}")
        with resources.as_file(resources.files("model") / "ablations" / f"{name}.yaml") as own:
            return read_plan(own)
    values = yaml_file.load(path)
    version = values.pop("version", None)
    if version != VERSION or isinstance(version, bool):
        raise InputError(f"{path}: version must be {VERSION}, not {yaml_file.shown(version)}")
    known = ("model", "data", "train_images", "seeds", "recipe", "teacher", "rows")
    for key in values:
        if key not in known:
            raise InputError(f"{path}: unknown key {yaml_file.shown(key)}; known are "
                             f"{', '.join(known)}")
    text = {key: yaml_file.checked(f"{path}: {key}", values.get(key, default), str)
            for key, default in (("model", "qsdt_nano"), ("data", "fashion_mnist"))}
    seeds = yaml_file.checked(f"{path}: seeds", values.get("seeds", 1), int, low=1, high=SEEDS_MAX)
    images = values.get("train_images")
    if images is not None:
        yaml_file.checked(f"{path}: train_images", images, int, low=1)
    base = _recipe(f"{path}: recipe", values.get("recipe"), Recipe())
    rows = values.get("rows")
    if not isinstance(rows, dict) or not 0 < len(rows) <= ROWS_MAX:
        raise InputError(f"{path}: rows must be a mapping of 1 to {ROWS_MAX} names, "
                         f"not {yaml_file.shown(rows)}")
    return Plan(
        name=path.stem, model=str(text["model"]), data=str(text["data"]),
        train_images=images,  # type: ignore[arg-type]
        seeds=seeds,  # type: ignore[arg-type]
        teacher=_recipe(f"{path}: teacher", values.get("teacher"), base),
        rows=tuple(_row(f"{path}: rows", key, value, base) for key, value in rows.items()),
    )


def _row(where: str, name: object, values: object, base: Recipe) -> Row:
    if not isinstance(name, str) or not name.replace("_", "").replace("-", "").isalnum():
        raise InputError(f"{where}: names must be letters, digits, - and _, "
                         f"not {yaml_file.shown(name)}")
    where = f"{where}.{name}"
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise InputError(f"{where} must be a mapping, not {yaml_file.shown(values)}")
    for key in values:
        if key not in ("network", "recipe", "paper", "pretraining"):
            raise InputError(f"{where}: unknown key {yaml_file.shown(key)}; known are network, "
                             "recipe, paper, pretraining")
    paper = values.get("paper")
    if paper is not None:
        yaml_file.checked(f"{where}.paper", paper, float, low=0, high=100)
    return Row(name=name, recipe=_recipe(f"{where}.recipe", values.get("recipe"), base),
               network=network_changes(f"{where}.network", values.get("network")), paper=paper,
               pretraining=_pretraining(f"{where}.pretraining", values.get("pretraining")))


@dataclass(frozen=True)
class _Pretraining:
    """What a plan says of a pretraining."""

    recipe: str = ""
    epochs: int = 0


def _pretraining(where: str, values: object) -> Pretraining | None:
    if values is None:
        return None
    given = _Pretraining(**yaml_file.checked_fields(where, values, _Pretraining))  # type: ignore[arg-type]
    preset = read_preset(given.recipe)
    if preset.masking is None:
        raise InputError(f"{where}.recipe must be one with masking, such as masked_qsdt, not "
                         f"{given.recipe}")
    recipe = _recipe(where, {"epochs": given.epochs} if given.epochs else None, preset.recipe)
    return Pretraining(recipe=recipe, masking=preset.masking)


def _recipe(where: str, values: object, base: Recipe) -> Recipe:
    given = yaml_file.checked_fields(where, values, Recipe)
    try:
        return replace(base, **given)  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


Results = Mapping[str, Sequence[Mapping[str, Any]]]
"""Row name -> what each finished seed gave, the result of `model.ablation.cell`."""


def _spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation, None of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _shown(values: Sequence[float], form: str) -> str:
    mean, std = _spread(values)
    return f"{mean:{form}}" + ("" if std is None else f" ± {std:{form}}")


def table(plan: Plan, results: Results) -> str:
    """Means and standard deviations over the seeds that are finished, in Markdown."""
    epochs = sorted({row.recipe.epochs for row in plan.rows})
    images = "all" if plan.train_images is None else f"{plan.train_images:,}"
    lines = [f"{plan.model} on {plan.data}, {images} training images, "
             f"{', '.join(map(str, epochs))} epochs; accuracy in per cent, mean ± standard "
             "deviation over the seeds that are finished. The paper's column is ImageNet-1K with "
             "another network: the order can be compared, the numbers cannot.", "",
             "| row | seeds | validation | test | attention at the top | CPU seconds | paper |",
             "|---|---|---|---|---|---|---|"]
    for row in plan.rows:
        found = results.get(row.name, ())
        cells = ["-"] * 4
        if found:
            cells = [_shown([100 * x[key] for x in found], ".2f")
                     for key in ("val_acc", "test_acc")]
            tops = [100 * x["attention_top"] for x in found if x["attention_top"] is not None]
            cells.append(_shown(tops, ".1f") if tops else "-")
            cells.append(f"{statistics.fmean(x['cpu_seconds'] for x in found):,.0f}")
        paper = "-" if row.paper is None else f"{row.paper:.1f}"
        lines.append(f"| {row.name} | {len(found)} of {plan.seeds} | {' | '.join(cells)} "
                     f"| {paper} |")
    return "\n".join(lines) + "\n"


def _by_epoch(found: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """{block: share of its attention at the highest level after each epoch}, mean of the seeds."""
    return {block: [statistics.fmean(values) for values in zip(
                *(x["attention_by_epoch"][block] for x in found), strict=True)]
            for block in (found[0]["attention_by_epoch"] if found else ())}


def saturation(plan: Plan, results: Results) -> str:
    """The attention's share at its highest level, per block and epoch, in Markdown."""
    rows = {row.name: _by_epoch(results.get(row.name, ())) for row in plan.rows}
    epochs = max((len(values) for blocks in rows.values() for values in blocks.values()), default=0)
    if not epochs:
        return ""
    lines = ["", "Attention at its highest level (for D = 4: Q KᵀV of 224 or more) on validation "
             "images after each epoch, per cent, mean of the seeds:", "",
             "| row | block | " + " | ".join(map(str, range(1, epochs + 1))) + " |",
             "|---" * (epochs + 2) + "|"]
    lines += [f"| {name} | {block} | " + " | ".join(f"{100 * value:.1f}" for value in values) + " |"
              for name, blocks in rows.items() for block, values in blocks.items()]
    return "\n".join(lines) + "\n"


def saturation_picture(plan: Plan, results: Results, path: Path) -> None:
    """The same as curves: a panel a block, a line a row."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    rows = {row.name: _by_epoch(results.get(row.name, ())) for row in plan.rows}
    rows = {name: blocks for name, blocks in rows.items() if blocks}
    blocks = list(next(iter(rows.values()), {}))
    figure = Figure(figsize=(2.5 + 4 * max(len(blocks), 1), 4.2), layout="constrained")
    panels = figure.subplots(1, max(len(blocks), 1), sharey=True, squeeze=False)[0]
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    for panel, block in zip(panels, blocks, strict=False):
        for place, (name, found) in enumerate(rows.items()):
            values = [100 * value for value in found[block]]
            panel.plot(range(1, len(values) + 1), values, label=name, color=colours[place % 20],
                       linestyle="-" if place < 20 else "--", marker=".", markersize=4)
        panel.set_title(block, fontsize=10)
        panel.set_xlabel("epoch")
        panel.set_ylim(0)
    panels[0].set_ylabel("attention at its highest level, %")
    if rows:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    with replacing(path) as file:
        figure.savefig(file, dpi=120, format="png")


def picture(plan: Plan, results: Results, path: Path) -> None:
    """Test accuracy of every row: a point a seed, a bar for the mean, the paper's beside it."""
    from matplotlib.figure import Figure

    rows = [row for row in plan.rows if results.get(row.name)]
    figure = Figure(figsize=(9, 1.2 + 0.38 * max(len(rows), 1)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = list(range(len(rows)))
    for place, row in zip(places, rows, strict=True):
        values = [100 * x["test_acc"] for x in results[row.name]]
        left.barh(place, statistics.fmean(values), color="tab:blue", alpha=0.35)
        left.plot(values, [place] * len(values), "o", color="tab:blue", markersize=4)
        left.text(0.01, place, f"{len(values)} of {plan.seeds}", fontsize=7, va="center",
                  transform=left.get_yaxis_transform())
        if row.paper is not None:
            right.barh(place, row.paper, color="tab:orange", alpha=0.6)
    left.set_yticks(places, [row.name for row in rows])
    if rows:
        left.invert_yaxis()
        _zoom(left, [100 * x["test_acc"] for row in rows for x in results[row.name]])
        _zoom(right, [row.paper for row in rows if row.paper is not None])
    left.set_xlabel(f"test accuracy, %, {plan.data}")
    right.set_xlabel("the paper's, %, ImageNet-1K")
    with replacing(path) as file:
        figure.savefig(file, dpi=120, format="png")


def _zoom(panel: Any, values: Sequence[float]) -> None:
    """Begin the axis a little below the least value, so that small differences can be seen."""
    if values:
        span = max(max(values) - min(values), 1.0)
        panel.set_xlim(math.floor(min(values) - 0.5 * span), math.ceil(max(values) + 0.1 * span))
