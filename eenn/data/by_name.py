"""Tables of choices that a configuration names; it never names code to import."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from eenn.errors import EennError
from eenn.files import Json

T = TypeVar("T", covariant=True)


@dataclass(frozen=True)
class Table(Generic[T]):
    """The entries that a configuration can choose by name.

    Args:
        former: names by the import paths that configurations of earlier versions have instead.
    """

    entries: Mapping[str, Callable[..., T]]
    former: Mapping[str, str]

    def opener(self, at: str, given: Mapping[str, Json]) -> "partial[T]":
        """Look up a configuration's choice; gives the call with the arguments beside the name.

        Args:
            at: the key of `given`, for messages.

        Raises:
            EennError: the choice is not in the table.
        """
        arguments = dict(given)
        key = "name" if "name" in given else "_target_"
        chosen = arguments.pop(key, None)
        name = self.former.get(str(chosen)) if key == "_target_" else chosen
        if not isinstance(name, str) or name not in self.entries:
            raise EennError(f"{at}.{key}={chosen}: allowed is {at}.name={', '.join(self.entries)}")
        return partial(self.entries[name], **arguments)
