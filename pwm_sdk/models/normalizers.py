"""Running moments of what networks see."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from pwm_sdk.calls import checked, least, may_be_infinite, shaped
from pwm_sdk.checkpoints.foreign import open_foreign
from pwm_sdk.checkpoints.pwm import pwm_statistics
from pwm_sdk.checks import positive
from pwm_sdk.functional.moments import merge_moments


@checked(
    shape=least(1), limit=(positive, may_be_infinite), eps=least(0.0), values=shaped(..., None)
)
class RunningMeanStd(nn.Module):
    """Mean and variance of everything seen so far, to normalise observations or rewards.

    Args:
        shape: shape of one row.
        limit: normalised values are clipped to [-limit, limit].
        eps: added to the variance.

    Attributes:
        mean: `[*shape]`, starts at 0.
        var: `[*shape]`, starts at 1.
        count: rows seen, starts at 1e-4.

    Source: SHAC (arXiv 2204.07137) and PWM, their programs.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, shape: Sequence[int] = (1,), limit: float = 5.0, eps: float = 1e-5) -> None:
        super().__init__()
        self.limit, self.eps = limit, eps
        self.register_buffer("mean", torch.zeros(tuple(shape)))
        self.register_buffer("var", torch.ones(tuple(shape)))
        self.register_buffer("count", torch.tensor(1e-4, dtype=torch.float64))

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        name: str = "rew_rms",
        limit: float = 5.0,
        eps: float = 1e-5,
    ) -> Self:
        """Read the running statistics of a file of PWM, on the CPU.

        Args:
            path: the file.
            name: "obs_rms", "rew_rms" or "ret_rms": of observations, rewards or returns.
            limit: as of the class; the file does not have it.
            eps: as of the class; the file does not have it.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged, would run code, or has no such statistics.
        """
        found = pwm_statistics(open_foreign(path))
        if name not in found:
            raise ValueError(f"name must be one of {sorted(found)}, got {name!r} for {path}")
        mean, var = (found[name][key].float() for key in ("mean", "var"))
        made = cls(mean.shape, limit, eps)
        made.load_state_dict({"mean": mean, "var": var, "count": found[name]["count"].double()})
        return made

    @property
    def scale(self) -> Tensor:
        """What values are divided by: their standard deviation, `[*shape]`."""
        return (self.var + self.eps).sqrt()

    @torch.no_grad()
    def update(self, values: Tensor) -> Tensor:
        """Take in values `[.., *shape]` and return `scale`."""
        self._check(values)
        rows = values.detach().reshape(-1, *self.mean.shape).to(self.mean.dtype)
        moments = merge_moments(self.mean, self.var, self.count, rows)
        for buffer, value in zip((self.mean, self.var, self.count), moments, strict=True):
            buffer.copy_(value)  # in place: it stays what it is, also under inference_mode
        return self.scale

    def normalize(self, values: Tensor) -> Tensor:
        """Return `(x - mean) / std` of values `[.., *shape]`, clipped."""
        self._check(values)
        return ((values - self.mean) / self.scale).clamp(-self.limit, self.limit)

    def unnormalize(self, values: Tensor) -> Tensor:
        """Return `x * std + mean` of values `[.., *shape]`."""
        self._check(values)
        return values * self.scale + self.mean

    def _check(self, values: Tensor) -> None:
        """Raise ValueError for values that do not end in the shape of a row."""
        shape = self.mean.shape
        if shape.numel() != 1 and values.shape[values.dim() - len(shape) :] != shape:
            raise ValueError(f"values must end in shape {list(shape)}, got {list(values.shape)}")
