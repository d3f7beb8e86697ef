"""TD(lambda) and one-step targets against the published ones."""

from __future__ import annotations

import pytest
from vectors import load

from pwm_sdk.functional.returns import lambda_returns

CASES = sorted({key.split("/")[1] for key in load("g3_td_lambda.npz") if key.startswith("in/")})


@pytest.mark.parametrize("case", CASES)
def test_published_targets(close, case: str) -> None:
    """The published program bootstraps V wherever its done flag is set: it is our `truncated`.

    It sets the flag at every last step, which is cut here without being told.
    """
    data = load("g3_td_lambda.npz")
    names = ("rewards", "next_values", "done_mask")
    reward, value, done = (data[f"in/{case}/{n}"].T.unsqueeze(-1) for n in names)
    gamma, lam = float(data[f"in/{case}/gamma"]), float(data[f"in/{case}/lam"])
    assert done[:, -1].all()
    result = lambda_returns(reward, value, gamma, lam, truncated=done.bool())
    close(result, data[f"out/{case}/targets"].T.unsqueeze(-1))
    one_step = lambda_returns(reward, value, gamma, lam=0.0)
    close(one_step, data[f"out/{case}/targets_one_step"].T.unsqueeze(-1))
