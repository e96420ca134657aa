"""Runs: settings, the loop, files, figures and tables."""
