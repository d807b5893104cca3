"""The images that the corruptions are tried on serve the perturbations too."""

from suites.corruption.conftest import _one_thread, keys, pictures, square_pictures  # noqa: F401
