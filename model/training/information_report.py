"""Table and picture of what `model.training.information` measures."""

from pathlib import Path
from typing import Any

from model.files import replacing


__all__ = ["averaged", "picture", "short_names", "table"]


def averaged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for a block and tensor: the means over its heads, histograms added."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["block"], row["tensor"]), []).append(row)
    made = []
    for (block, tensor), heads in groups.items():
        mean: dict[str, Any] = {"block": block, "tensor": tensor}
        for key in ("entropy", "mean", "zero", "top", "bimodality", "conditional", "information"):
            values = [head[key] for head in heads if head.get(key) is not None]
            mean[key] = sum(values) / len(values) if values else None
        mean["histogram"] = [sum(x) for x in zip(*(head["histogram"] for head in heads),
                                                  strict=True)]
        made.append(mean)
    return made


_COLUMNS = (
    ("entropy", "H, bit", "{:.3f}"), ("mean", "mean level", "{:.2f}"),
    ("zero", "at 0", "{:.1%}"), ("top", "at the top", "{:.1%}"),
    ("bimodality", "bimodality", "{:.3f}"), ("conditional", "H(S\\|A)", "{:.3f}"),
    ("information", "I(S;A)", "{:.3f}"),
)


def table(networks: list[dict[str, Any]]) -> str:
    """The rows of all networks in Markdown, heads averaged."""
    lines = ["Levels of q, k, v and the attention; means over heads. Entropies in bits, of at most "
             "log2(D + 1). Bimodality is Sarle's, above 5/9 for two peaks. A is the teacher's "
             "value in 16 quantile bins.", ""]
    sources = sorted({network["data"] for network in networks if "data" in network})
    if sources:
        lines += [f"Measured on {', '.join(sources)}.", ""]
    head = ["network", "block", "tensor", *(title for _, title, _ in _COLUMNS)]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    names = short_names([network["file"] for network in networks])
    for network, name in zip(networks, names, strict=True):
        for row in averaged(network["rows"]):
            cells = ["-" if row[key] is None else form.format(row[key])
                     for key, _, form in _COLUMNS]
            words = [name, row["block"], row["tensor"], *cells]
            lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


def short_names(files: list[str]) -> list[str]:
    """What tells files from each other: their paths without the folders and the names at the end
    that all have; of one file its folder, where a training has named it."""
    paths = [list(Path(file).parts) for file in files]
    if len({*files}) == 1:
        file = Path(files[0])
        return [file.parent.name if file.stem == "model" and file.parent.name else file.stem
                ] * len(files)
    for end in (0, -1):
        while all(len(path) > 1 and path[end] == paths[0][end] for path in paths):
            for path in paths:
                path.pop(end)
    return ["/".join(path) for path in paths]


def picture(networks: list[dict[str, Any]], path: Path) -> None:
    """Histograms of the levels: a row of panels for a block, a colour for a network."""
    from matplotlib.figure import Figure

    tables = [averaged(network["rows"]) for network in networks]
    names = short_names([network["file"] for network in networks])
    blocks = list(dict.fromkeys(row["block"] for rows in tables for row in rows))
    tensors = list(dict.fromkeys(row["tensor"] for rows in tables for row in rows))
    figure = Figure(figsize=(3 * len(tensors), 2.4 * len(blocks) + 0.6), layout="constrained")
    panels = figure.subplots(len(blocks), len(tensors), squeeze=False, sharey=True)
    width = 0.8 / len(networks)
    for i, (name, rows) in enumerate(zip(names, tables, strict=True)):
        for row in rows:
            panel = panels[blocks.index(row["block"])][tensors.index(row["tensor"])]
            total = sum(row["histogram"])
            places = [level + (i - (len(networks) - 1) / 2) * width
                      for level in range(len(row["histogram"]))]
            panel.bar(places, [100 * n / total for n in row["histogram"]], width,
                      label=f"{name}, {row['entropy']:.2f} bit")
            panel.set_title(f"{row['block']} {row['tensor']}", fontsize=9)
            panel.legend(fontsize=6)
    for line in panels:
        line[0].set_ylabel("share, %")
    for panel in panels[-1]:
        panel.set_xlabel("level")
    with replacing(path) as file:
        figure.savefig(file, dpi=120, format="png")
