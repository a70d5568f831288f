"""What plugin authors build with. Import the modules by name; this package itself loads nothing."""
