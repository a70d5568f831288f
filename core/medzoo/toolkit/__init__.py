"""Building blocks for plugin authors. Import the modules by name; this package itself loads nothing."""
