"""The report of a tuning: the verdict, the policy, the search, the pools, and where the time went."""
