"""What a training step costs: `python tests/measure_training.py [--model NAME] [--recipe NAME]`.

Images per CPU second of whole steps (augmentation, teacher, forward, backward, optimiser, average),
in fp32, in bf16 with torch's operators alone, and in bf16 with those of `model.families.fused`: the
variants take turns in one process of one thread, and the median of their turns counts. Then the
share of each operator in the last of them. Weights and teacher are random; the time of a step does
not depend on them. Writes docs/results/speed-training.json and .md. Takes two minutes.
"""

import argparse
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
import json
from pathlib import Path
import statistics
import time
from unittest import mock

from measure_speed import machine
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model import zoo
from model.data.options import read_dataset
from model.families import fused
from model.families.network import QsdTransformer
from model.training.process import prepare
from model.training.recipe import read_preset
from model.training.trainer import Trainer


RECORD = Path(__file__).resolve().parents[1] / "docs" / "results" / "speed-training.json"

VARIANTS = {"fp32": ("fp32", True), "bf16, torch's operators": ("bf16", True),
            "bf16": ("bf16", False)}
"""{variant: (precision, whether torch's operators alone)}"""


class Profile(TorchDispatchMode):
    """CPU seconds of this thread in each operator of torch and in each kernel of `fused`."""

    def __init__(self):
        super().__init__()
        self.seconds, self.calls = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.timed(str(func).split(".")[1], func, *args, **(kwargs or {}))

    def timed(self, name, function, *args, **kwargs):
        """What `function` returns, its seconds counted under `name`."""
        started = time.thread_time()
        result = function(*args, **kwargs)
        self.seconds[name] += time.thread_time() - started
        self.calls[name] += 1
        return result

    def kernels(self, module):
        """The compiled loops of `module`, timed."""
        profile = self

        class Timed:
            def __getattr__(self, name):
                found = getattr(module, name)
                if not callable(found):    # a rule, which kernels take
                    return found
                return lambda *args: profile.timed(f"own {name}", found, *args)

        return Timed()


def steps_of(args):
    """{variant: a function that trains `args.steps` steps}."""
    preset = read_preset(args.recipe)
    spec = preset.applied(zoo.spec_of(args.model))
    data = read_dataset(args.data, spec, count=args.steps * preset.recipe.batch)
    made = {}
    for variant, (precision, plain) in VARIANTS.items():
        recipe = replace(preset.recipe, precision=precision)
        teacher = QsdTransformer(spec.twin()) if recipe.needs_teacher else None
        trainer = Trainer(spec, recipe, data, teacher=teacher)

        def run(trainer=trainer, plain=plain):
            alone = mock.patch.object(fused, "_kernels", return_value=None)
            with alone if plain else nullcontext():
                trainer._train_epoch()

        made[variant] = run
    return made, preset.recipe.batch


def measure(args):
    """The record: images per CPU second of each variant, and the operators of the last."""
    prepare(1)
    runs, batch = steps_of(args)
    seconds = {variant: [] for variant in runs}
    for turn in range(1 + args.turns):
        for variant, run in runs.items():
            started = time.process_time()
            run()
            if turn:    # the first compiles and warms up
                seconds[variant].append(time.process_time() - started)
    profile = Profile()
    kernels = profile.kernels(fused._kernels())
    with mock.patch.object(fused, "_kernels", return_value=kernels), profile:
        runs["bf16"]()
    total = sum(profile.seconds.values())
    rate = {variant: args.steps * batch / statistics.median(times)
            for variant, times in seconds.items()}
    return {
        "model": args.model, "recipe": args.recipe, "batch": batch, "steps": args.steps,
        "turns": args.turns, "machine": machine(), "torch": torch.__version__,
        "images_per_cpu_second": {variant: round(value, 1) for variant, value in rate.items()},
        "against_fp32": {variant: round(value / rate["fp32"], 2)
                         for variant, value in rate.items()},
        "operators": [{"name": name, "share": round(value / total, 3),
                       "calls_a_step": round(profile.calls[name] / args.steps, 1)}
                      for name, value in profile.seconds.most_common(12)],
    }


def table(record):
    """Lines of the page."""
    yield "# Speed of a training step"
    yield ""
    yield (f"`python tests/measure_training.py` on {record['machine']}, one thread, torch "
           f"{record['torch']}: {record['model']}, recipe {record['recipe']}, batch "
           f"{record['batch']}; median of {record['turns']} turns of {record['steps']} steps each.")
    yield ""
    yield "| number format | images per CPU second | against fp32 |"
    yield "|---|---|---|"
    for variant, rate in record["images_per_cpu_second"].items():
        yield f"| {variant} | {rate} | {record['against_fp32'][variant]} |"
    yield ""
    yield "Where the time of the operators goes in the last row (`own`: `model.families.kernels`):"
    yield ""
    yield "| operator | share | calls a step |"
    yield "|---|---|---|"
    for row in record["operators"]:
        yield f"| {row['name']} | {100 * row['share']:.1f} % | {row['calls_a_step']:g} |"


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qsdt_nano", help="network (default: qsdt_nano)")
    parser.add_argument("--recipe", default="nano_full", help="recipe (default: nano_full)")
    parser.add_argument("--data", default="fashion_mnist", help="(default: fashion_mnist)")
    parser.add_argument("--steps", type=int, default=20, help="steps of a turn (default: 20)")
    parser.add_argument("--turns", type=int, default=5, help="turns of a variant (default: 5)")
    parser.add_argument("--out", type=Path, default=RECORD, metavar="F.json",
                        help="record, with a page F.md beside it (default: that of docs/results)")
    args = parser.parse_args()
    record, page = measure(args), args.out.with_suffix(".md")
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    page.write_text("\n".join(table(record)) + "\n")
    print(page.read_text())


if __name__ == "__main__":
    main()
