"""How verbs speak of requests to services: what they will cost, and what they have cost."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medzoo.generation.job import Job
    from medzoo.generation.remote.consent import Quote
    from medzoo.generation.run import Outcome

logger = logging.getLogger(__name__)


def show_quotes(job: Job, quotes: Sequence[Quote]) -> None:
    """Nothing; what would be sent where, at what price, goes to stderr."""
    from medzoo.generation.remote.consent import describe_upload

    for quote in quotes:
        sent, cost = quote.tally.sent, float(quote.tally.cost(quote.service.price))
        if sent:
            logger.info(f"{_spent(quote.name, sent, cost, quote.service.currency)} up to now")
        if not quote.pictures:
            continue
        logger.info(describe_upload(job, quote))
        if quote.covered < len(quote.pictures):
            logger.info(
                f"its caps allow for {quote.covered} of them; the job stops there, and goes on once they are raised"
            )


def quotes_as_dict(quotes: Sequence[Quote]) -> list[dict[str, Any]]:
    """The quotes for programs."""
    return [
        {
            "generator": quote.name,
            "host": quote.service.host,
            "requests": len(quote.pictures),
            "images": quote.sources,
            "price": quote.service.price,
            "cost": float(quote.cost),
            "currency": quote.service.currency,
            "covered": quote.covered,
            "sent": quote.tally.sent,
            "spent": float(quote.tally.cost(quote.service.price)),
        }
        for quote in quotes
    ]


def show_requests(outcome: Outcome) -> None:
    """Nothing; what the job's requests came to goes to stderr."""
    for name, facts in outcome.requests.items():
        logger.info(f"{_spent(name, facts['requests'], facts['cost_at_most'], facts['currency'])} in this job")


def _spent(name: str, requests: int, cost: float, currency: str) -> str:
    price = f", for at most {cost:.2f} {currency}," if cost else ""
    return f"'{name}' sent {requests} request{'' if requests == 1 else 's'}{price}"
