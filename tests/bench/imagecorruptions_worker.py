"""Times the public `imagecorruptions` package, in an environment of its own, because it pins older libraries.

Each line of the input is a corruption, a severity, and the path of a .npy file of images (N, H, W, 3), uint8. The
answer is the seconds that they took, after a warm-up.
"""

import functools
import sys
import time
import warnings

import numpy as np

warnings.simplefilter("ignore")
np.float_ = np.float64  # NumPy 1's name, which the package uses: so a machine without an older one can run it, too
import imagecorruptions  # noqa: E402
from imagecorruptions import corruptions  # noqa: E402

# The name that scikit-image 0.20, the oldest for Python 3.11, has for the option that the package passes.
_gaussian = corruptions.gaussian


@functools.wraps(_gaussian)
def gaussian(image, sigma, multichannel=False, **options):
    return _gaussian(image, sigma=sigma, channel_axis=-1 if multichannel else None, **options)


corruptions.gaussian = gaussian

for text in sys.stdin:
    corruption, severity, path = text.split(maxsplit=2)
    images = np.load(path.strip())
    imagecorruptions.corrupt(images[0], corruption_name=corruption, severity=int(severity))
    started = time.perf_counter()
    for image in images:
        imagecorruptions.corrupt(image, corruption_name=corruption, severity=int(severity))
    print(time.perf_counter() - started, flush=True)
