"""The changes of a deployment by flags, in words."""

import json
from collections.abc import Iterable

from eenn.artifact.deployment import Deployment


def changed_fields(base: Deployment, deployment: Deployment, flags: Iterable[str]) -> str:
    """List the fields that differ, by the names of their flags, with the values of `base`.

    Args:
        flags: fields of a deployment that have a flag of the same name, besides policy and
            branches.
    """
    before, after = (_fields(own, flags) for own in (base, deployment))
    # Another policy may lack a setting that the first one has.
    differing = [name for name, value in before.items() if after.get(name) != value]
    return ", ".join(f"{name} {_in_words(before[name])}" for name in differing)


def _fields(deployment: Deployment, flags: Iterable[str]) -> dict[str, object]:
    settings = json.loads(deployment.policy.to_json())
    names = {"name": "policy", "fallback_to": "fallback"}
    return {
        **{names.get(key, key): value for key, value in settings.items()},
        "branches": deployment.setting.branches or "none",
        **{field: getattr(deployment, field) for field in flags},
    }


def _in_words(value: object) -> str:
    if isinstance(value, list):
        return " ".join(_in_words(one) for one in value)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return json.dumps(value)
    # 10 and 10.0 are the same number.
    return f"{value:g}" if isinstance(value, int | float) else str(value)
