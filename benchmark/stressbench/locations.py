"""Places in any network at which a training-free wrapper can disturb it, found by watching one forward pass.

The training-free paper (Mi et al., 2019) has five locations: 0 right after the input, 1 to 3 between stages, 4 before
the last layer. In a network that nobody knows they are, with "layer" for a convolution or a linear layer:

0  the input of the first layer that is called: the images as the network normalises them.
4  the input of the last layer that is called.
1–3  ends of stages. Seen from outside, at the smallest depth of nested modules that shows at least three ends: the
   outputs between 0 and 4 are gone through in order, and a new stage begins where the area of the maps falls to half
   or less of the largest in the stage before; the last output before it is the stage's end. In a network that returns
   a map, whose decoder makes maps larger again, a stage also begins where the area is twice the smallest in the stage
   before, or more. Maps of a single pixel are left out. Of more than three ends, those three are taken that come,
   together, nearest to a quarter, a half and three quarters of the layers.
   Where no depth shows three stage ends (two resolutions, or none, as in a transformer), the same choice is made among
   all outputs, at the smallest depth at which they come after at least three different numbers of layers.

Only tensors with a row for each image count. A location may also be the dotted name of a module, and is its output; of
a module that is called several times in a pass, of its last call.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from itertools import combinations

from torch import nn

from stressbench.errors import UserError, did_you_mean
from stressbench.passes import Call, Place, calls

_LISTED = 12  # names in an error


def find(model: nn.Module, image_size: tuple[int, int]) -> dict[int, Place]:
    """The locations 0 … 4 of a model; those that it does not have are missing.

    >>> conv, pool = nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2)
    >>> net = nn.Sequential(conv, pool, nn.Flatten(), nn.Linear(4 * 4 * 4, 10))
    >>> {number: str(place) for number, place in find(net, (8, 8)).items()}
    {0: 'input of 0', 4: 'input of 3'}
    """
    return _numbered(calls(model, image_size))


def locate(model: nn.Module, image_size: tuple[int, int], location: str) -> Place:
    """The place that a location's number or a module's name stands for.

    Raises `UserError` that lists modules to name, where there is no such place.
    """
    passed = calls(model, image_size)
    places = {str(number): place for number, place in _numbered(passed).items()}
    named = {call.name: Place(call, "output") for call in passed if call.name and call.returned is not None}
    place = places.get(location) or named.get(location)
    if place is not None:
        return place
    # The outermost ones, which a person is likelier to know.
    names = sorted(named, key=lambda name: named[name].call.depth)
    more = ", …" if len(names) > _LISTED else ""
    raise UserError(
        f"the model has no location '{location}': {did_you_mean(location, names)}give one of "
        f"{', '.join([*places, *names[:_LISTED]])}{more}"
    )


def blocks(model: nn.Module, image_size: tuple[int, int]) -> list[Place]:
    """The outputs after the stem and after every block that are feature maps, in the order of the pass.

    A block is a module that does more than to call others one after the other, such as a residual block, and every
    other module of its class. Seen from outside, the whole model is opened, and so is each module that calls others in
    a chain, that holds all layers, or that returns no map. A layer (convolution) outside of blocks is a block with the
    normalisation, activation and pooling that follow it. Modules of several without any weight, such as spatial
    smoothing, count by themselves. Maps of a single pixel, and what is before the first layer, are left out.

    >>> conv, norm, pool = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.MaxPool2d(2)
    >>> net = nn.Sequential(conv, norm, pool, nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
    >>> [str(place) for place in blocks(net, (8, 8))]
    ['output of 2', 'output of 4']
    """
    passed = calls(model, image_size)
    found: list[Place] = []
    group = False  # whether the last one is a layer outside of blocks, which what follows belongs to
    for call in _opened(passed, passed[0], {type(one.module) for one in passed if _is_block(passed, one)}):
        if not _is_map(call) or call.layers == 0:
            group = False
        elif _layers_in(passed, call) or _is_compound_without_weights(call):
            found.append(Place(call, "output"))
            group = call.is_layer
        elif group:
            found[-1] = Place(call, "output")
    return found


def _opened(passed: Sequence[Call], call: Call, blocks: Collection[type[nn.Module]]) -> list[Call]:
    """The call itself, or the calls that it stands for."""
    inside, layers = passed[call.number + 1 : call.last + 1], _layers_in(passed, call)
    container = call.chained and type(call.module) not in blocks
    whole = layers == passed[0].layers and bool(inside)
    if not layers or not inside or not (container or whole or not _is_map(call)):
        return [call]
    return [one for child in inside if child.depth == call.depth + 1 for one in _opened(passed, child, blocks)]


def _is_block(passed: Sequence[Call], call: Call) -> bool:
    return not call.is_layer and not call.chained and _is_map(call) and 0 < _layers_in(passed, call) < passed[0].layers


def _layers_in(passed: Sequence[Call], call: Call) -> int:
    return sum(one.is_layer for one in passed[call.number : call.last + 1])


def _is_compound_without_weights(call: Call) -> bool:
    return call.last > call.number and not any(True for _ in call.module.parameters())


def _is_map(call: Call) -> bool:
    return call.returned is not None and len(call.returned) == 3 and not _is_pixel(call)


def _numbered(passed: Sequence[Call]) -> dict[int, Place]:
    layers = [call for call in passed if call.is_layer]
    if not layers:
        return {}
    first, last = layers[0], layers[-1]
    found = {0: first, 4: last}
    # In the order in which they end. Before the last layer: over when it begins, so that they do not contain it.
    ended = sorted(passed, key=lambda call: (call.last, -call.depth))
    between = [call for call in ended if call.returned is not None and call.layers > 0 and call.last < last.number]
    middle = _middle(between, last.layers, dense=passed[0].returned is not None and len(passed[0].returned) == 3)
    places = {number: Place(call, "input") for number, call in found.items() if call.given is not None}
    return dict(sorted({**places, **{k: Place(call, "output") for k, call in enumerate(middle, 1)}}.items()))


def _middle(between: Sequence[Call], layers: int, dense: bool) -> Sequence[Call]:
    """Locations 1, 2 and 3 among the calls between the first and the last layer; none where they are unknown."""
    depths = sorted({call.depth for call in between})
    for choose in (partial(_stage_ends, dense=dense), _apart):
        for depth in depths:
            ends = choose([call for call in between if call.depth <= depth and not _is_pixel(call)])
            if len(ends) >= 3:
                # Later ones where two choices are as near: closer to the end there is less to compute again.
                return min(
                    reversed(list(combinations(ends, 3))),
                    key=lambda three: sum(abs(c.layers - layers * k / 4) for k, c in enumerate(three, 1)),
                )
    return []


def _is_pixel(call: Call) -> bool:
    """Whether the output is a map of a single pixel, as global pooling leaves."""
    return call.returned is not None and len(call.returned) == 3 and call.returned[1:] == (1, 1)


def _stage_ends(seen: Sequence[Call], dense: bool) -> list[Call]:
    ends: list[Call] = []
    areas: list[int] = []  # of the stage
    before = None
    for call in seen:
        if call.returned is None or len(call.returned) != 3:
            continue
        area = call.returned[1] * call.returned[2]
        if before is not None and (2 * area <= max(areas) or (dense and area >= 2 * min(areas))):
            ends.append(before)
            areas = []
        areas.append(area)
        before = call
    return ends


def _apart(seen: Sequence[Call]) -> list[Call]:
    """The last output after each number of layers."""
    return list({call.layers: call for call in seen}.values())
