"""Drawings: the routing map, figures of a run, and the live window."""
