"""JSON of ``GET /v1/server-info``, an endpoint of our own: what a client must know before it trusts a relay."""

from messaging.wire.json import EcPublicKey, Entity


class AssistantInfo(Entity):
    """One assistant account; that it is an enclave is for its evidence to prove, not for the relay to say."""

    name: str
    service_id: str


class ServerLimits(Entity):
    """What the relay accepts. Sizes are bytes, times are seconds."""

    max_content: int
    max_frame: int
    max_devices: int
    max_prekeys: int
    max_unacknowledged: int
    envelope_lifetime_seconds: int


class Health(Entity):
    """``GET /v1/health/live`` and ``/ready``: the status is a word for people; machines go by that of HTTP."""

    status: str


class ServerInfo(Entity):
    """``trust_root`` is the public key that sealed-sender certificates lead to; ``source`` is where the code is."""

    version: str
    source: str
    trust_root: EcPublicKey
    assistants: tuple[AssistantInfo, ...] = ()
    limits: ServerLimits
