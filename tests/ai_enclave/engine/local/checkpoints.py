"""Tiny random checkpoints of each architecture, with a tokenizer trained on a few lines; and what transformers makes of them."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
VOCABULARY = 512
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# Small windows and unlike sizes, so that a wrong one would show.
SETTINGS: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": LLAMA3},
    "mistral": {"sliding_window": 24, "head_dim": 8, "num_key_value_heads": 4},
    "qwen2": {
        "use_sliding_window": True,
        "sliding_window": 20,
        "max_window_layers": 1,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0},
    },
    "qwen3": {"head_dim": 24, "num_key_value_heads": 1},
}
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LINES = [
    "We meet at nine at the north station.",
    'He said "fine", and added: "cites": ["ab"]}, {"text": "x"',
    "Bitte bring das Buch mit – danke! 🙂",
    "请在星期五之前告诉我",
]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A directory, and the model of transformers that was saved there."""

    folder: Path
    reference: Any

    def generate(self, prompt: Sequence[int], most: int, stops: Sequence[int]) -> list[int]:
        """What greedy ``generate`` of transformers writes, stop included."""
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = self.reference.generate(
                torch.tensor([list(prompt)]),
                max_new_tokens=most,
                do_sample=False,
                eos_token_id=sorted(stops),
                pad_token_id=0,
            )
        return [int(token) for token in out[0, len(prompt) :]]


def save_tokenizer(folder: Path, control: Sequence[str] = CHATML) -> None:
    """A byte-level BPE tokenizer, trained on a few lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 8, initial_alphabet=alphabet, special_tokens=list(control), show_progress=False
    )
    tokenizer.train_from_iterator(_LINES * 3, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def save_checkpoint(folder: Path, architecture: str, **settings: object) -> Checkpoint:
    """A random model of this architecture, saved as transformers saves it."""
    import transformers  # seconds, which other tests should not take

    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "bos_token_id": 1,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    name = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}[architecture]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(11)
        config = getattr(transformers, f"{name}Config")(**common | SETTINGS[architecture] | settings)
        model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if "norm" in parameter_name or "bias" in parameter_name:
                    parameter.uniform_(0.5, 1.5)  # as made they are all ones and zeros, whose loss nobody would notice
        model.save_pretrained(folder)
    save_tokenizer(folder)
    return Checkpoint(folder, model)


class Memory:
    """A directory in memory, for what a disk would not do."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.reads: list[str] = []

    @classmethod
    def of(cls, folder: Path) -> "Memory":
        """A copy of a folder."""
        return cls({path.name: path.read_bytes() for path in folder.iterdir()})

    def names(self) -> list[str]:
        """All files."""
        return list(self.files)

    def read(self, name: str) -> bytes:
        """One file."""
        self.reads.append(name)
        return self.files[name]

    def change_json(self, name: str, **changes: object) -> None:
        """Other values in a JSON object; ``None`` takes one out."""
        content = json.loads(self.files[name]) | changes
        self.files[name] = json.dumps({key: value for key, value in content.items() if value is not None}).encode()
