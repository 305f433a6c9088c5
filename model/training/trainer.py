"""Training of the float network: steps, epochs, the moving average, and the state to resume."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
import copy
from dataclasses import asdict, replace
import math
import random
import time
from typing import Any

import numpy as np
import torch
from torch import nn, Tensor
from torch.nn import functional as F

from model.data.dataset import Dataset
from model.data.objects import ObjectData
from model.families.base import NetworkSpec
from model.families.make import make_network
from model.families.network import SpikeAttention, SpikingTransformer
from model.progress import tracked
from model.training.distil import capture_operands, fgd_loss, logit_loss, Operands, shown
from model.training.frozen import frozen
from model.training.measures import activity, first_not_finite, to_input
from model.training.optimise import learning_rate, optimiser
from model.training.parallel import add_up, data_parallel, rank, world
from model.training.precision import autocast, choose
from model.training.recipe import Recipe
from model.training.task import outputs_in, task_for
from model.training.timm_parts import timm_part


ACTIVE = 500
"""Validation pictures that the activity of neurons is measured on."""


def build(spec: NetworkSpec, recipe: Recipe) -> SpikingTransformer:
    """Make the network of `spec` with the start values of `recipe`, in channels-last layout."""
    torch.manual_seed(recipe.seed)
    model = make_network(spec)
    for module in model.modules():
        if isinstance(module, SpikeAttention):
            for x in "qkv":
                nn.init.constant_(module.norm(x).bias, recipe.attention_beta * spec.highest)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


class Trainer:
    """A network, its moving average and optimiser, and what happens in one epoch.

    Parameters
    ----------
    spec, recipe, data
        What is trained, how, and on what.
    teacher
        Network to learn from, which the recipe asks for or not.
    device
        Where it is computed.

    With several processes (`model.training.parallel`) each has one and all do the same steps.

    Raises ValueError if the parts do not fit together, ToolMissing if the recipe needs timm.
    """

    def __init__(
        self, spec: NetworkSpec, recipe: Recipe, data: Dataset | ObjectData, *,
        teacher: SpikingTransformer | None = None, device: torch.device | str = "cpu",
    ) -> None:
        self.task = task = task_for(spec, recipe, data)
        if recipe.batch > len(task):
            raise ValueError(f"batch must be at most {len(task)}, not {recipe.batch}")
        if recipe.batch % world():
            raise ValueError(f"batch must be a multiple of the {world()} processes, "
                             f"not {recipe.batch}")
        if recipe.needs_teacher != (teacher is not None):
            raise ValueError("the recipe learns from a teacher: name it with --teacher F.pth"
                             if recipe.needs_teacher else
                             "a teacher is of no use: the recipe has neither fgd nor distil")
        self.spec, self.recipe = spec, recipe
        self.device = torch.device(device)
        self.model = build(spec, recipe).to(self.device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self._averaged, self._followed = _floats(self.average), _floats(self.model)
        self.teacher = None if teacher is None else frozen(
            teacher, logits=recipe.distil > 0).to(self.device)
        self.optimiser = optimiser(self.model, recipe)
        self._parallel = data_parallel(self.model, self.device)
        self._mix = self._mixup()
        self._erase = None if not recipe.erase else timm_part("data.random_erasing").RandomErasing(
            recipe.erase, mode="pixel", device=self.device)
        self.precision = recipe.precision
        self.teacher_file: dict[str, str] = {}
        self.epoch = 0
        self.best: dict[str, Any] = {self.score: -1.0}
        self.log: list[dict[str, Any]] = []
        self.test: dict[str, float] | None = None

    @property
    def score(self) -> str:
        """The record's entry by which the best network is chosen."""
        return f"val_{self.task.score}"

    def start_from(self, adopt: Callable[[SpikingTransformer], list[str]]) -> list[str]:
        """Let `adopt` load other weights before the first epoch; returns what it returns."""
        anew = adopt(self.model)
        self.average.load_state_dict(self.model.state_dict())
        return anew

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, in types that ``weights_only`` loading accepts."""
        return {
            "spec": self.spec.to_dict(),
            "recipe": asdict(self.recipe),
            "precision": self.precision,
            "teacher_file": self.teacher_file,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "best": self.best,
            "log": self.log,
            **entries_of_test(self.test),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned. Raises ValueError if it is not of this training."""
        self.epoch, self.best, self.log = state["epoch"], state["best"], state["log"]
        self.test = figures_of_test(state)
        self.precision = state.get("precision", self.recipe.precision)
        if not 0 <= self.epoch <= self.recipe.epochs:
            raise ValueError(f"epoch of the checkpoint must be 0 to {self.recipe.epochs}, "
                             f"not {self.epoch}")
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            replace(self.recipe, precision=self.precision)
            if self.epoch:
                copy.deepcopy(self.model).load_state_dict(self.best["model"])
                _ = self.best["epoch"] + self.best[self.score], self.best["weights"]
            if [record["epoch"] for record in self.log] != list(range(1, self.epoch + 1)):
                raise ValueError("its log must have one record an epoch")
            for name, value in (self.test or {}).items():
                if not 0 <= value <= 1:
                    raise ValueError(f"its test {name} must be 0 to 1, not {value}")
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            cause = str(error).strip().splitlines()[0][:200]
            raise ValueError(f"checkpoint does not fit its own recipe and network ({cause}); "
                             "train without --resume") from None

    def choose_precision(self, report: Callable[[str], object]) -> None:
        """Take the quicker number format, if the recipe leaves the choice, and say so."""
        if self.precision != "auto":
            return
        before = copy.deepcopy(self.model.state_dict())
        image_q, wanted = next(self.task.batches(np.random.default_rng(0)))

        def step(precision: str) -> None:
            self._loss(image_q, wanted, precision)[0].backward()
            self.optimiser.zero_grad()

        self.model.train()
        self.precision, seconds = choose(step, self.device)
        self.model.load_state_dict(before)  # running statistics
        if world() > 1:    # the first process decides
            self.precision = ("bf16" if add_up(rank() == 0 and self.precision == "bf16")[0]
                              else "fp32")
        report(f"trains in {self.precision}: a step of {len(image_q)} images takes "
               + ", ".join(f"{1e3 * s:.0f} ms in {name}" for name, s in seconds.items()))

    def run_epoch(self) -> dict[str, Any]:
        """Train one epoch, evaluate, append the record to `log` and return it."""
        self.choose_precision(lambda text: None)
        started, used = time.monotonic(), time.process_time()
        parts = self._train_epoch()
        self.epoch += 1
        record: dict[str, Any] = {
            "epoch": self.epoch,
            **{key: round(value, 5) for key, value in parts.items()},
            "lr": learning_rate(self.recipe, self.epoch),
        }
        count = len(self.task) // self.recipe.batch * self.recipe.batch
        record["images_per_cpu_second"] = round(
            count / max(add_up(time.process_time() - used)[0], 1e-9), 1)
        for ending, network in (("", self.model), ("_ema", self.average)):
            figures = {f"val_{name}": value
                       for name, value in self.task.measure(network, "val").items()}
            record.update({f"{name}{ending}": value for name, value in figures.items()})
            if figures[self.score] > self.best[self.score]:
                self.best = {
                    **figures,
                    "epoch": self.epoch,
                    "weights": "last" if network is self.model else "average",
                    "model": {k: v.clone() for k, v in network.state_dict().items()},
                }
        record.update(activity(self.model, self.task.some(ACTIVE)))
        record["seconds"] = round(time.monotonic() - started, 1)
        record["cpu_seconds"] = round(add_up(time.process_time() - used)[0], 2)
        self.log.append(record)
        return record

    def _train_epoch(self) -> dict[str, float]:
        recipe = self.recipe
        self.model.train()
        steps = len(self.task) // recipe.batch
        # The order and augmentation of an epoch depend on nothing but the seed and its number.
        rng = np.random.default_rng((recipe.seed, self.epoch))
        mixing = int(np.random.default_rng((recipe.seed, self.epoch, rank())).integers(1 << 31))
        random.seed(mixing)
        np.random.seed(mixing)
        torch.manual_seed(mixing)
        bar = tracked(self.task.batches(rng), f"epoch {self.epoch + 1}", steps, "steps")
        totals: dict[str, float] = {}
        for step, (image_q, wanted) in enumerate(bar):
            for group in self.optimiser.param_groups:
                progress = self.epoch + (step + 1) / steps
                group["lr"] = group["scale"] * learning_rate(recipe, progress)
            loss, parts = self._loss(image_q, wanted, self.precision)
            if not math.isfinite(loss.item()):
                self._stop(image_q, step + 1, loss.item())
            self.optimiser.zero_grad()
            loss.backward()
            if recipe.clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
            self.optimiser.step()
            self._update_average(self.epoch * steps + step)
            for key, value in parts.items():
                totals[key] = totals.get(key, 0.0) + value / steps
        return dict(zip(totals, (x / world() for x in add_up(*totals.values())), strict=True))

    def _loss(
        self, image_q: np.ndarray, wanted: Any, precision: str
    ) -> tuple[Tensor, dict[str, float]]:
        """The whole loss of a batch, and its parts and the accuracy for the log."""
        recipe = self.recipe
        x = to_input(image_q, self.spec, self.device)
        if isinstance(wanted, np.ndarray):    # labels
            target = torch.from_numpy(wanted).to(self.device)
            x, mixed = self._mixed(x, target)
            wanted = target, mixed
        own: Operands = []
        with Penalty(self.model) as penalty, ExitStack() as stack:
            if self.teacher is not None:
                own = stack.enter_context(capture_operands(self.model))
            with autocast(self.device, precision):
                outputs = outputs_in(self._parallel(x), torch.get_default_dtype())
        loss, parts = self.task.loss(outputs, wanted)
        if self.spec.spikes and recipe.attention_penalty:
            loss = loss + recipe.attention_penalty * penalty.take()
        if self.teacher is not None:
            more, said = self._taught(x, own, outputs, precision)
            loss, parts = loss + more, parts | said
        return loss, parts

    def _mixed(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mixup, cutmix and random erasing, of all time steps of a sample in the same way."""
        if self._mix is None and self._erase is None:
            return x, target
        frames = x.ndim == 5
        if frames:    # (B, T*C, H, W)
            x = x.transpose(0, 1).flatten(1, 2)
        if self._mix is not None:
            x, target = self._mix(x, target)
        if self._erase is not None:
            x = self._erase(x)
        return (x.unflatten(1, (self.spec.time_steps, -1)).transpose(0, 1) if frames else x), target

    def _taught(
        self, x: Tensor, own: Operands, logits: Tensor, precision: str
    ) -> tuple[Tensor, dict[str, float]]:
        """What the teacher adds to the loss, and its parts."""
        recipe, teacher = self.recipe, self.teacher
        if teacher is None:
            raise ValueError("there must be a teacher")
        with torch.no_grad(), autocast(self.device, precision):
            answer, operands = shown(teacher, x, self.spec.time_steps)
            answer = answer.to(logits.dtype)
        loss, parts = logits.new_zeros(()), {}
        if recipe.fgd:
            term = fgd_loss(own, operands)
            loss, parts["train_fgd"] = loss + recipe.fgd * term, term.item()
        if recipe.distil:
            term = logit_loss(logits, answer, recipe.temperature)
            loss, parts["train_distil"] = loss + recipe.distil * term, term.item()
        return loss, parts

    def _mixup(self) -> Any:
        recipe = self.recipe
        if not (recipe.mixup or recipe.cutmix):
            return None
        return timm_part("data.mixup").Mixup(
            mixup_alpha=recipe.mixup, cutmix_alpha=recipe.cutmix,
            label_smoothing=recipe.label_smoothing, num_classes=self.spec.classes)

    def _stop(self, image_q: np.ndarray, step: int, loss: float) -> None:
        """Name the step and the first layer whose values are not finite."""
        where = first_not_finite(self.model, to_input(image_q, self.spec, self.device))
        raise ValueError(
            f"the loss must stay finite, but is {loss} in epoch {self.epoch + 1}, step {step}; "
            f"first not finite: {where}. --resume goes on after epoch {self.epoch}; lower --lr")

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.recipe.ema_decay, (1 + step) / (10 + step))  # forgets the start soon
        torch._foreach_lerp_(self._averaged, self._followed, 1 - decay)


def entries_of_test(figures: Mapping[str, float] | None) -> dict[str, float | None]:
    """Figures of the test part as entries of a file, "test_acc" and so on."""
    if figures is None:
        return {"test_acc": None}
    return {f"test_{name}": value for name, value in figures.items()}


def figures_of_test(state: Mapping[str, Any]) -> dict[str, float] | None:
    """The figures of `entries_of_test`; None before the test."""
    found = {name.removeprefix("test_"): value for name, value in state.items()
             if name.startswith("test_") and value is not None}
    return found or None


def _floats(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers that can be averaged: all but the integer batch counters."""
    return [x for x in model.state_dict().values() if x.is_floating_point()]


class Penalty:
    """Collects mean(max(x - 1, 0)) of all attention membranes x during forward passes.

    x is in units of the membrane that fires the highest level.
    """

    def __init__(self, model: SpikingTransformer) -> None:
        lifs = [m.attn_lif for m in model.modules() if isinstance(m, SpikeAttention)]
        self._highest = model.spec.highest
        self._terms: list[Tensor] = []
        self._handles = [lif.register_forward_pre_hook(self._collect) for lif in lifs]

    def _collect(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._terms.append(F.relu(args[0].float() / self._highest - 1).mean())

    def take(self) -> Tensor:
        """Sum of the terms since the last call."""
        total = torch.stack(self._terms).sum()
        self._terms.clear()
        return total

    def __enter__(self) -> "Penalty":
        return self

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles:
            handle.remove()
