"""Fits that are kept: what a model learned from images, for other runs with the same weights and the same images.

<home>/fits/<key>.safetensors holds the tensors that were found, what the model gave for the first images of the split,
and the whole key. A stale fit would be a wrong number, so the key has the weights' checksum, the fingerprint of all
images, the options and the version of the fitting code, and a fit is used only where the model still gives the same for
these images: code that changed without a new version is noticed, too.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from stressbench import __version__, weights
from stressbench._util.home import home
from stressbench.contracts import KeptFit
from stressbench.datasets.fingerprint import fingerprint
from stressbench.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from stressbench.contracts import Dataset, Fitted

_EVIDENCE = "what the model gives"
_TENSOR = "found."


def fit(module: Fitted, data: Dataset) -> str:
    """Fit a module to a split, or give it what was found before; returns what was found, as `Fitted.fit` does."""
    if not isinstance(module, KeptFit) or module.fit_version is None:
        return module.fit(data)
    key = _key(module, data)
    evidence = module.evidence(data).detach().cpu()
    path = home() / "fits" / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    if (kept := _kept(path, key, evidence)) is not None:
        tensors, said = kept
        module.restore(tensors)
        return said
    said = module.fit(data)
    tensors = {_TENSOR + name: tensor for name, tensor in module.found().items()} | {_EVIDENCE: evidence}
    # Where nothing can be written, the next run fits again, and nothing else changes.
    with suppress(UserError):
        weights.save_tensors(tensors, path, {"key": key, "said": said, "digest": weights.digest(tensors)})
    return said


def _key(module: KeptFit, data: Dataset) -> str:
    """All that decides a fit, as canonical JSON."""
    import torch

    assert isinstance(module, torch.nn.Module), "one of a model's modules"
    kind = type(module)
    return json.dumps(
        {
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "version": module.fit_version,
            "weights": weights.checksum(module),
            "split": data.split,
            "images": fingerprint(data, len(data.images)),
            "stressbench": __version__,
            "torch": torch.__version__,
        },
        sort_keys=True,
    )


def _kept(path: Path, key: str, evidence: Tensor) -> tuple[dict[str, Tensor], str] | None:
    """The tensors of a file and what it says of them; None where it is not whole, or not of this key and evidence."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors, told = load_file(path), weights.metadata(path)
    except (SafetensorError, OSError, UserError):
        return None
    if (told.get("key"), told.get("digest")) != (key, weights.digest(tensors)):
        return None
    seen = tensors.pop(_EVIDENCE)
    if seen.shape != evidence.shape or not torch.allclose(seen, evidence, rtol=1e-4, atol=1e-5):
        return None
    return {name.removeprefix(_TENSOR): tensor for name, tensor in tensors.items()}, told["said"]
