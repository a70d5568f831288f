"""What a run would send to services outside this machine, what that costs, and whether the user allows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from medzoo.errors import ConfigError
from medzoo.generation.plan import PlannedImage
from medzoo.generation.remote.ledger import Usage, read_usage
from medzoo.generation.sampler import Sampler
from medzoo.generation.writer import is_written
from medzoo.toolkit.remote import RemoteGenerator, Service


@dataclass(frozen=True, kw_only=True)
class RequestPlan:
    """The `images` that the remote generator `name` still has to request; others are `there`, as `usage` counts.

    `sources` is the number of different real images that the requests would carry.
    """

    name: str
    generator: RemoteGenerator
    service: Service
    sampler: Sampler
    folder: Path
    images: tuple[PlannedImage, ...]
    there: tuple[PlannedImage, ...]
    sources: int
    usage: Usage

    @property
    def cost(self) -> Decimal:
        """The price of one request per image, in the service's currency."""
        return len(self.images) * Decimal(str(self.service.price_per_request))

    @property
    def allowed(self) -> int:
        """How many of the images the caps allow for."""
        service, number = self.service, len(self.images)
        if service.max_requests:
            number = min(number, service.max_requests - self.usage.sent)
        if service.max_cost:
            left = Decimal(str(service.max_cost)) - self.usage.cost(service.price_per_request)
            number = min(number, int(left / Decimal(str(service.price_per_request))))
        return max(0, number)

    def describe(self) -> str:
        """Describe what is sent where, and at what price."""
        service, real = self.service, self.sampler.real
        classes = Counter(image.label for image in self.images)
        named = ", ".join(f"{label} {count}" for label, count in classes.items())
        where = f"{service.host}{'' if service.encrypted else ', not encrypted'}"
        price = (
            f"{self.cost:f} {service.currency} at {service.price_per_request:g} each"
            if service.price_per_request
            else "at a price not given"
        )
        return (
            f"'{self.name}' sends {len(self.images)} requests ({named}) to {where}: "
            f"{self.sources} different images of {real.path if real is not None else 'the data'}, one in each, as "
            f"new RGB PNGs of {service.image_size}x{service.image_size} pixels without metadata or file name, with "
            f"{service.also_sent}; {price}"
        )


def plan_requests(
    sampler: Sampler, folder: Path, shard: tuple[int, int], *, damaged: Set[str] = frozenset()
) -> list[RequestPlan]:
    """Plan the requests of each generator whose images come from a service, those in `damaged` files again.

    Raises: DataError on a damaged ledger.
    """
    found = []
    for number, (name, model) in enumerate(zip(sampler.plan.names, sampler.models, strict=True)):
        if not isinstance(model.model, RemoteGenerator) or model.model.service is None:
            continue
        planned = [image for batch in sampler.plan.batches(shard) for image in batch if image.generator == number]
        there = dict.fromkeys(
            image for image in planned if is_written(folder / image.file) and image.file not in damaged
        )
        images = tuple(image for image in planned if image not in there)
        found.append(
            RequestPlan(
                name=name,
                generator=model.model,
                service=model.model.service,
                sampler=sampler,
                folder=folder,
                images=images,
                there=tuple(there),
                sources=len({sampler.source(image) for image in images}),
                usage=read_usage(folder, name),
            )
        )
    return found


def check_upload(requests: Sequence[RequestPlan], *, allow_upload: bool) -> None:
    """Check that the user allows the uploads and that the services can be asked; nothing is sent.

    Raises: ConfigError that describes what would leave the machine; as `RemoteGenerator.connect`.
    """
    pending = [request for request in requests if request.images]
    if pending and not allow_upload:
        raise ConfigError(
            "images would leave this machine, and --allow-upload was not given: "
            + "; ".join(request.describe() for request in pending),
            "nothing was sent; give --allow-upload if these images may go there",
        )
    for request in pending:
        request.generator.connect()


def request_summary(folder: Path, requests: Sequence[RequestPlan]) -> dict[str, dict[str, object]]:
    """Return, by generator, the host, number and highest possible cost of a run's requests."""
    summary: dict[str, dict[str, object]] = {}
    for request in requests:
        usage = read_usage(folder, request.name)
        summary[request.name] = {
            "host": request.service.host,
            "requests": usage.sent,
            "cost_at_most": float(usage.cost(request.service.price_per_request)),
            "currency": request.service.currency,
        }
    return summary
