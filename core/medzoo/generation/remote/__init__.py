"""Images made by a service: consent, costs, and requests."""
