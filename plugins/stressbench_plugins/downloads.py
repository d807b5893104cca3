"""Files from the Hugging Face hub, by way of its own client: its cache, HF_ENDPOINT and HF_HUB_OFFLINE are honoured."""

from __future__ import annotations

import logging
from pathlib import Path

from stressbench.errors import UserError, describe

WEIGHTS = "model.safetensors"
_PICKLED = ("pytorch_model.bin", "open_clip_pytorch_model.bin", "pytorch_model.pth")


def fetch(repository: str, filename: str, revision: str | None = None) -> Path:
    """A file of a repository, from the cache or the hub, at a branch, tag or commit (by default of the main branch).

    The name of the folder that it lies in is the commit. Raises `UserError` for a repository, revision or file that is
    not there, and for a hub that cannot be reached.
    """
    # Not at the top, because it takes a while; it comes with `datasets`.
    from huggingface_hub import errors, hf_hub_download

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it would tell of each of its trials
    try:
        return Path(hf_hub_download(repository, filename, revision=revision))
    except errors.HFValidationError as error:
        raise UserError(f"'{repository}' is not a repository name: write OWNER/REPO") from error
    except errors.GatedRepoError as error:
        raise UserError(
            f"{repository} is open only to those who accepted its terms: accept them on the hub, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"there is no repository {repository} on the hub, or it is private: check the name") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{repository} has no revision '{revision}': give a branch, a tag or a commit of it") from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"{filename} of {repository} is not in the local cache and the hub cannot be reached "
            f"({describe(error.__cause__ or error)}): connect this machine, or name a mirror in HF_ENDPOINT"
        ) from error
    except errors.EntryNotFoundError as error:
        raise UserError(_without(repository, filename, revision)) from error
    except Exception as error:  # a broken connection, a full disk: what is raised depends on the client's version
        raise UserError(f"{filename} of {repository} cannot be fetched ({describe(error)}): try again") from error


def _without(repository: str, filename: str, revision: str | None) -> str:
    """Why a file that is not in a repository is missed."""
    from huggingface_hub import HfApi

    for pickled in _PICKLED if filename == WEIGHTS else ():
        if HfApi().file_exists(repository, pickled, revision=revision):
            return (
                f"{repository} has its weights as {pickled} alone, which would have to be unpickled, that is, may run "
                f"code of whoever wrote it, so it is refused: ask its author for {WEIGHTS}"
            )
    return f"{repository} has no {filename}: choose a repository of a timm model with {WEIGHTS}"
