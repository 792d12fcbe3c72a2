"""By what evidence is judged: the relying party's policy, the vendors' word, their roots, and the time."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from attestation.appraisal.policy import Policy
from attestation.collateral import Collateral
from attestation.errors import StaleCollateral
from attestation.limits import MAX_DRIFT
from attestation.verification.revocation import Window
from attestation.verification.roots import Roots


@dataclass(frozen=True, slots=True)
class Grounds:
    """One appraisal's grounds; ``now`` has a time zone."""

    policy: Policy
    collateral: Collateral
    roots: Roots
    now: datetime

    def validate_window(self, window: Window, *, age: timedelta | None = None) -> None:
        """Check that now lies in the window that a vendor gave its word, and that it began at most ``age`` ago.

        Raises:
            StaleCollateral: it does not. Clocks of vendors may be ahead by a few minutes.
        """
        if window.since - self.now > timedelta(seconds=MAX_DRIFT):  # a difference cannot leave the calendar
            raise StaleCollateral("the collateral is dated after the time of the appraisal")
        if self.now > window.until:
            raise StaleCollateral("the collateral is past the time that its vendor gave it")
        if age is not None and self.now - window.since > age:
            raise StaleCollateral("the collateral is older than the policy allows")
