"""The fault campaign, ``python -m tests.faults``: what becomes of runs whose processes and files meet with faults."""

import sys
from pathlib import Path

if (_TESTS := str(Path(__file__).resolve().parents[1])) not in sys.path:  # as pytest has it
    sys.path.insert(0, _TESTS)
