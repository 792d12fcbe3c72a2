"""llama, mistral, qwen2 and qwen3 as one plain forward pass over a packed row of tokens.

Root mean square norms (Zhang and Sennrich 2019), rotary positions (Su et al. 2021), grouped-query attention (Ainslie et al. 2023) and a gated
feed-forward (Shazeer 2020). Letters in shapes: T tokens of all sequences, in matrices filled up to a few numbers of rows; B sequences of a group; L tokens of each of them; S keys that
are read; H query heads; G key/value heads; D head size; C size of hidden states; I of those within the feed-forward; V tokens of
the vocabulary; R samples.
"""

# ruff: noqa: N806  # sizes have the letters that papers give them
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # as everybody names it
from torch import Tensor

from ai_enclave.engine.local.blocks import BlockPool
from ai_enclave.engine.local.checkpoint import EMBEDDING, HEAD, LAST_NORM
from ai_enclave.engine.local.config import Config, Llama3, Rope
from ai_enclave.engine.local.linear import Int8, Linear, Ordered
from ai_enclave.engine.local.packing import Group, Packed, filled

_FULL_TURN = 2 * math.pi


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer; query, key and value are fused, and so are gate and up."""

    norm: Tensor  # (C,)
    qkv: Linear  # C to (H+2G)*D
    head_norms: Tensor | None  # (H+G, D): of queries, then of keys
    out: Linear  # H*D to C
    inner_norm: Tensor  # (C,)
    gate_up: Linear  # C to 2I
    down: Linear  # I to C
    window: int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a group reads of the cache: which blocks, and what of them it does not see."""

    group: Group
    table: Tensor  # (B*width,)
    masks: Mapping[int | None, Tensor]  # for each window (B, 1, L, S), 0 or minus infinity


@dataclass(frozen=True, slots=True)
class Batch:
    """A packed step on the device."""

    tokens: Tensor  # (T,)
    slots: Tensor  # (T,)
    cos: Tensor  # (T, 1, D)
    sin: Tensor  # (T, 1, D), its first half negated
    samples: Tensor  # (R,) rows
    constrained: Tensor  # (K,)
    masks: Tensor  # (K, W), int32
    readings: tuple[Reading, ...]


