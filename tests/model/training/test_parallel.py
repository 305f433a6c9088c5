"""model.training.parallel: several processes do the step of one with all the pictures."""

from dataclasses import replace
import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import torch

from model.training.session import train
from model.training.trainer import Trainer
from tests.model.tiny import DATA, RECIPE, TINY


torch.set_num_threads(1)

ROOT = Path(__file__).parents[3]

RECIPE_64 = replace(RECIPE, epochs=2, batch=16, label_smoothing=0.1)

CHILD = """
import sys, torch
from pathlib import Path
from model.training.parallel import processes, rank
from tests.model.training.test_parallel import run
with processes(torch.device("cpu")):
    run(Path(sys.argv[1]) / str(rank()))
"""


def run(folder: Path) -> None:
    """Train in float64, where the order of additions is the only difference there is."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        folder.mkdir(parents=True)
        trainer = Trainer(TINY, RECIPE_64, DATA)
        test = train(trainer, folder, lambda text: None)
        arrays = {key: value.numpy() for key, value in trainer.model.state_dict().items()}
        arrays |= {f"ema/{k}": v.numpy() for k, v in trainer.average.state_dict().items()}
        scores = [[r[key] for key in ("train_loss", "train_acc", "val_acc", "val_acc_ema")]
                  for r in trainer.log]
        np.savez(folder / "end.npz", **arrays, scores=np.array([*scores, [test["acc"]] * 4]))
    finally:
        torch.set_default_dtype(torch.float32)


def test_two_processes_equal_one(tmp_path):
    run(tmp_path / "one")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
                   "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
         "--master-port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--no-python",
         sys.executable, "-c", CHILD, str(tmp_path / "two")],
        capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    one, *two = (np.load(tmp_path / name / "end.npz") for name in ("one", "two/0", "two/1"))
    for rank in two:
        assert set(rank.files) == set(one.files)
        for name in one.files:
            # A bias in front of a batch norm has the gradient 0; Adam divides what rounding leaves
            # of it by its own size, which is the 1e-9 that is seen. Everything else is below 1e-12.
            loose = name.endswith(("_conv.bias", "running_mean"))
            np.testing.assert_allclose(rank[name], one[name], rtol=0,
                                       atol=1e-7 if loose else 1e-10, err_msg=name)
            np.testing.assert_array_equal(rank[name], two[0][name], err_msg=name)
    assert (tmp_path / "two/0/checkpoint.pth").exists()
    assert not (tmp_path / "two/1/checkpoint.pth").exists(), "the first process alone writes"
