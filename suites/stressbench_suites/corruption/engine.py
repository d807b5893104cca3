"""The stress engine: the corruptions of CIFAR-C and C-bar for a batch of images at once.

After Hendrycks and Dietterich (2019), and Mintun, Kirillov and Xie (2021).

What image n becomes depends on its pixels and its key alone, so a batch may be split and ordered in any way.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stressbench_suites.corruption import bar_layers, bar_warps, blur, digital, noise, spatter, weather
from stressbench_suites.corruption.pixels import truncate

ENGINE_VERSION = "1"  # changes whenever the same image and key could become another image

CORRUPTIONS: tuple[str, ...] = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
EXTRA_CORRUPTIONS: tuple[str, ...] = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
# The spelling is the published files'.
CIFAR_BAR: tuple[str, ...] = (
    "blue_noise_sample",
    "brownish_noise",
    "checkerboard_cutout",
    "circular_motion_blur",
    "inverse_sparkles",
    "lines",
    "pinch_and_twirl",
    "ripple",
    "sparkles",
    "transverse_chromatic_abberation",
)
IMAGENET_BAR: tuple[str, ...] = (
    "blue_noise_sample",
    "brownish_noise",
    "caustic_refraction",
    "checkerboard_cutout",
    "cocentric_sine_waves",
    "inverse_sparkles",
    "perlin_noise",
    "plasma_noise",
    "single_frequency_greyscale",
    "sparkles",
)
ALL: tuple[str, ...] = tuple(dict.fromkeys((*CORRUPTIONS, *EXTRA_CORRUPTIONS, *CIFAR_BAR, *IMAGENET_BAR)))

_FUNCTIONS = {
    function.__name__: function
    for function in (
        noise.gaussian_noise,
        noise.shot_noise,
        noise.impulse_noise,
        noise.speckle_noise,
        blur.gaussian_blur,
        blur.defocus_blur,
        blur.glass_blur,
        blur.motion_blur,
        blur.zoom_blur,
        weather.snow,
        weather.frost,
        weather.fog,
        digital.brightness,
        digital.contrast,
        digital.saturate,
        digital.elastic_transform,
        digital.pixelate,
        digital.jpeg_compression,
        spatter.spatter,
        *(getattr(bar_layers, name, None) or getattr(bar_warps, name) for name in (*CIFAR_BAR, *IMAGENET_BAR)),
    )
}

# Pixels worked on at a time: on a CPU, few enough for the intermediate results to stay in its caches.
_CPU_PIXELS = 2**18
_GPU_PIXELS = 2**21


@torch.no_grad()
def corrupt(images: Tensor, corruption: str, severity: int, keys: Tensor) -> Tensor:
    """Images (N, 3, H, W), float32 in [0, 1], under a corruption at severity 1 … 5; keys (N,) int64 choose the noise.

    The result has the same shape, type and device. Its values are k/255 for whole k, truncated like the published
    uint8 files.

    >>> corrupt(torch.full((1, 3, 32, 32), 0.2), "contrast", 3, torch.tensor([7])).unique() * 255
    tensor([51.])
    """
    if corruption not in _FUNCTIONS:
        raise ValueError(f"unknown corruption {corruption!r}; there are {', '.join(ALL)}")
    if severity not in range(1, 6):
        raise ValueError(f"severity {severity!r} is not 1, 2, 3, 4 or 5")
    if images.ndim != 4 or images.shape[1] != 3 or len(keys) != len(images):
        raise ValueError(f"want images (N, 3, H, W) and keys (N,), got {tuple(images.shape)} and {tuple(keys.shape)}")
    function = _FUNCTIONS[corruption]
    pixels = _CPU_PIXELS if images.device.type == "cpu" else _GPU_PIXELS
    block = max(1, pixels // max(1, images.shape[2] * images.shape[3]))
    result = torch.empty_like(images, memory_format=torch.contiguous_format)
    for start in range(0, len(images), block):
        part = slice(start, start + block)
        result[part] = truncate(function(images[part].contiguous(), keys[part], severity))
    return result
