"""Whether the hardware said it: signatures, and chains up to a pinned root of the vendor. No clock: times are policy."""
