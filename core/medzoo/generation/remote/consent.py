"""What a job would send to services outside this machine, what that costs, and whether the user allows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from medzoo.errors import ConfigError
from medzoo.generation.job import Job
from medzoo.generation.plan import Picture
from medzoo.generation.remote.ledger import Tally, read_tally
from medzoo.generation.writer import is_there
from medzoo.toolkit.remote import RemoteGenerator, Service


@dataclass(frozen=True, kw_only=True)
class Quote:
    """The `pictures` that a generator has still to ask its service for; `there` are there, for what `tally` says.

    `sources` counts the different real images that the requests would carry.
    """

    name: str
    generator: RemoteGenerator
    service: Service
    pictures: tuple[Picture, ...]
    there: int
    sources: int
    tally: Tally

    @property
    def cost(self) -> Decimal:
        """The price of one request for each picture, in the service's currency."""
        return len(self.pictures) * Decimal(str(self.service.price))

    @property
    def covered(self) -> int:
        """How many of the pictures the caps allow for."""
        service, number = self.service, len(self.pictures)
        if service.max_requests:
            number = min(number, service.max_requests - self.tally.sent)
        if service.max_cost:
            left = Decimal(str(service.max_cost)) - self.tally.cost(service.price)
            number = min(number, int(left / Decimal(str(service.price))))
        return max(0, number)


def quotes(job: Job) -> list[Quote]:
    """One for each generator whose images come from a service. Raises: DataError on a damaged ledger."""
    found = []
    for number, (name, model) in enumerate(zip(job.plan.names, job.studio.models, strict=True)):
        if not isinstance(model.model, RemoteGenerator) or model.model.service is None:
            continue
        all_ = [picture for batch in job.plan.batches(job.shard) for picture in batch if picture.generator == number]
        pictures = tuple(picture for picture in all_ if not is_there(job.folder / picture.file))
        found.append(
            Quote(
                name=name,
                generator=model.model,
                service=model.model.service,
                pictures=pictures,
                there=len(all_) - len(pictures),
                sources=len({job.studio.source(picture) for picture in pictures}),
                tally=read_tally(job.folder, name),
            )
        )
    return found


def refuse_upload(job: Job, quotes: Sequence[Quote]) -> None:
    """Nothing, if the user allows uploads and the services can be asked; nothing is sent.

    Raises: ConfigError that says what would leave the machine; as `RemoteGenerator.connect`.
    """
    leaving = [quote for quote in quotes if quote.pictures]
    if leaving and not job.allow_upload:
        told = "; ".join(describe_upload(job, quote) for quote in leaving)
        raise ConfigError(
            f"images would leave this machine, and --allow-upload was not given: {told}",
            "nothing was sent; give --allow-upload if these images may go there",
        )
    for quote in leaving:
        quote.generator.connect()


def describe_upload(job: Job, quote: Quote) -> str:
    """What one generator sends where, and at what price, in words."""
    service = quote.service
    classes = Counter(picture.label for picture in quote.pictures)
    named = ", ".join(f"{label} {count}" for label, count in classes.items())
    where = f"{service.host}{'' if service.encrypted else ', not encrypted'}"
    price = f"{quote.cost:f} {service.currency} at {service.price:g} each" if service.price else "at a price not given"
    return (
        f"'{quote.name}' sends {len(quote.pictures)} requests ({named}) to {where}: "
        f"{quote.sources} different images of {job.real.path if job.real is not None else 'the data'}, one in each, as "
        f"new RGB PNGs of {service.side}x{service.side} pixels without metadata or file name, with {service.beside}; "
        f"{price}"
    )


def spent(folder: Path, quotes: Sequence[Quote]) -> dict[str, dict[str, object]]:
    """By generator: where its requests of this job went, how many they were and what they cost at most."""
    told: dict[str, dict[str, object]] = {}
    for quote in quotes:
        tally = read_tally(folder, quote.name)
        told[quote.name] = {
            "host": quote.service.host,
            "requests": tally.sent,
            "cost_at_most": float(tally.cost(quote.service.price)),
            "currency": quote.service.currency,
        }
    return told
