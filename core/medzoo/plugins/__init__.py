"""Installed plugins: discovery, look-up by name, disabled plugins, and errors of foreign code."""
