"""Places in any network at which a training-free wrapper can disturb it, found by watching one forward pass.

The training-free paper (Mi et al., 2019) has five locations: 0 right after the input, 1 to 3 between stages, 4 before
the last layer. In a network that nobody knows they are, with "layer" for a convolution or a linear layer:

0  the input of the first layer that is called: the images as the network normalises them.
4  the input of the last layer that is called.
1–3  ends of stages. Seen from outside, at the smallest depth of nested modules that shows at least three ends: the
   outputs between 0 and 4 are gone through in order, and a new stage begins where the area of the maps falls to half
   or less of the largest in the stage before; the last output before it is the stage's end. Maps of a single pixel
   are no stage. Of more than three ends, those three are taken that come, together, nearest to a quarter, a half and
   three quarters of the layers.
   Where no depth shows three stage ends (two resolutions, or none, as in a transformer), the same choice is made among
   all outputs, at the smallest depth at which they come after at least three different numbers of layers.

Only tensors with a row for each image count. A location may also be the dotted name of a module, and is its output; of
a module that is called several times in a pass, of its last call.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from torch import nn

from stressbench.errors import UserError, did_you_mean
from stressbench.passes import Call, Place, calls

_LISTED = 12  # names in an error


def find(model: nn.Module, image_size: tuple[int, int]) -> dict[int, Place]:
    """The locations 0 … 4 of a model; those that it does not have are missing."""
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


def _numbered(passed: Sequence[Call]) -> dict[int, Place]:
    layers = [call for call in passed if call.is_layer]
    if not layers:
        return {}
    first, last = layers[0], layers[-1]
    found = {0: first, 4: last}
    # In the order in which they end. Before the last layer: over when it begins, so that they do not contain it.
    ended = sorted(passed, key=lambda call: (call.last, -call.depth))
    between = [call for call in ended if call.returned is not None and call.layers > 0 and call.last < last.number]
    middle = _middle(between, last.layers)
    places = {number: Place(call, "input") for number, call in found.items() if call.given is not None}
    return dict(sorted({**places, **{k: Place(call, "output") for k, call in enumerate(middle, 1)}}.items()))


def _middle(between: Sequence[Call], layers: int) -> Sequence[Call]:
    """Locations 1, 2 and 3 among the calls between the first and the last layer; none where they cannot be told."""
    depths = sorted({call.depth for call in between})
    for choose in (_stage_ends, _apart):
        for depth in depths:
            ends = choose([call for call in between if call.depth <= depth])
            if len(ends) >= 3:
                # Later ones where two choices are as near: closer to the end there is less to compute again.
                return min(
                    reversed(list(combinations(ends, 3))),
                    key=lambda three: sum(abs(c.layers - layers * k / 4) for k, c in enumerate(three, 1)),
                )
    return []


def _stage_ends(seen: Sequence[Call]) -> list[Call]:
    ends: list[Call] = []
    largest, before = 0, None
    for call in seen:
        if call.returned is None or len(call.returned) != 3:
            continue
        area = call.returned[1] * call.returned[2]
        if area == 1:
            continue
        if before is not None and 2 * area <= largest:
            ends.append(before)
            largest = 0
        largest, before = max(largest, area), call
    return ends


def _apart(seen: Sequence[Call]) -> list[Call]:
    """The last output after each number of layers."""
    return list({call.layers: call for call in seen}.values())
