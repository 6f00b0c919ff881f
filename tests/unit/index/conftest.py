"""Makes the repository in memory importable by the tests of this folder and by their child processes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
