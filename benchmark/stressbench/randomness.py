"""Random numbers that depend only on the image, the condition and the seed.

A stressed image or a dropout mask must not change with the batch size, the way the work is split or the device.
A stateful generator cannot provide that without a loop over images, so these numbers are a keyed hash of their
position: each image has a 64-bit key, and element e of its stream is a mixing function of (key, stream, e). The
integers are identical on every device; floats agree up to rounding.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_GOLDEN_64 = 0x9E3779B97F4A7C15
_GOLDEN_32 = 0x9E3779B9


def derive(*parts: str | int | Mapping[str, str | int | float]) -> int:
    """A seed in [0, 2⁶³) derived from strings, integers and flat mappings; equal parts give equal seeds on any machine.

    >>> derive("corruption", {"severity": 3, "corruption": "fog"}) == derive(
    ...     "corruption", {"corruption": "fog", "severity": 3}
    ... )
    True
    """
    text = json.dumps([dict(p) if isinstance(p, Mapping) else p for p in parts], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def image_keys(seed: int, indices: Tensor) -> Tensor:
    """One key, (N,) int64, for each image position in `indices` (N,), from a seed made by `derive`.

    An image's key does not depend on the batch that it is in:

    >>> image_keys(7, torch.tensor([0, 1, 2]))[2] == image_keys(7, torch.tensor([2]))[0]
    tensor(True)
    """
    return _mix64(indices.to(torch.int64) * _signed(_GOLDEN_64, 64) + seed)


def split(keys: Tensor, parts: int) -> Tensor:
    """Independent keys for the parts of each image, such as the frames of a sequence: (N,) to (N, parts)."""
    part = torch.arange(1, parts + 1, dtype=torch.int64, device=keys.device)
    return _mix64(_mix64(keys).unsqueeze(1) + part * _signed(_GOLDEN_64, 64))


def bits(keys: Tensor, count: int, stream: int = 0) -> Tensor:
    """`count` uniform 32-bit words for each key: (N, count), int32, over the whole signed range.

    Different streams of the same key are independent.
    """
    low = keys.to(torch.int32).unsqueeze(1)
    high = (keys >> 32).to(torch.int32).unsqueeze(1)
    words = _positions(count, stream, keys.device) ^ low
    _mix32(words).add_(high)
    return _mix32(words)


def uniform(keys: Tensor, shape: tuple[int, ...], stream: int = 0) -> Tensor:
    """Uniform numbers in the open interval (0, 1): (N, *shape), float32, from 23 random bits each.

    >>> keys = image_keys(derive("docs"), torch.arange(1000))
    >>> numbers = uniform(keys, (3, 2))
    >>> numbers.shape, bool((0 < numbers).all() and (numbers < 1).all()), round(float(numbers.mean()), 1)
    (torch.Size([1000, 3, 2]), True, 0.5)
    """
    return _unit(bits(keys, math.prod(shape), stream)).view(-1, *shape)


def normal(keys: Tensor, shape: tuple[int, ...], stream: int = 0) -> Tensor:
    """Standard normal numbers, (N, *shape), float32, by the Box–Muller transform."""
    count = math.prod(shape)
    half = (count + 1) // 2
    unit = _unit(bits(keys, 2 * half, stream))
    radius = unit[:, :half].log().mul_(-2).sqrt_()
    angle = unit[:, half:].mul(2 * math.pi)
    pair = torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)], dim=1)
    return pair[:, :count].reshape(-1, *shape)


# --- draws of a stochastic model ------------------------------------------------------------------------------


class _Stream:
    """State of one forward pass: keys of the images, index of the draw, number of random layers so far."""

    def __init__(self, images: Tensor | None, index: int) -> None:
        self.images = images  # keys, (N,), the same for all draws; None if there are none
        self.index = index
        self.keys = None if images is None else _mix64(images + _signed((index + 1) * _GOLDEN_64, 64))
        self.layer = 0


_current: ContextVar[_Stream | None] = ContextVar("stream", default=None)


@contextmanager
def draw(keys: Tensor | None, index: int) -> Iterator[None]:
    """Within this context, random layers use the numbers of draw `index` of the images with these keys (N,).

    torch's global generators are seeded too, for modules that do not use this module; their numbers depend on the first
    image of the batch and therefore on the batch size. The caller restores the generators (`torch.random.fork_rng`).
    Without keys only the index is set, and random numbers come from torch's generators in their present state.
    """
    stream = _Stream(keys, index)
    if stream.keys is not None:
        torch.manual_seed(int(stream.keys[0]) & (2**63 - 1))
    token = _current.set(stream)
    try:
        yield
    finally:
        _current.reset(token)


def redraw(index: int, part: int | None = None) -> AbstractContextManager[None]:
    """Within this context, random layers use the numbers of draw `index` of the images of the enclosing `draw`.

    For modules that make several draws in one call. Each `part` of a model, such as a member of an ensemble, has draws
    that are independent of those of the other parts.
    """
    stream = _current.get()
    keys = None if stream is None else stream.images
    if keys is not None and part is not None:
        keys = split(keys, part + 1)[:, part]
    return draw(keys, index)


def draw_index() -> int:
    """Index of the present draw; 0 outside a draw."""
    stream = _current.get()
    return 0 if stream is None else stream.index


def dropout(x: Tensor, rate: float) -> Tensor:
    """Zero each element of x (N, …) with probability `rate` in [0, 1), and divide the others by 1 − rate.

    Within `draw` the mask depends on the image's key alone; elsewhere, as in training, on torch's generator.

    >>> x, keys = torch.ones(4, 100), image_keys(0, torch.arange(4))
    >>> with draw(keys, 0):
    ...     together = dropout(x, 0.25)
    >>> with draw(keys[2:], 0):
    ...     apart = dropout(x[2:], 0.25)
    >>> torch.equal(together[2:], apart)
    True
    """
    layer = _next_layer(x) if rate else None
    if layer is None:
        return F.dropout(x, rate, training=True)
    count = x[0].numel()
    # Two 16-bit numbers from each word: a mask needs no more, and it halves the cost.
    words = bits(layer[0], (count + 1) // 2, layer[1]).view(torch.int16)[:, :count]
    keep = words >= round(rate * 2**16) - 2**15
    return x * keep.view(x.shape).to(x.dtype).div_(1 - rate)


def normal_like(x: Tensor) -> Tensor:
    """Standard normal numbers with the shape and dtype of x (N, …).

    Within `draw` they depend on the image's key alone; elsewhere on torch's generator.
    """
    layer = _next_layer(x)
    if layer is None:
        return torch.randn_like(x)
    return normal(layer[0], tuple(x.shape[1:]), layer[1]).to(x.dtype)


def _next_layer(x: Tensor) -> tuple[Tensor, int] | None:
    """Keys and stream index for a random layer on x (N, …); None outside a draw with keys."""
    stream = _current.get()
    if stream is None or stream.keys is None:
        return None
    if len(x) != len(stream.keys):
        raise RuntimeError(f"a random layer received a batch of {len(x)} within a draw of {len(stream.keys)} images")
    stream.layer += 1
    return stream.keys, stream.layer


# --- the mixing functions -------------------------------------------------------------------------------------


def _signed(value: int, width: int) -> int:
    """The two's-complement value of an unsigned constant, since torch computes with signed integers."""
    value &= (1 << width) - 1
    return value - (1 << width) if value >> (width - 1) else value


