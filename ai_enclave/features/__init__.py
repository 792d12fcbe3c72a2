"""What the assistant can do with a conversation: summaries and replies. Knows people and messages, not tensors.

Messages are data. Whatever a message says, no line says more than its message, every line names its speaker, and
cites come from our own bookkeeping alone.
"""

from ai_enclave.features.conversation import Message, Thread
from ai_enclave.features.digest import Digest, Digester
from ai_enclave.features.grounded import Ungrounded, check_line
from ai_enclave.features.guard import Mark
from ai_enclave.features.labels import label_messages
from ai_enclave.features.lines import Line, LineKind
from ai_enclave.features.replies import Suggester, Suggestion

__all__ = [
    "Digest",
    "Digester",
    "Line",
    "LineKind",
    "Mark",
    "Message",
    "Suggester",
    "Suggestion",
    "Thread",
    "Ungrounded",
    "check_line",
    "label_messages",
]
