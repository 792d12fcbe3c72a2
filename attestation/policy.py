"""What a relying party accepts (RFC 9334, section 8.5: appraisal policy for evidence)."""

import hmac
from dataclasses import dataclass

from attestation.errors import SimulatedHardwareRefused, UnacceptedMeasurement


@dataclass(frozen=True, slots=True)
class Policy:
    """Genuine hardware that runs one of the accepted releases; nothing else.

    ``accepted_measurements`` are the reference values, 48 bytes each, of the releases that the relying party trusts.
    """

    accepted_measurements: frozenset[bytes]

    def validate_measurement(self, measurement: bytes) -> None:
        """Raises :class:`UnacceptedMeasurement` unless the code is an accepted release."""
        if not any(hmac.compare_digest(measurement, accepted) for accepted in self.accepted_measurements):
            raise UnacceptedMeasurement("the running code is none of the accepted releases")

    def validate_simulated(self) -> None:
        """Raises :class:`SimulatedHardwareRefused`: a simulation protects nobody."""
        raise SimulatedHardwareRefused("the TEE is simulated: its operator can read everything in it")


@dataclass(frozen=True, slots=True)
class UnsafeAcceptSimulated(Policy):
    """Accepts the simulated TEE too. For development: whoever runs the simulation can read what is sent to it."""

    def validate_simulated(self) -> None:
        """Accept; the claims still say that the hardware is simulated."""
