"""Every size that the wire allows, named once. Bytes unless the name says otherwise.

Numbers with a source are Signal-Server's, so that its clients never meet a smaller bound.
"""

MAX_CONTENT = 96 * 1024  # ciphertext of one message for one device (Signal-Server, MessageSender): 413
MAX_EVIDENCE = 4 * 1024 * 1024  # an evidence document, before it is deflated to fit into a message
MAX_REPORTED_BUNDLE = 512 * 1024  # what an assistant reports of its evidence, deflated; in base64 it fits into MAX_BODY
MAX_RELEASE_NAME = 128  # characters (attestation: MAX_NAME)
MEASUREMENT = 48  # of an enclave's code
MAX_FRAME = 512 * 1024  # one WebSocket frame (Signal-Server): close code 1009
MAX_BODY = 762_144  # one HTTP body (Signal-Server, of a message to many): 413
MAX_IDEMPOTENCY_KEY = 128  # characters of an idempotency key; at least 16, so that nobody guesses one
MIN_IDEMPOTENCY_KEY = 16
MAX_DELIVERIES = 5  # failed deliveries after which an envelope is parked
MAX_MARKER = 64  # characters of a sync marker
MAX_HEADERS = 64  # headers of one tunnelled request
MAX_HEADER = 4 * 1024  # one header of a tunnelled request, name and value
MAX_PATH = 1024  # path and query of a tunnelled request
MAX_QUERY_FIELDS = 32  # parameters of one query
MAX_DEVICES = 6  # devices of one account, the primary one included (Signal-Server)
MAX_DEVICE_ID = 127  # libsignal
MAX_REGISTRATION_ID = 0x3FFF  # 14 bits (libsignal)
MAX_PREKEYS = 100  # one-time prekeys of one kind in one upload (Signal-Server)
MAX_PREKEY_ID = 2**31 - 1  # libsignal's clients write non-negative 32-bit numbers
MAX_TIMESTAMP = 8_640_000_000_000_000  # milliseconds: the largest date of JavaScript (Signal-Server)
MAX_UNACKNOWLEDGED = 256  # envelopes sent on one socket and not yet acknowledged (Signal-Server)

ACCESS_KEY = 16  # unidentified access key
NONCE = 32  # a verifier's nonce for evidence
MASTER_KEY = 32  # names a conversation
REQUEST_ID = 16  # names a request to the assistant
PROFILE_KEY = 32
DIGEST = 32  # SHA-256
SALT = 16  # makes the hash of an answer tell nothing about it
MEMBER_TAG = 16  # stands for one member in a roster
CONTENT_BLOCK = 80  # plaintext is padded to a multiple of this, less one (Signal-Android, PushTransportDetails)
# Every request is padded to one of these: 16 KiB for a roster of all members, 80 KiB for the largest scope.
REQUEST_BUCKETS = (205 * CONTENT_BLOCK - 1, 1024 * CONTENT_BLOCK - 1)
MAX_REQUEST = REQUEST_BUCKETS[-1] - 6  # of a request; the rest is its content's own and the first byte of padding
MAX_CONSENT = 512  # of a consent statement; one of this version has at most 77
FRAME = 102 * CONTENT_BLOCK - 1  # every frame of an answer is padded to this: 8 KiB
FRAME_DATA = FRAME - 79  # of an answer in one frame; the rest is its frame's own
ANSWER_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)  # frames: an answer is filled up to one of these numbers
MAX_SCOPE = 500  # messages that one request may name
MAX_AUTHORS = 250  # authors that one request may name
MAX_CONSENTS = MAX_SCOPE + 1  # statements that one answer may rest on: one for each message, and the requester's own
MAX_MEMBER_NAME = 64  # characters of what a requester calls somebody; the rest is cut
MAX_DRAFT = 8 * 1024  # bytes of UTF-8 of a draft to rewrite
MAX_TONE = 64  # characters
MAX_DEADLINE = 60_000  # milliseconds for which a request may wait
ATTACHMENT_SECRET = 64  # a key for AES-256 and one for HMAC-SHA256
MAX_ATTACHMENTS = 32  # of one message (Signal's clients)
MAX_ATTACHMENT_KEY = 128  # characters that name an uploaded file
MAX_CONTENT_TYPE = 255  # characters
MAX_FILE_NAME = 255  # characters; no file system takes more
MAX_EMOJI = 64  # characters of a reaction: an emoji with all that may modify it
MAX_QUOTED = 2048  # characters of the quoted message
MAX_MENTIONS = 200  # people named in one text
MAX_EXPIRES_IN = 2**32 - 1  # seconds until a message is deleted, which the wire can hold
MAX_PROFILE_NAME = 128  # characters (Signal: bytes)
MAX_PROFILE_ABOUT = 512  # characters
MAX_BOTS = 64  # of one conversation
MAX_REVISION = 2**53  # of a conversation: exact in every language, and never used up in steps
MAX_CONVERSATION_MEMBERS = 1000  # members of one conversation (Signal's group limit)

EC_PUBLIC_KEY = 33  # a type byte 0x05 and a Curve25519 point (libsignal)
KYBER_PUBLIC_KEY = 1569  # a type byte 0x08 and a Kyber-1024 key (libsignal)
SIGNATURE = 64  # XEdDSA
MAX_DEVICE_NAME = 225  # encrypted name of a device (Signal-Server)
MAX_PASSWORD = 256  # a device's password, in characters
REGISTRATION_LOCK = 64  # hexadecimal digits of a registration lock (Signal-Server)
RECOVERY_PASSWORD = 32  # registration recovery password (Signal-Server)
MAX_PROVISIONING_MESSAGE = 256 * 1024  # base64 characters of a provisioning message (Signal-Server)
MAX_PROFILE_VERSIONS = 10  # of one account; the one that was changed longest ago goes
MAX_AVATAR = 10 * 1024 * 1024  # bytes of an avatar's ciphertext
MAX_IDENTITY_CHECKS = 1000  # accounts in one check of identity keys (Signal-Server)
MAX_USERNAME_HASHES = 20  # in one reservation (Signal-Server)
USERNAME_HASH = 32
MAX_USERNAME_PROOF = 256
MAX_ENCRYPTED_USERNAME = 128  # Signal-Server
PROFILE_COMMITMENT = 97  # profile key commitment (libsignal, zkgroup)
MAX_VERIFICATION_CODE = 32  # a code as it is typed, an invite's with its dashes
MAX_CLIENT_NAME = 64  # what a client calls itself when it asks for a code
MAX_CAPABILITIES = 64  # capabilities that one device may name
