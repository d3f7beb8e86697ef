"""What learners have in common that watch whether their numbers are finite."""

from __future__ import annotations

from pwm_sdk.optim import FiniteWatch


class Watched:
    """A learner whose `finite` watches its losses and gradients, of each policy by itself."""

    finite: FiniteWatch

    @property
    def stopped(self) -> list[int]:
        """Numbers of the policies of a population that are stopped; waits for the device."""
        return self.finite.members()

    def check_finite(self) -> None:
        """Wait for the device and tell what was not finite since the last reading.

        Raises:
            ValueError: naming it; of a population only if all policies are stopped, others are
                named in a warning.
        """
        self.finite.read()
