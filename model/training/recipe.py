"""How a network is trained; needs no torch."""

from dataclasses import dataclass, fields
import math


__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train; stored with the checkpoint, so that a resumed run continues exactly."""

    epochs: int = 60
    batch: int = 64
    lr: float = 3e-3
    """Peak learning rate of AdamW; a linear warm-up, then a half cosine to 1 % of it."""
    warmup: float = 0.03
    """Share of the run in which the learning rate rises."""
    alpha_lr: float = 0.1
    """Factor on the learning rate of the LSQ steps: keeps them from crossing 0."""
    weight_decay: float = 0.05
    """On tensors of two dimensions or more, as published: not on BN, biases, steps, scales."""
    label_smoothing: float = 0.05
    attention_beta: float = -0.6
    """Start of the last BN bias before q, k and v: at 0, nearly every attention level is 4."""
    attention_penalty: float = 0.01
    """Weight of mean(max(x - 1, 0)) on the attention membranes, where 1 means level 4."""
    ema_decay: float = 0.999
    bfloat16: bool = True
    """Train with bfloat16 autocast (levels and codes are exact in it); evaluation is float32."""
    seed: int = 1

    def __post_init__(self) -> None:
        for item in fields(self):
            value, wanted = getattr(self, item.name), type(item.default)
            fits = isinstance(value, (int, float) if wanted is float else wanted)
            if not fits or (wanted is not bool and isinstance(value, bool)):
                raise ValueError(f"{item.name} must be a {wanted.__name__}, not {value!r:.40}")
            if not math.isfinite(value):
                raise ValueError(f"{item.name} must be finite, not {value}")
        for name in ("epochs", "batch", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
