"""What only the maintainers of this package run; it is not in the wheel."""
