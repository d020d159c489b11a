"""What a process of the events service has in memory."""

import subprocess
import sys

IMPORTED = "import sys, services.events.app; sys.exit('sqlalchemy' in sys.modules)"


def test_a_process_of_events_does_not_import_sqlalchemy_which_takes_12_mb() -> None:
    subprocess.run([sys.executable, "-c", IMPORTED], check=True, timeout=60)
