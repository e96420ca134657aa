"""The fault campaign, ``python -m tests.faults``: what becomes of runs whose processes and files meet with faults."""
