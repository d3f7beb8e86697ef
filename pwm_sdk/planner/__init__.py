"""Planning in any latent model."""

from pwm_sdk.planner.mppi import MPPI
from pwm_sdk.planner.policy_value import PolicyValue

__all__ = ["MPPI", "PolicyValue"]
