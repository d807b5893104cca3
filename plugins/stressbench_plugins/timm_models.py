"""timm's networks, by their names there, with timm's own preprocessing."""

from __future__ import annotations

from typing import Any

from torch import nn

from stressbench.contracts import Dataset
from stressbench.errors import UserError, did_you_mean
from stressbench_plugins.downloads import WEIGHTS, fetch
from stressbench_plugins.preprocessing import check_classes, check_size, optional, prepared, untrained_instead


def timm(dataset: Dataset, argument: str, pretrained: bool = True, size: int | None = None) -> nn.Module:
    """The network that timm calls `argument`, say resnet18 or resnet18.a1_in1k.

    With `pretrained` it has the weights that timm publishes under that name, from the hub, in safetensors only;
    without, it has as many classes as the dataset, and the harness loads or trains its weights. Images are resized,
    cropped and normalised as timm does for these weights, or resized to `size` pixels, and not cropped, if it is given.

    Raises `UserError` for a name that timm does not have, weights for another number of classes, or that are not
    published as safetensors.
    """
    spec = f"timm:{argument}"
    library = optional("timm", spec, "timm")
    check_size(size)
    known = _configuration(library, argument)
    # Networks with a fixed grid of positions, as vision transformers have, are built for a size.
    built: dict[str, Any] = {"img_size": size} if size is not None and known.fixed_input_size else {}
    source = f"timm {library.__version__}"
    if not pretrained:
        module = library.create_model(argument, num_classes=dataset.classes, **built)
        return prepared(module, steps(library, module, size), source, untrained=True)
    check_classes(spec, known.num_classes, dataset, untrained_instead(f"{spec},pretrained=false"))
    filename = known.hf_hub_filename or WEIGHTS
    if not known.hf_hub_id or not filename.endswith(".safetensors"):
        raise UserError(
            f"timm publishes no safetensors of {argument}, and other files would have to be unpickled: "
            f"{untrained_instead(f'{spec},pretrained=false')}"
        )
    repository, _, revision = known.hf_hub_id.partition("@")
    path = fetch(repository, filename, revision or None)
    # timm's own reader takes its safetensors, since files of older versions of it have other names for some weights.
    module = library.create_model(
        argument, pretrained=True, pretrained_cfg_overlay={"file": str(path), "custom_load": False}, **built
    )
    if not all(tensor.isfinite().all() for tensor in module.state_dict().values()):
        raise UserError(f"{path} holds weights that are not finite: remove it, and it is fetched again")
    source = f"{source}, {repository} at {path.parent.name}"
    return prepared(module, steps(library, module, size), source, untrained=False)


def steps(library: Any, module: nn.Module, size: int | None = None) -> list[Any]:
    """timm's own evaluation transform for a network: resize, centre crop, normalise."""
    configuration = library.data.resolve_model_data_config(module)
    if size is not None:
        configuration |= {"input_size": (3, size, size), "crop_pct": 1.0}
    return list(library.data.create_transform(**configuration, is_training=False).transforms)


def check_architecture(library: Any, name: str) -> None:
    """Raises `UserError` for a network that timm does not have."""
    # `create_model` also takes addresses of repositories and folders.
    if not library.is_model(name):
        raise UserError(
            f"timm {library.__version__} has no model '{name}': {did_you_mean(name, library.list_models())}"
            "timm.list_models() lists all"
        )


def _configuration(library: Any, name: str) -> Any:
    """What timm knows of a name's weights and preprocessing."""
    check_architecture(library, name)
    architecture, _, tag = name.partition(".")
    tags = [known.partition(".")[2] for known in library.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UserError(
            f"timm {library.__version__} has no weights '{tag}' of {architecture}: {did_you_mean(tag, tags)}"
            f"it has {', '.join(tags) or 'none'}"
        )
    return library.get_pretrained_cfg(name) or library.models.PretrainedCfg()
