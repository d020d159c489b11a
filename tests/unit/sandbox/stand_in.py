"""The launcher with a stack of stand-ins: `front` needs `back`, all serve HTTP. Run as a program by the tests.

With STAND_IN `back-dies` the part `back` exits at start, with `back-hangs` it is never ready.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from deploy.sandbox.commands import main
from deploy.sandbox.layout import Layout
from deploy.sandbox.part import Part
from deploy.sandbox.ports import Ports
from deploy.sandbox.ready import http_ok
from deploy.sandbox.settings_file import ChosenSettings

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"here")
    def log_message(self, *_): pass
print("serving", sys.argv[1], flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
DIES = "import sys; print('no disk left', flush=True); sys.exit(7)"
HANGS = "import time; time.sleep(600)"
BACK = {"back-dies": DIES, "back-hangs": HANGS}


def stack(_layout: Layout, ports: Ports, _chosen: ChosenSettings) -> tuple[Part, ...]:
    back = BACK.get(os.environ.get("STAND_IN", ""), SERVER)
    return (
        _part("front", SERVER, ports.gateway, needs=("back",)),
        _part("back", back, ports.others["nats"]),
        _part("other", SERVER, ports.others["nats-monitor"]),
    )


def _part(name: str, program: str, port: int, needs: tuple[str, ...] = ()) -> Part:
    command = (sys.executable, "-S", "-c", program, str(port))
    return Part(name=name, command=command, is_ready=http_ok(f"127.0.0.1:{port}", "/"), needs=needs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], stack))
