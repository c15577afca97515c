"""What an offloading benchmark measures, and the cloud that it asks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from eenn.artifact.deployment import ANSWER, PAYLOADS
from eenn.errors import EennError, require_numbers
from eenn.exits.head_sets import HeadChoice
from eenn.exits.policies.base import KnobValue
from eenn.exits.rests import CLOUD, PHOTOGRAPH
from eenn.exits.settings import ActiveBranches, Swept
from eenn.offload.bench.link import EmulatedLink
from eenn.offload.cloud.command import running
from eenn.offload.protocol.codecs import PAYLOADS as FEATURES
from eenn.planning.costs import Link
from eenn.planning.times import Route

UPLOADS = ("file", "crop")


@dataclass(frozen=True)
class Server:
    """The cloud to ask: one of our own behind an emulated link, or a live one.

    Args:
        url: of the live one; None starts our own.
        token: bearer token of the live one.
        ca_file: certificates that the live one is trusted by.
        slowdown: of our own; as of `EdgeRuntime`.

    Raises:
        EennError: what belongs to the one is given for the other.
    """

    url: str | None
    token: str | None
    ca_file: str | None
    slowdown: float

    def __post_init__(self) -> None:
        require_numbers(slowdown=self.slowdown)
        if self.url is None and (self.token or self.ca_file):
            raise EennError("cloud.token_file and cloud.ca_file go with cloud.url; give that too")
        if self.url is not None and self.slowdown != 1:
            raise EennError("cloud.slowdown goes without cloud.url: only our own server has it")


@dataclass(frozen=True)
class Offloading:
    """What is measured.

    Args:
        limit: photographs at most, spread over the split; None for all.
        policies: the planner chooses among those of the first.
        p_tars: thresholds of the baselines.
        rest, payload, on_failure: of the policies, as of `Deployment`; `compress` requests with
            zstd.
        upstream: temperature of the last exit of an upstream network that answers what the
            policies leave; None where the artifact itself does.
        upload: what cloud only sends: the photograph's `file`, or the network's `crop`.
        experts: who answers, as of `EdgeRuntime`; of cloud only it is the plain heads.
        precision: of the edge's stages.
        slowdown: of the edge.
        deadline_ms: of every answer; None leaves it to the client's own limits.
        label: the deployment file that it comes from, where several are compared.
        min_accuracy, plan_deadline_ms: bounds of the best plan, as of `planning.exhaustive.best`;
            None is one point below the last exit's accuracy, and no deadline.

    Raises:
        EennError: a choice that there is not.
    """

    split: str
    limit: int | None
    policies: Sequence[Swept]
    p_tars: Sequence[KnobValue]
    active: ActiveBranches
    distortion: str
    levels: Sequence[float]
    link: Link
    payload: str
    compress: bool
    upload: str
    experts: HeadChoice
    temperature: str
    precision: str
    slowdown: float
    deadline_ms: float | None
    min_accuracy: float | None
    plan_deadline_ms: float | None
    rest: str = CLOUD
    upstream: float | None = None
    on_failure: str = ANSWER
    label: str = ""

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("payload", self.payload, PAYLOADS),
            ("upload", self.upload, UPLOADS),
        ):
            if value not in allowed:
                raise EennError(f"{name}={value}: allowed are {', '.join(allowed)}")
        require_numbers(**{"edge.slowdown": self.slowdown})
        require_numbers(**{"plan.min_accuracy": self.min_accuracy or 0.0})
        if self.limit is not None and (type(self.limit) is not int or self.limit < 1):
            raise EennError(
                f"limit={self.limit}: allowed is 1 or more photographs, or null for all"
            )
        if self.slowdown < 1:
            raise EennError(f"edge.slowdown={self.slowdown}: allowed is 1 or more")
        if self.upload == "file" and any(self.levels):
            raise EennError("distortion.level with upload=file: the file is pristine; upload=crop")
        if self.sends_photographs and any(self.levels):
            raise EennError(
                f"distortion.level with payload={PHOTOGRAPH}: the file is pristine; allowed are "
                f"features: {', '.join(FEATURES)}"
            )

    @property
    def route(self) -> Route:
        """What becomes of an image that no branch of the policies accepts."""
        payload = self.payload if self.rest == CLOUD else ""
        return Route(self.rest, payload, self.upstream is not None)

    @property
    def sends_photographs(self) -> bool:
        """The policies pass on the photograph's file, here or to the cloud."""
        return self.route.payload == PHOTOGRAPH or self.route.upstream


@contextmanager
def open_cloud(server: Server, artifacts: Sequence[str], link: Link) -> Iterator[str]:
    """Yield the URL of the cloud, which is started behind the link if it is our own."""
    if server.url is not None:
        yield server.url
        return
    with running(artifacts, slowdown=server.slowdown) as own:
        target = urlsplit(own.url)
        assert target.hostname
        assert target.port
        with EmulatedLink(target.hostname, target.port, link) as emulated:
            yield f"http://{emulated.host}:{emulated.port}"
