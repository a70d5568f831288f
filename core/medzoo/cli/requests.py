"""Print what requests to services will cost, and have cost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medzoo.generation.remote.consent import RequestPlan

logger = logging.getLogger(__name__)


def show_request_plans(plans: Sequence[RequestPlan]) -> None:
    """Log what would be sent where, at what price."""
    for plan in plans:
        sent, cost = plan.usage.sent, float(plan.usage.cost(plan.service.price_per_request))
        if sent:
            logger.info(f"{_spent(plan.name, sent, cost, plan.service.currency)} so far")
        if not plan.images:
            continue
        logger.info(plan.describe())
        if plan.allowed < len(plan.images):
            logger.info(
                f"its limits allow {plan.allowed} of them; the job stops there and resumes when they are raised"
            )


def request_plans_as_dict(plans: Sequence[RequestPlan]) -> list[dict[str, Any]]:
    """Return the planned requests as plain values for JSON."""
    return [
        {
            "generator": plan.name,
            "host": plan.service.host,
            "requests": len(plan.images),
            "images": plan.sources,
            "price": plan.service.price_per_request,
            "cost": float(plan.cost),
            "currency": plan.service.currency,
            "covered": plan.allowed,
            "sent": plan.usage.sent,
            "spent": float(plan.usage.cost(plan.service.price_per_request)),
        }
        for plan in plans
    ]


def show_requests(requests: Mapping[str, Mapping[str, Any]]) -> None:
    """Log how many requests each generator has sent, and what they cost."""
    for name, facts in requests.items():
        logger.info(f"{_spent(name, facts['requests'], facts['cost_at_most'], facts['currency'])} in this job")


def _spent(name: str, requests: int, cost: float, currency: str) -> str:
    price = f", for at most {cost:.2f} {currency}," if cost else ""
    return f"'{name}' sent {requests} request{'' if requests == 1 else 's'}{price}"
