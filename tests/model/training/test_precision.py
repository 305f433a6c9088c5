"""model.training.precision: the quicker number format, by a step that leaves nothing behind."""

from dataclasses import replace

import pytest
import torch

from model.training import precision
from model.training.trainer import Trainer
from tests.model.tiny import DATA, RECIPE, TINY


torch.set_num_threads(1)


class Clock:
    """A clock that only steps move."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.now, self.seconds, self.steps = 0.0, seconds, []

    def process_time(self) -> float:
        return self.now

    def step(self, name: str) -> None:
        self.now += self.seconds[name] * (10 if name not in self.steps else 1)  # the first is slow
        self.steps.append(name)


@pytest.mark.parametrize("bf16, chosen", [(0.5, "bf16"), (0.96, "fp32"), (10.0, "fp32")])
def test_the_quicker_one_is_taken(monkeypatch, bf16, chosen):
    clock = Clock({"fp32": 1.0, "bf16": bf16})
    monkeypatch.setattr(precision.time, "process_time", clock.process_time)
    found, seconds = precision.choose(clock.step, torch.device("cpu"))
    assert found == chosen
    assert seconds == pytest.approx({"fp32": 1.0, "bf16": bf16})


@pytest.mark.parametrize("chosen", ["fp32", "bf16"])
def test_the_choice_changes_nothing_but_the_format(monkeypatch, chosen):
    monkeypatch.setattr("model.training.trainer.choose", lambda step, device: (
        step("fp32"), step("bf16"), (chosen, {"fp32": 1.0, "bf16": 2.0}))[2])
    auto = Trainer(TINY, replace(RECIPE, precision="auto"), DATA)
    said = []
    auto.choose_precision(said.append)
    assert said[0].startswith(f"trains in {chosen}: a step of 8 images takes 1000 ms in fp32")
    fixed = Trainer(TINY, replace(RECIPE, precision=chosen), DATA)
    assert auto.run_epoch()["train_loss"] == fixed.run_epoch()["train_loss"]
    # A resumed run does not choose again.
    rest = Trainer(TINY, replace(RECIPE, precision="auto"), DATA)
    rest.restore(auto.state())
    assert rest.precision == chosen
