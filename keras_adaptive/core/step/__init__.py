"""One call of an optimizer: its order (order.py), what a backend runs (transaction.py), and one file per stage."""
