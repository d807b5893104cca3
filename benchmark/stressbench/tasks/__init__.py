"""Tasks: what a model predicts, how that is checked, its loss, and the metrics that every suite can use.

`contracts` offers these classes to plugins.
"""

from __future__ import annotations

from stressbench.tasks.classification import Classification
from stressbench.tasks.images import Depth, SuperResolution
from stressbench.tasks.regression import Regression
from stressbench.tasks.segmentation import Segmentation

TASKS = {task.name: task for task in (Classification, Segmentation, Regression, SuperResolution, Depth)}

__all__ = ["TASKS", "Classification", "Depth", "Regression", "Segmentation", "SuperResolution"]
