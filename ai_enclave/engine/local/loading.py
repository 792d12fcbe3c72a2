"""From a directory to everything that answers requests, or to a clear refusal."""

import time
from dataclasses import dataclass, field

import torch

from ai_enclave.engine.embedded import owned_cores
from ai_enclave.engine.local.batcher import Batcher
from ai_enclave.engine.local.blocks import BlockPool
from ai_enclave.engine.local.checkpoint import load_tensors
from ai_enclave.engine.local.config import Config, parse_config, read_object
from ai_enclave.engine.local.files import CONFIG, GENERATION, MAX_JSON_BYTES, TOKENIZER, Files, VerifiedFiles
from ai_enclave.engine.local.grammar import Grammar
from ai_enclave.engine.local.ledger import Ledger
from ai_enclave.engine.local.model import Model
from ai_enclave.engine.local.prompt import Prompts
from ai_enclave.engine.local.runner import Runner
from ai_enclave.engine.local.scheduler import Limits, Scheduler
from ai_enclave.engine.local.transfers import Transfers
from ai_enclave.engine.local.vocabulary import parse_vocabulary
from ai_enclave.engine.weights import EngineError

DEFAULT_CONTEXT = 16_384  # tokens of prompt and answer together, if the model has as many
CACHE_BYTES = 1024**3  # of keys and values on a CPU
CACHE_SHARE = 0.8  # of a GPU's free memory, once the weights are there
BLOCK_TOKENS = 16
_FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to load; see ``LocalEngine.load``."""

    expected: bytes | None = None
    int8: bool = False
    number_format: str | None = None
    threads: int | None = None
    context: int = DEFAULT_CONTEXT
    cache_bytes: int | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What answers requests."""

    title: str  # of the model
    number_format: str
    weights_digest: bytes
    context: int  # the most tokens of a prompt and its answer
    prompts: Prompts
    batcher: Batcher


def load(files: Files, options: Options) -> Loaded:
    """Verify, parse and try a directory. The digest is checked first of all.

    Raises:
        EngineError: the directory or the options are not what they should be, or there is too little memory.
    """
    verified = VerifiedFiles.of(files, options.expected)
    config = parse_config(verified.text(CONFIG), verified.text(GENERATION) if verified.has(GENERATION) else None)
    tokenizer = read_object(verified.text(TOKENIZER), TOKENIZER, MAX_JSON_BYTES)
    vocabulary = parse_vocabulary(tokenizer, config.vocabulary)
    grammar = Grammar(vocabulary.pieces)
    plan = _Plan.of(options, config)
    runner = _loaded_runner(verified, plan)
    ledger = Ledger(runner.pool.count, BLOCK_TOKENS)
    context = min(plan.context, ledger.count * ledger.size)
    prompts = Prompts(tokenizer, vocabulary, config, context - 1)
    batcher = Batcher(
        runner, Scheduler(ledger, options.limits), vocabulary, prompts.stops, grammar, clock=time.monotonic
    )
    title = config.title or config.family
    return Loaded(title, "int8" if options.int8 else plan.number_format, verified.digest, context, prompts, batcher)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the model is to be, and how large its cache."""

    config: Config
    options: Options
    device: torch.device
    number_format: str
    context: int

    @classmethod
    def of(cls, options: Options, config: Config) -> "_Plan":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        number_format = options.number_format or ("fp32" if device.type == "cpu" else "bf16")
        if number_format not in _FORMATS:
            raise EngineError(f"numbers have one of these formats: {', '.join(_FORMATS)}")
        return cls(config, options, device, number_format, min(options.context, config.positions))

    @property
    def dtype(self) -> torch.dtype:
        return _FORMATS[self.number_format]

    def blocks(self) -> int:
        """How many fit, once the weights are there."""
        free = self.options.cache_bytes
        if free is None:
            on_cpu = self.device.type == "cpu"
            free = CACHE_BYTES if on_cpu else int(torch.cuda.mem_get_info(self.device)[0] * CACHE_SHARE)
        numbers = 2 * self.config.layers * BLOCK_TOKENS * self.config.key_heads * self.config.head_size
        most = -(-self.context // BLOCK_TOKENS) * self.options.limits.running  # nothing could ever fill more
        return min(free // (numbers * self.dtype.itemsize), most)


def _loaded_runner(files: VerifiedFiles, plan: _Plan) -> Runner:
    """The model and its cache on their device, tried once."""
    try:
        weights = {
            name: tensor.to(plan.device) for name, tensor in load_tensors(files, plan.config, plan.dtype).items()
        }
        model = Model(plan.config, weights, plan.context, int8=plan.options.int8)
        if (blocks := plan.blocks()) < 1:
            raise EngineError("the memory for keys and values does not hold a single block")
        pool = BlockPool(plan.config, blocks, BLOCK_TOKENS, plan.dtype, plan.device)
        runner = Runner(model, pool, Transfers(plan.device), plan.options.threads or owned_cores())
        runner.probe()
    except (MemoryError, RuntimeError):
        raise EngineError("the weights and their cache do not fit into memory, or the device fails") from None
    return runner
