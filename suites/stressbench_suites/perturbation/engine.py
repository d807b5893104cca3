"""The perturbation sequences of CIFAR-10-P (Hendrycks and Dietterich, 2019) for a batch of images at once.

What the frames of image n are depends on its pixels and its key alone, so a batch may be split and ordered in any way.
The parameters are those of the published 32×32 set.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stressbench.randomness import normal, split
from stressbench_suites.corruption import linear
from stressbench_suites.corruption.blur import move
from stressbench_suites.corruption.digital import brighten
from stressbench_suites.corruption.noise import count_photons
from stressbench_suites.corruption.pixels import LEVELS, to_levels, truncate
from stressbench_suites.corruption.spatter import splash
from stressbench_suites.perturbation.geometry import scaled, shifted, tilted, turned

ENGINE_VERSION = "1"  # changes whenever the same image and key could become another sequence

# How many frames a sequence has.
FRAMES: dict[str, int] = {
    "gaussian_noise": 31,
    "shot_noise": 31,
    "motion_blur": 21,
    "zoom_blur": 31,
    "spatter": 31,
    "brightness": 31,
    "translate": 16,
    "rotate": 31,
    "tilt": 31,
    "scale": 31,
}
PERTURBATIONS = tuple(FRAMES)
# Their frames are independent draws, in no order, around frame 0.
NOISES = ("gaussian_noise", "shot_noise")

_GAUSSIAN = 0.02  # standard deviation
_PHOTONS = 700  # in a white pixel
_MOTION = (6, 1.8)  # radius, sigma
_LIQUID = (0.6, 0.265, 1.75, 0.7)  # mean and standard deviation, sigma that smooths it, threshold
_RUN = 0.8  # what share of the liquid is a pixel further down in the next frame
_WATER = 0.6  # its strength

# Pixels worked on at a time: on a CPU, few enough for the intermediate results to stay in its caches.
_CPU_PIXELS = 2**18
_GPU_PIXELS = 2**23


@torch.no_grad()
def perturb(images: Tensor, perturbation: str, keys: Tensor) -> Tensor:
    """The sequences (N, T, 3, H, W) of images (N, 3, H, W), float32 in [0, 1]; keys (N,) int64 choose the noise.

    The result has the same type and device. Its values are k/255 for whole k, like the published uint8 files.

    >>> perturb(torch.full((1, 3, 32, 32), 0.2), "brightness", torch.tensor([7]))[0, :, 0, 0, 0].mul(255).int()[13:18]
    tensor([43, 47, 51, 54, 58], dtype=torch.int32)
    """
    if perturbation not in FRAMES:
        raise ValueError(f"unknown perturbation {perturbation!r}; there are {', '.join(PERTURBATIONS)}")
    if images.ndim != 4 or images.shape[1] != 3 or len(keys) != len(images):
        raise ValueError(f"want images (N, 3, H, W) and keys (N,), got {tuple(images.shape)} and {tuple(keys.shape)}")
    function = _FUNCTIONS[perturbation]
    length = FRAMES[perturbation]
    pixels = _CPU_PIXELS if images.device.type == "cpu" else _GPU_PIXELS
    block = max(1, pixels // max(1, length * images.shape[2] * images.shape[3]))
    result = images.new_empty(len(images), length, *images.shape[1:])
    for start in range(0, len(images), block):
        part = slice(start, start + block)
        result[part] = truncate(function(images[part].contiguous(), keys[part]))
    return result


# Each function takes images (N, 3, H, W) in [0, 1] and keys (N,), and returns frames (N, T, 3, H, W) that the engine
# clips and truncates to grey levels.


def _gaussian_noise(images: Tensor, keys: Tensor) -> Tensor:
    own = _keys_of_noisy(keys)
    noise = normal(own.flatten(), tuple(images.shape[1:])).mul_(_GAUSSIAN)
    return _after_clean(images, _sequences(noise, len(images)).add_(images[:, None]))


def _shot_noise(images: Tensor, keys: Tensor) -> Tensor:
    own = _keys_of_noisy(keys)
    noisy = count_photons(images.repeat_interleave(own.shape[1], 0), own.flatten(), _PHOTONS)
    return _after_clean(images, _sequences(noisy, len(images)))


def _keys_of_noisy(keys: Tensor) -> Tensor:
    """A key for each frame but the first, (N, T − 1)."""
    return split(keys, FRAMES["gaussian_noise"] - 1)


def _after_clean(images: Tensor, frames: Tensor) -> Tensor:
    return torch.cat([images[:, None], frames], dim=1)


def _sequences(frames: Tensor, count: int) -> Tensor:
    """Frames that follow each other, image by image: (N·T, 3, H, W) to (N, T, 3, H, W)."""
    return frames.view(count, -1, *frames.shape[1:])


def _motion_blur(images: Tensor, keys: Tensor) -> Tensor:
    degrees = torch.arange(-180, 1, 9, device=images.device)
    repeated = images.repeat_interleave(len(degrees), 0)
    return _sequences(move(repeated, degrees.repeat(len(images)), *_MOTION), len(images))


def _zoom_blur(images: Tensor, keys: Tensor) -> Tensor:
    """Frame i is the mean of the image and its first i zooms, each of them in whole grey levels."""
    zooms = _after_clean(images, scaled(images, [1 + 0.004 * i for i in range(1, FRAMES["zoom_blur"])]))
    count = torch.arange(1, zooms.shape[1] + 1, device=images.device).view(1, -1, 1, 1, 1)
    # Sums of whole levels are exact, and so is where a mean reaches the next level.
    return to_levels(zooms).cumsum(1).div_(count).div_(LEVELS)


def _spatter(images: Tensor, keys: Tensor) -> Tensor:
    """One layer of liquid that runs down the lens: from frame to frame most of it moves by a pixel, the rest stays.

    An image whose layer has no liquid, or none left, stays as it is; the published code divides by zero there.
    """
    mean, deviation, sigma, threshold = _LIQUID
    liquid = normal(keys, (1, *images.shape[2:])).mul_(deviation).add_(mean)
    liquid = linear.gaussian(liquid, sigma)
    liquid.masked_fill_(liquid < threshold, 0)
    layers = [liquid]
    for _ in range(1, FRAMES["spatter"]):
        above = torch.nn.functional.pad(layers[-1], (0, 0, 1, 0))[:, :, :-1]
        layers.append(layers[-1] * (1 - _RUN) + above * _RUN)
    levels = to_levels(truncate(torch.stack(layers, dim=1)))
    repeated = images.repeat_interleave(len(layers), 0)
    return _sequences(splash(repeated, levels.flatten(0, 1), _WATER), len(images))


def _brightness(images: Tensor, keys: Tensor) -> Tensor:
    return torch.stack([brighten(images, 0.015 * (i - 15)) for i in range(FRAMES["brightness"])], dim=1)


def _translate(images: Tensor, keys: Tensor) -> Tensor:
    return shifted(images, range(-7, 9))


def _rotate(images: Tensor, keys: Tensor) -> Tensor:
    return turned(images, range(-15, 16))


def _tilt(images: Tensor, keys: Tensor) -> Tensor:
    return tilted(images, [0.75 * (i - 15) for i in range(FRAMES["tilt"])])


def _scale(images: Tensor, keys: Tensor) -> Tensor:
    return scaled(images, [(70 + 2 * i) / 100 for i in range(FRAMES["scale"])])


_FUNCTIONS = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "spatter": _spatter,
    "brightness": _brightness,
    "translate": _translate,
    "rotate": _rotate,
    "tilt": _tilt,
    "scale": _scale,
}
