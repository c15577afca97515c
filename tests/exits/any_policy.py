"""Policies of any name for tests that go over all of them."""

from collections.abc import Mapping
from dataclasses import fields

from eenn.exits.policies.base import Policy
from eenn.exits.policies.registry import find_policy, make_policy


def any_policy(name: str, given: Mapping[str, object]) -> Policy:
    """Build the policy of that name from those of the given settings that it has."""
    own = {field.name for field in fields(find_policy(name))}
    return make_policy(name, {key: value for key, value in given.items() if key in own})
