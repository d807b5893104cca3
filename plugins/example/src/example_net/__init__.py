"""The model `example-net` of stressbench."""

from torch import Tensor, nn

from stressbench.contracts import Dataset


class Net(nn.Module):
    """A small convolutional network, to be changed; what follows `dataset` are its options: `example-net,width=32`."""

    untrained = True  # built without its weights: `bench train` makes them, or --weights names them

    def __init__(self, dataset: Dataset, width: int = 16) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm2d(3, affine=False)  # a model normalises its images itself
        self.stage1 = stage(3, width)
        self.stage2 = stage(width, 2 * width)
        self.stage3 = stage(2 * width, 4 * width)
        self.head = nn.Linear(4 * width, dataset.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W), float in [0, 1], to logits (N, classes)."""
        maps = self.stage3(self.stage2(self.stage1(self.normalise(images))))
        return self.head(maps.mean(dim=(2, 3)))


def stage(given: int, returned: int) -> nn.Module:
    """A convolution that halves the maps' height and width."""
    return nn.Sequential(nn.Conv2d(given, returned, 3, stride=2, padding=1), nn.BatchNorm2d(returned), nn.ReLU())
