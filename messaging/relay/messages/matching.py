"""Does a send name exactly the devices of its recipient, as they are registered now? Decided here, without I/O.

Source: Signal-Server, ``MessageSender``; of a single recipient, stale devices are reported before missing ones.
"""

from collections.abc import Mapping

from messaging.relay.errors import DevicesMismatched, DevicesStale


def check_devices(named: Mapping[int, int], registered: Mapping[int, int], *, without: int | None = None) -> None:
    """Compare device ids and registration ids.

    Args:
        named: registration id by device id, as the sender knows them.
        registered: the same, as the relay knows them.
        without: the sending device, which a message to one's own account leaves out.

    Raises:
        DevicesStale: a device was registered anew since the sender last looked.
        DevicesMismatched: a device is missing, or one is named that does not exist.
    """
    if without is None and named == registered:
        return
    expected = registered.keys() - {without}
    stale = {device for device in named.keys() & expected if named[device] != registered[device]}
    if stale:
        raise DevicesStale(stale)
    missing, extra = expected - named.keys(), named.keys() - expected
    if missing or extra:
        raise DevicesMismatched(missing=missing, extra=extra)
