"""Every size and count that a verifier accepts, before it parses: whoever makes evidence is not trusted with our memory."""

MAX_DOCUMENT = 4 * 1024 * 1024  # bytes of one evidence document: sixteen devices, and an event log
MAX_BUNDLE = 16 * 1024 * 1024  # bytes of a bundle: a document and the collateral for it
MAX_CONTAINERS = 20_000  # lists and objects of a document, those in the texts of TDX collateral included
MAX_MEMBERS = 100_000  # members of all of them
MAX_REPORT = 64 * 1024  # bytes of one report or quote: configfs-tsm gives at most 32 KiB
MAX_EVENT_LOG = 1024 * 1024  # bytes: the firmware's area is 256 KiB on Google Cloud
MAX_EVENTS = 4096  # of an event log
MAX_DEVICES = 32  # GPUs and switches of one machine
MAX_CERTIFICATE = 16 * 1024  # bytes of one certificate
MAX_CERTIFICATES = 16  # in one chain
MAX_CRL = 1024 * 1024  # bytes of one revocation list
MAX_RIM = 512 * 1024  # bytes of one reference manifest; real ones have 20 KiB
MAX_RIMS = 64  # manifests in one collateral
MAX_OCSP = 16 * 1024  # bytes of one OCSP answer
MAX_OCSPS = 256  # answers in one collateral
MAX_TCB_INFO = 256 * 1024  # bytes of one of Intel's JSON documents
MAX_POLICY = 32 * 1024  # bytes of a policy document
MAX_NAME = 128  # characters of a name
MAX_DRIFT = 300  # seconds that a vendor's clock may be ahead of ours
MAX_RECEIPT = 4 * 1024  # bytes of a signed receipt; one has about 700
MAX_RECEIPT_DRIFT = 60  # seconds by which the enclave's clock may be behind ours
