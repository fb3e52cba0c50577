"""What an optimizer stores, saves and restores."""
