"""`python -m deploy.sandbox up|down|status|runs|logs|stop|start|reset`."""

import sys

from deploy.sandbox.commands import main
from deploy.sandbox.parts import stack

sys.exit(main(sys.argv[1:], stack))
