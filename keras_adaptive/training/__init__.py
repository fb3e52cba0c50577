"""What stands around an optimizer: one tool a file."""
