"""What the assistant can do with a conversation: summaries and replies. Knows people and messages, not tensors."""

from ai_enclave.features.conversation import Message, Thread
from ai_enclave.features.digest import Digest, Digester, Line
from ai_enclave.features.replies import Suggester, Suggestion

__all__ = ["Digest", "Digester", "Line", "Message", "Suggester", "Suggestion", "Thread"]
