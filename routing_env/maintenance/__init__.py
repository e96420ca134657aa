"""Tools for the maintainers of this package; they are not part of the wheel."""
