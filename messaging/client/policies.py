"""Which policy this device judges by: read under a signature, and never exchanged for an older one of the same key.

Whoever stores or delivers policies can hand out one that was signed once and withdrawn since. So a device remembers how new the
newest policy was that it accepted of each key. What a policy means is for ``attestation``; its exceptions stand in every result.
"""

from datetime import datetime

from attestation import Policy
from attestation.appraisal.policy_file import PolicyKey, parse_policy
from messaging.client.assistant_errors import PolicyDowngraded
from messaging.client.stores import Store

_NEWEST = "newest policy"


async def accept_policy(store: Store, note: bytes, key: PolicyKey, now: datetime) -> Policy:
    """Read a signed policy that is not older than any that this device accepted of ``key``.

    One whose time has not come yet is returned, to be refused by every appraisal until then, and not remembered: it must not
    shut out the one that is valid today.

    Args:
        note: the policy file, as ``attestation.appraisal.policy_file`` reads it.
        key: whose signature has to hold.

    Raises:
        MalformedPolicy: it is not signed by ``key``, or no policy.
        PolicyDowngraded: it is valid from an earlier time than one that was accepted, or says no time where one before did.
    """
    policy = parse_policy(note, key)
    async with store.transaction() as transaction:
        remembered = transaction.get(_NEWEST, str(key))
        newest = None if remembered is None else datetime.fromisoformat(remembered.decode())
        if newest is not None and (policy.valid_from is None or policy.valid_from < newest):
            raise PolicyDowngraded
        if policy.valid_from is not None and policy.valid_from <= now and policy.valid_from != newest:
            transaction.put(_NEWEST, str(key), record=policy.valid_from.isoformat().encode())
    return policy
