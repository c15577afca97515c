"""The settings of the guard against drift, as deployment files and the command line have them."""

from dataclasses import asdict, dataclass, fields

from eenn.errors import EennError, require_numbers


@dataclass(frozen=True)
class GuardSettings:
    """The promise that the guard keeps, and the share of answers that it audits.

    Args:
        risk: largest share of images that leave on the edge although the cloud would answer
            otherwise.
        delta: probability with which a threshold fitted by the guard may have a larger risk.
        audit: probability with which an image that left is sent to the cloud all the same; 0
            leaves the monitor of the edge share only.

    Raises:
        EennError: a number is out of its range.
    """

    risk: float = 0.03
    delta: float = 0.1
    audit: float = 0.02

    def __post_init__(self) -> None:
        require_numbers(risk=self.risk, delta=self.delta, audit=self.audit)
        for name in ("risk", "delta"):
            value = getattr(self, name)
            if not LEAST <= value <= 0.5:
                raise EennError(f"guard: {name}={value}: allowed is {LEAST:g} to 0.5")
        if not (self.audit == 0 or LEAST <= self.audit <= 1):
            raise EennError(f"guard: audit={self.audit}: allowed is 0, or {LEAST:g} to 1")

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in asdict(self).items())

    @classmethod
    def parse(cls, text: str) -> "GuardSettings":
        """Parse settings such as `risk=0.03,delta=0.1,audit=0.02`; any of them may be left out.

        Raises:
            EennError: the text has another form, or a number is out of its range.
        """
        names = [field.name for field in fields(cls)]
        given: dict[str, float] = {}
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            try:
                number = float(value)
            except ValueError:
                number = None
            if name not in names or name in given or number is None:
                raise EennError(f"guard: {part}: allowed is {cls()}, each of them once at most")
            given[name] = number
        return cls(**given)


# Smaller shares would need audits of more images than a device sees in a month.
LEAST = 0.001