def _mix32(x: Tensor) -> Tensor:
    """The bijection `lowbias32` of Chris Wellons' hash prospector (2018) on int32, in place."""
    # A signed shift copies the sign bit downwards; the masks remove the copies.
    x ^= (x >> 16).bitwise_and_(0xFFFF)
    x *= 0x7FEB352D
    x ^= (x >> 15).bitwise_and_(0x1FFFF)
    x *= _signed(0x846CA68B, 32)
    x ^= (x >> 16).bitwise_and_(0xFFFF)
    return x


def _mix64(x: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014), on int64."""
    x = (x ^ ((x >> 30) & (2**34 - 1))) * _signed(0xBF58476D1CE4E5B9, 64)
    x = (x ^ ((x >> 27) & (2**37 - 1))) * _signed(0x94D049BB133111EB, 64)
    return x ^ ((x >> 31) & (2**33 - 1))


@lru_cache(maxsize=64)
def _positions(count: int, stream: int, device: torch.device) -> Tensor:
    """Well-mixed numbers (1, count) for the positions in a stream, cached because all images share them."""
    start = derive("stream", stream) & 0xFFFFFFFF
    position = torch.arange(count, dtype=torch.int64, device=device) * _GOLDEN_32 + start
    return _mix32(position.to(torch.int32)).unsqueeze(0)


def _unit(words: Tensor) -> Tensor:
    """Maps int32 words to float32 in (0, 1): the midpoints of 2²³ equal cells, which float32 represents exactly."""
    return (words >> 9).to(torch.float32).add_(2**22 + 0.5).mul_(2**-23)
