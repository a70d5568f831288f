"""Where models come from: the registry, the Hub, mirrors, and the local cache."""
