"""What training images are to a network before its last layer, and how far an image is from them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from stressbench import locations, passes, randomness
from stressbench.contracts import Batch, Columns, Predictor

NEIGHBOURS = 50


class Features:
    """A network's features of its training images, kept to measure distances from them.

    Features are the input of the last layer (location 4), averaged over pixels or tokens where it has any; of a
    stochastic model those of its first draw, of an ensemble those of its first member.

    Raises `UserError` for a network without that location.
    """

    def __init__(self, batches: Iterable[Batch], model: Predictor) -> None:
        self._place: passes.Place | None = None
        found = [(self._features(batch.images, batch.keys, model), batch.targets) for batch in batches]
        features = torch.cat([one for one, _ in found])
        labels = torch.cat([targets for _, targets in found])
        self._unit = F.normalize(features, dim=-1)
        classes, of = torch.unique(labels, return_inverse=True)
        own = features.double()
        sums = own.new_zeros(len(classes), own.shape[1]).index_add_(0, of, own)
        self._means = sums / of.bincount()[:, None]
        centred = own - self._means[of]
        # A feature that is never active has no variance: the pseudo-inverse leaves it out.
        self._precision = torch.linalg.pinv(centred.T @ centred / len(own), hermitian=True)

    def columns(self, images: Tensor, keys: Tensor, model: Predictor) -> Columns:
        """Distances of images (N, 3, H, W) with keys (N,) from the training images, (N,) each.

        `knn` is the Euclidean distance to the 50th nearest (the farthest where there are fewer), both features divided
        by their norms (Sun et al., 2022); `mahalanobis` is min_c (h − μ_c)ᵀ Σ⁻¹ (h − μ_c), with class means μ_c and the
        covariance Σ around them that all classes share (Lee et al., 2018).
        """
        features = self._features(images, keys, model)
        k = min(NEIGHBOURS, len(self._unit))
        nearest = (F.normalize(features, dim=-1) @ self._unit.T).topk(k, dim=-1).values[:, -1]
        away = features.double()[:, None] - self._means
        return {
            "knn": (2 - 2 * nearest.double()).clamp(min=0).sqrt(),
            "mahalanobis": torch.einsum("nkd,df,nkf->nk", away, self._precision, away).amin(dim=1),
        }

    def _features(self, images: Tensor, keys: Tensor, model: Predictor) -> Tensor:
        size = (images.shape[-2], images.shape[-1])
        if self._place is None:
            self._place = locations.locate(model.module, size, "4")
        seen: list[Tensor] = []

        def keep(value: Tensor) -> Tensor:
            seen.append(value.detach().float().clone())
            return value

        with torch.no_grad(), randomness.draw(keys, 0):
            passes.changed(model.module, images, self._place, keep)
        (features,) = seen
        if features.ndim == 4:
            return features.mean(dim=(2, 3))
        return features.mean(dim=1) if features.ndim == 3 else features
