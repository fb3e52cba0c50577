"""Tools around an optimizer, one per file."""
