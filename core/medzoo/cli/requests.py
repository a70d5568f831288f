"""Print what requests to services will cost, and have cost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medzoo.generation.job import Job
    from medzoo.generation.remote.consent import Quote

logger = logging.getLogger(__name__)


def show_quotes(job: Job, quotes: Sequence[Quote]) -> None:
    """Log what would be sent where, at what price."""
    from medzoo.generation.remote.consent import describe_upload

    for quote in quotes:
        sent, cost = quote.tally.sent, float(quote.tally.cost(quote.service.price))
        if sent:
            logger.info(f"{_spent(quote.name, sent, cost, quote.service.currency)} so far")
        if not quote.pictures:
            continue
        logger.info(describe_upload(job, quote))
        if quote.covered < len(quote.pictures):
            logger.info(
                f"its limits allow {quote.covered} of them; the job stops there and resumes when they are raised"
            )


def quotes_as_dict(quotes: Sequence[Quote]) -> list[dict[str, Any]]:
    """Return the quotes as plain values for JSON."""
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


def show_requests(requests: Mapping[str, Mapping[str, Any]]) -> None:
    """Log how many requests each generator has sent, and what they cost."""
    for name, facts in requests.items():
        logger.info(f"{_spent(name, facts['requests'], facts['cost_at_most'], facts['currency'])} in this job")


def _spent(name: str, requests: int, cost: float, currency: str) -> str:
    price = f", for at most {cost:.2f} {currency}," if cost else ""
    return f"'{name}' sent {requests} request{'' if requests == 1 else 's'}{price}"
