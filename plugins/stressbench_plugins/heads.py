"""What turns the last feature map into logits: a pooling, and linear layers.

`gap`, `gmaxp` and `gmedp` take each channel's average, maximum or median over all positions, and one linear layer.
`mlp` averages the map to a few positions and has two hidden layers of 4096, with dropout 0.5 in training. Source: Park
and Kim (2022), appendix C.1.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

HeadName = Literal["gap", "mlp", "gmaxp", "gmedp"]

HIDDEN = 4096


class GlobalMedian(nn.Module):
    """The median of each channel over all positions, (N, C, H, W) to (N, C, 1, 1).

    Of an even number of positions it is the mean of the two in the middle, as in numpy and statistics; `torch.median`
    takes the lower of them.
    """

    def forward(self, x: Tensor) -> Tensor:
        ordered = x.flatten(2).sort(dim=2).values
        count = ordered.shape[2]
        median = (ordered[:, :, (count - 1) // 2] + ordered[:, :, count // 2]) / 2
        return median[:, :, None, None]


def head(
    name: HeadName, channels: int, side: int, classes: int, dropout_first: bool = False
) -> tuple[nn.Module, nn.Module]:
    """The pooling of maps (N, channels, H, W), and what makes logits (N, classes) of its flattened output.

    An `mlp` sees side × side positions. Its dropouts come after its hidden layers, as in torchvision's VGG, or before
    them, as in torchvision's AlexNet. These start from a normal distribution with deviation 0.01, as in that VGG: from
    He's, the loss runs away in the first steps of training.
    """
    if name == "mlp":
        return nn.AdaptiveAvgPool2d(side), _perceptron(channels * side * side, classes, dropout_first)
    pools = {"gap": nn.AdaptiveAvgPool2d(1), "gmaxp": nn.AdaptiveMaxPool2d(1), "gmedp": GlobalMedian()}
    return pools[name], nn.Linear(channels, classes)


def _perceptron(inputs: int, classes: int, dropout_first: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, HIDDEN):
        hidden = nn.Linear(width, HIDDEN)
        nn.init.normal_(hidden.weight, std=0.01)
        nn.init.zeros_(hidden.bias)
        dropout = nn.Dropout(0.5)
        layers += [dropout, hidden, nn.ReLU()] if dropout_first else [hidden, nn.ReLU(), dropout]
    return nn.Sequential(*layers, nn.Linear(HIDDEN, classes))
