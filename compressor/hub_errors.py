"""What goes wrong between here and the hub, in the user's words: the same for models and for datasets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from compressor.errors import HubError
from compressor.quiet import quiet_loggers


class Unanswered(HubError):
    """The hub gave no usable answer: an earlier download may stand in.

    Args:
        why: Such as "The hub at https://huggingface.co cannot be reached".
        repository: What was asked for.
        remedy: What the user can do about it.
    """

    def __init__(self, why: str, repository: str, remedy: str) -> None:
        self.why = why
        super().__init__(f"{why}; {repository} was not downloaded before.", remedy)


@dataclass(frozen=True)
class Wanted:
    """What is asked of the hub.

    Attributes:
        repository: Hub id.
        revision: Branch, tag or commit. Default: main.
        hint: A sentence such as "Did you mean bert-base?", for the message about an unknown name.
    """

    kind: Literal["model", "dataset"]
    repository: str
    revision: str | None = None
    hint: str = ""

    @property
    def page(self) -> str:
        """Its address in a browser."""
        from huggingface_hub.constants import ENDPOINT

        return f"{ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.repository}"

    @property
    def elsewhere(self) -> str:
        """How to do without the hub."""
        flag = {"model": "--teacher", "dataset": "--data"}[self.kind]
        return f"download the {self.kind} elsewhere and give its folder to {flag}."


def gated(wanted: Wanted) -> HubError:
    """Say that a repository is given out to those alone who accepted its terms."""
    return HubError(
        f"{wanted.repository} is gated: its owner asks you to accept terms first.",
        f"Accept them at {wanted.page}, log in with `hf auth login`, and run again.",
    )


@contextmanager
def explained(wanted: Wanted) -> Iterator[None]:
    """Say every failure of the hub in the user's words; the hub's client itself says nothing.

    Raises:
        Unanswered: Unreachable, switched off, or no hub at all.
        HubError: The hub does not give this out, or it cannot be stored.
    """
    from huggingface_hub import constants, errors

    transport: Any = errors.HfHubHTTPError.__mro__[1]  # the HTTPError of whichever httpx the client is built on
    endpoint, name = constants.ENDPOINT, wanted.repository
    hint = f"{wanted.hint} " if wanted.hint else ""
    try:
        with quiet_loggers("huggingface_hub"):
            yield
    except errors.GatedRepoError:
        raise gated(wanted) from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"The hub at {endpoint} knows no {wanted.kind} {name}, or it is private.",
            f"{hint}Check the spelling; for a private {wanted.kind} log in with `hf auth login`.",
        ) from None
    except errors.RevisionNotFoundError:
        raise HubError(
            f"{name} has no revision {wanted.revision!r}.", f"See {wanted.page}/tree/main for those it has."
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise HubError(
                f"The hub at {endpoint} refuses to give out {name} (HTTP {status}).",
                "Log in with `hf auth login`, or check the rights of HF_TOKEN.",
            ) from None
        raise Unanswered(
            f"The hub at {endpoint} failed with HTTP {status}", name, f"Try again later, or {wanted.elsewhere}"
        ) from None
    except errors.OfflineModeIsEnabled:
        raise Unanswered(
            "HF_HUB_OFFLINE keeps the hub from being asked", name, f"{hint}Unset HF_HUB_OFFLINE, or {wanted.elsewhere}"
        ) from None
    except errors.HFValidationError:
        raise HubError(
            f"{name!r} is no name of a {wanted.kind} on the hub.", f"{hint}Names there are written owner/name."
        ) from None
    except (transport, ConnectionError, TimeoutError, errors.LocalEntryNotFoundError, errors.FileMetadataError):
        raise Unanswered(
            f"The hub at {endpoint} cannot be reached",
            name,
            f"{hint}Check the network and the proxy (HTTPS_PROXY), set HF_ENDPOINT to a mirror, or {wanted.elsewhere}",
        ) from None
    except OSError as error:
        raise HubError(
            f"{name} could not be stored: {error}.", "Free some space, or move the cache with HF_HOME."
        ) from None
    except (ValueError, KeyError):
        raise Unanswered(
            f"What answers at {endpoint} is not a {wanted.kind} hub",
            name,
            f"Check HF_ENDPOINT, and whether the network asks you to log in first; or {wanted.elsewhere}",
        ) from None