class Model:
    """The weights, and what is done with them."""

    def __init__(self, config: Config, weights: dict[str, Tensor], positions: int, *, int8: bool = False) -> None:
        """``weights`` is emptied, so that what was fused is not held twice. ``positions`` bounds the length of a sequence."""
        self.config = config
        attention = 2 * (config.heads + config.key_heads) * config.head_size
        self.layer_weights = config.size * (attention + 3 * config.inner)
        self.embedding = weights.pop(EMBEDDING)  # (V, C)
        self.head = Ordered.of(self.embedding if config.tied else weights.pop(HEAD))  # C to V
        self.last_norm = weights.pop(LAST_NORM)
        # The embedding and the last layer are not rounded: there it would cost most and gain least.
        linear = Int8.of if int8 else Ordered.of
        self.layers = [_layer(config, weights, number, linear) for number in range(config.layers)]
        cos, sin = rope_tables(config.rope, config.head_size, positions)
        self.cos, self.sin = (table.to(self.embedding) for table in (cos, sin))  # (positions, D)

    def unpack(self, packed: Packed, row: Tensor, block_size: int) -> Batch:
        """Cut up the row that was brought to the device."""
        T, R, K = packed.tokens, packed.samples, packed.constrained
        words = packed.row.size - (3 * T + R + K + packed.table)
        numbers = row[: len(row) - words].long()
        tokens, positions, slots, samples, constrained, tables = torch.split(numbers, [T, T, T, R, K, packed.table])
        return Batch(
            tokens=tokens,
            slots=slots,
            cos=self.cos[positions].unsqueeze(1),
            sin=self.sin[positions].unsqueeze(1),
            samples=samples,
            constrained=constrained,
            masks=row[len(row) - words :].view(K, words // K if K else 0),
            readings=self._readings(packed.groups, positions, tables, block_size),
        )

    def forward(self, batch: Batch, pool: BlockPool) -> Tensor:
        """What may come next, after each row that samples: (R, V). Keys and values of all tokens are in the pool afterwards."""
        x = F.embedding(_filled(batch.tokens), self.embedding)  # (T, C)
        for number, layer in enumerate(self.layers):
            keys, values = pool.keys[number], pool.values[number]
            x = x + self._attend(self._norm(x, layer.norm), layer, batch, keys, values)
            gate, up = layer.gate_up(self._norm(x, layer.inner_norm)).chunk(2, dim=1)  # (T, I) twice
            x = x + layer.down(F.silu(gate) * up)
        return self.head(self._norm(x[_filled(batch.samples)], self.last_norm))[: len(batch.samples)]  # (R, V)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (self.config.size,), weight, self.config.eps)

    def _attend(self, x: Tensor, layer: Layer, batch: Batch, keys: Tensor, values: Tensor) -> Tensor:
        """Write the new keys and values, then let each group read: (T, C)."""
        H, G, D = self.config.heads, self.config.key_heads, self.config.head_size
        qkv = layer.qkv(x)[: len(batch.tokens)].view(-1, H + 2 * G, D)  # (T, H+2G, D)
        qk, v = qkv[:, : H + G], qkv[:, H + G :]  # (T, H+G, D), (T, G, D)
        if layer.head_norms is not None:
            qk = F.rms_norm(qk, (D,), eps=self.config.eps) * layer.head_norms
        qk = qk * batch.cos + qk.roll(D // 2, dims=2) * batch.sin
        q, k = qk[:, :H], qk[:, H:]  # (T, H, D), (T, G, D)
        keys.view(-1, G, D).index_copy_(0, batch.slots, k)
        values.view(-1, G, D).index_copy_(0, batch.slots, v)
        mixed = []
        start = 0
        for reading in batch.readings:
            part = slice(start, start + reading.group.sequences * reading.group.tokens)
            mixed.append(_read(q[part], k[part], v[part], reading, layer.window, keys, values))  # (B*L, H*D)
            start = part.stop
        return layer.out(_filled(torch.cat(mixed) if len(mixed) > 1 else mixed[0]))

    def _readings(
        self, groups: tuple[Group, ...], positions: Tensor, tables: Tensor, block_size: int
    ) -> tuple[Reading, ...]:
        readings = []
        row = place = 0
        for group in groups:
            rows, places = group.sequences * group.tokens, group.sequences * group.width
            at = positions[row : row + rows].view(group.sequences, 1, group.tokens, 1)
            keys = group.width * block_size or group.tokens
            masks = {
                window: mask(at, keys, window, self.cos.dtype)
                for window in {layer.window for layer in self.layers}
                if not _plainly_causal(group, window)
            }
            readings.append(Reading(group, tables[place : place + places], masks))
            row, place = row + rows, place + places
        return tuple(readings)


def mask(at: Tensor, keys: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """What tokens ``at`` these positions, (B, 1, L, 1), see of ``keys`` positions from 0: (B, 1, L, S), 0 where they do.

    A token sees itself and what stands before it, with a window so many tokens in all.
    """
    positions = torch.arange(keys, device=at.device)
    hidden = positions > at
    if window is not None:
        hidden |= positions <= at - window
    return torch.zeros(hidden.shape, dtype=dtype, device=at.device).masked_fill_(hidden, -torch.inf)


def rope_tables(rope: Rope, head_size: int, positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of all positions: (positions, D) each, float32. The first half of the sines is negated.

    So that a pair is turned by a product with the cosines and one of the swapped halves with the sines.
    """
    halves = torch.arange(0, head_size, 2, dtype=torch.float32) / head_size
    speeds = 1.0 / rope.theta**halves  # (D/2,), radians for each position
    speeds = speeds / rope.divisor
    if rope.llama3 is not None:
        speeds = _stretched(speeds, rope.llama3)
    angles = torch.arange(positions, dtype=torch.float32)[:, None] * speeds  # (positions, D/2)
    return angles.cos().repeat(1, 2), torch.cat([-angles.sin(), angles.sin()], dim=1)


def _stretched(speeds: Tensor, llama3: Llama3) -> Tensor:
    """Slow turns become slower, fast ones stay, and between them there is a ramp (Llama 3.1)."""
    turns = llama3.positions * speeds / _FULL_TURN  # over the positions that were trained at first
    ramp = ((turns - llama3.low) / (llama3.high - llama3.low)).clamp(0, 1)
    return speeds * (ramp + (1 - ramp) / llama3.factor)


def _filled(rows: Tensor) -> Tensor:
    """With rows of zeros at the end, whose results nobody looks at."""
    missing = filled(len(rows)) - len(rows)
    return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing)) if missing else rows


def _plainly_causal(group: Group, window: int | None) -> bool:
    """Whether each token sees all tokens before it, and they are all new: then there is a faster way than a mask."""
    return group.width == 0 and (window is None or group.tokens <= window)


def _read(
    q: Tensor, k: Tensor, v: Tensor, reading: Reading, window: int | None, keys: Tensor, values: Tensor
) -> Tensor:
    """Attention of one group: (B*L, H*D). New tokens see their like, without the cache, if they are a sequence's first."""
    B, L = reading.group.sequences, reading.group.tokens
    H, G, D = q.shape[1], k.shape[1], q.shape[2]
    if reading.group.width:
        k, v = (cache.index_select(0, reading.table).view(B, -1, G, D) for cache in (keys, values))  # (B, S, G, D)
    else:
        k, v = k.view(B, L, G, D), v.reshape(B, L, G, D)
    seen = reading.masks.get(window)
    k, v = k.transpose(1, 2), v.transpose(1, 2)  # (B, G, S, D)
    if L == 1:
        # The query heads of one key head stand in a row, as if they were tokens: nothing is repeated.
        q = q.reshape(B, G, H // G, D)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)  # (B, G, H/G, D)
        return y.reshape(B, H * D)
    q = q.view(B, L, H, D).transpose(1, 2)  # (B, H, L, D)
    k, v = k.repeat_interleave(H // G, dim=1), v.repeat_interleave(H // G, dim=1)  # (B, H, S, D)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None)
    return y.transpose(1, 2).reshape(B * L, H * D)


def _layer(config: Config, weights: dict[str, Tensor], number: int, linear: Callable[..., Linear]) -> Layer:
    def take(name: str) -> Tensor:
        return weights.pop(f"model.layers.{number}.{name}")

    def fused(part: str, names: tuple[str, ...], kind: str) -> Tensor:
        return torch.cat([take(f"{part}.{name}_proj.{kind}") for name in names])

    qkv = ("q", "k", "v")
    return Layer(
        norm=take("input_layernorm.weight"),
        qkv=linear(fused("self_attn", qkv, "weight"), fused("self_attn", qkv, "bias") if config.qkv_bias else None),
        head_norms=_head_norms(config, take) if config.head_norms else None,
        out=linear(take("self_attn.o_proj.weight")),
        inner_norm=take("post_attention_layernorm.weight"),
        gate_up=linear(fused("mlp", ("gate", "up"), "weight")),
        down=linear(take("mlp.down_proj.weight")),
        window=config.windows[number],
    )


def _head_norms(config: Config, take: Callable[[str], Tensor]) -> Tensor:
    queries = take("self_attn.q_norm.weight").expand(config.heads, -1)
    keys = take("self_attn.k_norm.weight").expand(config.key_heads, -1)
    return torch.cat([queries, keys])  # (H+G, D)
