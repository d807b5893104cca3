"""Blocks of similar low-level context in a predicted map: superpixels.

The training-free paper (Mi et al., 2019) takes local centres of mass (Aganj et al., 2018), whose code and parameters
were not released. SLIC (Achanta et al., 2012), by scikit-image, stands in.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

PIXELS = 100  # of a block, about
COMPACTNESS = 0.1  # of maps scaled to [0, 1]: what a pixel's distance counts beside its values
PROTOCOL = f"blocks by SLIC of scikit-image on the prediction scaled to 0…1, {PIXELS} pixels, compactness {COMPACTNESS}"
MISSING = "its blocks need scikit-image: pip install 'stressbench[dense]'"


def missing() -> bool:
    """Whether scikit-image is not installed."""
    return find_spec("skimage") is None


def blocks(prediction: Tensor, valid: Tensor) -> Tensor:
    """Which block each pixel of a prediction (H, W, K) is in, (H, W), int64; −1 where `valid` (H, W) is false."""
    from skimage.segmentation import slic

    values = prediction.double().cpu().numpy()
    low, high = values.min(), values.max()
    scaled = np.zeros_like(values) if low == high else (values - low) / (high - low)
    count = max(1, valid.numel() // PIXELS)
    found = slic(scaled, n_segments=count, compactness=COMPACTNESS, channel_axis=-1, convert2lab=False, start_label=0)
    numbers = torch.from_numpy(found.astype(np.int64)).to(prediction.device)
    return torch.where(valid, numbers, -1)
