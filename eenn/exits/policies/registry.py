"""The registry of exit policies: by name from settings, or from JSON text."""

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from eenn.errors import EennError
from eenn.exits.policies.base import Policy, Validation

P = TypeVar("P", bound=type[Policy])

POLICIES: dict[str, type[Policy]] = {}


def register(name: str) -> Callable[[P], P]:
    """Register a class of policies under `name`, for every program of this project."""

    def known(policy: P) -> P:
        policy.name = name
        POLICIES[name] = policy
        return policy

    return known


def find_policy(name: str) -> type[Policy]:
    """Find the class of the policy of that name.

    Raises:
        EennError: no policy has that name.
    """
    if name not in POLICIES:
        raise EennError(f"policy {name}: allowed are {', '.join(POLICIES)}")
    return POLICIES[name]


def make_policy(
    name: str, settings: Mapping[str, object], validation: Validation | None = None
) -> Policy:
    """Build the policy of that name from its settings, and fit the settings that are left open.

    Raises:
        EennError: unknown name; a setting that is unknown, missing or not allowed; a setting is
            left open and there are no validation results to fit it to.
    """
    return find_policy(name).fit(settings, validation or Validation())


def policy_from_json(text: str) -> Policy:
    """Build the policy that `Policy.to_json` wrote as `text`.

    Raises:
        EennError: the text is not a policy, or has settings that are unknown or not allowed.
    """
    try:
        settings = json.loads(text)
        name = settings.pop("name")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EennError(
            f"not a policy: {text[:80]!r}; allowed is a JSON object with its name and settings"
        ) from error
    return find_policy(name).of(settings)
