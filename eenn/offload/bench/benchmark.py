"""The settings of an offloading benchmark, and the cloud that it asks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from eenn.planning.planners.comparison import Comparison
from eenn.planning.times import Route

UPLOADS = ("file", "crop")


@dataclass(frozen=True)
class Server:
    """The cloud to ask: one that the benchmark starts behind an emulated link, or a live one.

    Args:
        url: URL of the live cloud; None to start one.
        token: bearer token of the live cloud.
        ca_file: certificates (PEM) to trust for the live cloud.
        slowdown: of a started cloud; see `EdgeRuntime`.

    Raises:
        EennError: a setting of a live cloud is given for a started one, or the other way round.
    """

    url: str | None
    token: str | None
    ca_file: str | None
    slowdown: float

    def __post_init__(self) -> None:
        require_numbers(slowdown=self.slowdown)
        if self.url is None and (self.token or self.ca_file):
            raise EennError("cloud.token_file and cloud.ca_file need cloud.url; give it too")
        if self.url is not None and self.slowdown != 1:
            raise EennError(
                "cloud.slowdown with cloud.url: allowed only for a cloud that the benchmark "
                "starts; leave one of them out"
            )


@dataclass(frozen=True)
class Offloading:
    """The settings of the measurements.

    Args:
        limit: largest number of photographs, spread over the split; None for all.
        policies: exit policies to measure; the planner chooses among those of the first entry.
        p_tars: thresholds of the early-exit baselines.
        rest, payload, cut, on_failure: see `Deployment`; for the policies, not the baselines.
        compress: whether requests are compressed with zstd.
        upstream: temperature of the last exit of an upstream network that answers images that no
            branch accepts; None where the artifact itself answers them.
        upload: content that the cloud-only baseline sends: the photograph's `file`, or the
            network's `crop`.
        experts: see `EdgeRuntime`; the cloud-only baseline answers with the plain heads.
        precision: of the edge's stages.
        slowdown: of the edge.
        deadline_ms: time limit of every answer; None for the client's own limits.
        label: the deployment file of these settings, where several are compared.
        min_accuracy, plan_deadline_ms: bounds of the best plan, see `planning.exhaustive.best`;
            None for one percentage point below the last exit's accuracy, and for no deadline.
        plan_max_late: largest share of answers after plan_deadline_ms; None for any.
        comparison: named planners, whose plans are measured as well.

    Raises:
        EennError: a setting has a value that is not allowed.
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
    plan_max_late: float | None = None
    rest: str = CLOUD
    cut: int | None = None
    upstream: float | None = None
    on_failure: str = ANSWER
    label: str = ""
    comparison: Comparison = field(default_factory=Comparison)

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("payload", self.payload, PAYLOADS),
            ("upload", self.upload, UPLOADS),
        ):
            if value not in allowed:
                raise EennError(f"{name}={value}: allowed are {', '.join(allowed)}")
        require_numbers(**{"edge.slowdown": self.slowdown})
        require_numbers(**{"plan.min_accuracy": self.min_accuracy or 0.0})
        if self.plan_max_late is not None and self.plan_deadline_ms is None:
            raise EennError(
                f"plan.max_late={self.plan_max_late:g} without plan.deadline_ms: late is what "
                "comes after it; give both"
            )
        if self.limit is not None and (type(self.limit) is not int or self.limit < 1):
            raise EennError(
                f"limit={self.limit}: allowed is 1 or more photographs, or null for all"
            )
        if self.slowdown < 1:
            raise EennError(f"edge.slowdown={self.slowdown}: allowed is 1 or more")
        if self.upload == "file" and any(self.levels):
            raise EennError(
                "distortion.level with upload=file, which sends the undistorted file; give "
                "upload=crop"
            )
        if self.sends_photographs and any(self.levels):
            raise EennError(
                f"distortion.level with payload={PHOTOGRAPH}, which sends the undistorted file; "
                f"allowed are features: {', '.join(FEATURES)}"
            )

    @property
    def route(self) -> Route:
        """Return the route of images that no active branch accepts."""
        payload = self.payload if self.rest == CLOUD else ""
        return Route(self.rest, payload, self.upstream is not None, self.cut or 0)

    @property
    def sends_photographs(self) -> bool:
        """Tell whether the route passes on the photograph's file, on the device or to the cloud."""
        return self.route.payload == PHOTOGRAPH or self.route.upstream


@contextmanager
def open_cloud(server: Server, artifacts: Sequence[str], link: Link) -> Iterator[str]:
    """Yield the URL of the cloud; without a live one, start a cloud behind an emulated link."""
    if server.url is not None:
        yield server.url
        return
    with running(artifacts, slowdown=server.slowdown) as own:
        target = urlsplit(own.url)
        assert target.hostname
        assert target.port
        with EmulatedLink(target.hostname, target.port, link) as emulated:
            yield f"http://{emulated.host}:{emulated.port}"
