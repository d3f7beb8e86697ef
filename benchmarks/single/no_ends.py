"""A plugin: PWM that is not told of falls, the counterpart of `pwm` where episodes end early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium

from single import METHODS, method

if TYPE_CHECKING:
    from single.jobs import Job


class FallsAreCuts(gymnasium.Wrapper):
    """Reports an episode that terminated as one that was cut.

    Data then show no end: the model's termination head learns that there is none, imagination goes
    on after a fall, and values are bootstrapped there.
    """

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step; `terminated` is always False."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, False, terminated or truncated, info


@method("pwm-no-ends")
def pwm_no_ends(job: Job) -> None:
    """PWM with falls that look like cut episodes; it is evaluated as all methods are."""
    make_env, make_pool = job.make_env, job.make_pool
    job.make_env = lambda index=0: FallsAreCuts(make_env(index))
    job.make_pool = lambda count=1, batched=False: make_pool(count, batched)
    METHODS["pwm"](job)
