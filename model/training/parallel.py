"""One training on several processes, as ``torchrun`` starts them.

A step of P processes with B/P pictures each is the step of one process with B: gradients are
averaged (DistributedDataParallel), batch norms take the statistics of the whole batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
import os

import torch
from torch import distributed, nn, Tensor
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel


__all__ = ["add_up", "data_parallel", "processes", "rank", "synchronise", "world"]


def world() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process, 0 for the one that writes and speaks."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, if it did, for the time of the block."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def add_up(*values: float) -> list[float]:
    """Sums of plain numbers over all processes."""
    if world() == 1:
        return list(values)
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    total = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return total.tolist()


def data_parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` with synchronised batch norms and averaged gradients; itself in one process."""
    if world() == 1:
        return model
    synchronise(model)
    # Buffers are equal everywhere: the statistics are those of the whole batch.
    return DistributedDataParallel(
        model, device_ids=[device.index] if device.type == "cuda" else None,
        broadcast_buffers=False)


def synchronise(model: nn.Module) -> None:
    """Give every batch norm of `model` the statistics of all processes in training.

    torch's own SyncBatchNorm is for GPUs alone.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            vars(module)["forward"] = partial(_batch_norm, module)


def _batch_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """The batch norm of (B, C, H, W) over all processes, by the mean and then the variance."""
    if not norm.training:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias,
                            eps=norm.eps)
    count = world() * x.numel() // x.shape[1]
    x = x.float() if x.dtype == torch.bfloat16 else x
    centre = all_reduce(x.sum((0, 2, 3))) / count
    away = x - centre.view(-1, 1, 1)
    variance = all_reduce(away.square().sum((0, 2, 3))) / count
    with torch.no_grad():
        if norm.running_mean is not None and norm.running_var is not None:
            momentum = norm.momentum or 0.0
            norm.running_mean.lerp_(centre.to(norm.running_mean.dtype), momentum)
            unbiased = variance * (count / (count - 1))
            norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    gain = norm.weight * torch.rsqrt(variance + norm.eps)
    return away * gain.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
