"""Mean and variance of everything seen so far, batch by batch."""

from __future__ import annotations

from torch import Tensor

from pwm_sdk.calls import checked, shaped


@checked(batch=shaped(..., None))
def merge_moments(
    mean: Tensor, var: Tensor, count: Tensor, batch: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Add a batch to running moments.

    .. math:: m' = m + \delta n / N, \quad v' = (v c + v_B n + \delta^2 c n / N) / N

    with :math:`\delta = m_B - m` and :math:`N = c + n`; variances are divided by the number of
    rows, not by one less.

    Args:
        mean: `[*shape]`.
        var: `[*shape]`.
        count: c, rows seen so far, `[]`.
        batch: `[n, *shape]`.

    Returns:
        New mean, variance and count.

    Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing
    sample variances (1979).
    """
    if not mean.shape == var.shape == batch.shape[1:]:
        raise ValueError(
            f"mean and var must have the shape of the rows of batch {list(batch.shape)}, "
            f"got {list(mean.shape)} and {list(var.shape)}"
        )
    rows = batch.shape[0]
    total = count + rows
    delta = batch.mean(0) - mean
    spread = var * count + batch.var(0, correction=0) * rows + delta.square() * count * rows / total
    return mean + delta * rows / total, spread / total, total
