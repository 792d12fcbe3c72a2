"""Envelopes come back from their bytes."""

import pytest
from hypothesis import given
from hypothesis.strategies import binary, booleans, builds, integers, none, sampled_from, uuids

from messaging.wire.envelope import Envelope, EnvelopeType, decode_envelope, encode_envelope
from messaging.wire.errors import MalformedField
from messaging.wire.identifiers import DeviceAddress, IdentityKind, ServiceId
from messaging.wire.limits import MAX_TIMESTAMP
from messaging.wire.protobuf import envelope_pb2 as pb

times = integers(0, MAX_TIMESTAMP)
service_ids = builds(ServiceId, uuids(), sampled_from(IdentityKind))
envelopes = builds(
    Envelope,
    type=sampled_from(EnvelopeType),
    destination=service_ids,
    guid=uuids(),
    client_timestamp=times,
    server_timestamp=times,
    content=binary(max_size=40),
    source=none() | builds(DeviceAddress, service_ids, integers(1, 127)),
    urgent=booleans(),
    story=booleans(),
    ephemeral=booleans(),
)


@given(envelope=envelopes)
def test_decode_undoes_encode(envelope: Envelope) -> None:
    assert decode_envelope(encode_envelope(envelope)) == envelope


@pytest.mark.parametrize("data", [b"", b"\xff", pb.Envelope(type=pb.Envelope.CIPHERTEXT).SerializeToString()])
def test_other_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedField):
        decode_envelope(data)
