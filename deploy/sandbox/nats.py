"""The configuration of the sandbox's NATS."""

from deploy import nats_users
from deploy.sandbox.layout import Layout
from deploy.sandbox.ports import Ports

# Replies to service requests and announcements of refused events contain entities of up to 4 MiB, and some more.
_MAX_PAYLOAD = "8MB"
# Without it the limit is three quarters of the disk space that is free when NATS starts: after a start on a disk that
# is nearly full NATS would go on refusing messages when there is space again.
_FILE_STORE = "1TB"


def config(layout: Layout, ports: Ports) -> str:
    """Return the configuration file of the server."""
    # sync_interval: appended messages must survive a crash of the machine, as commits of PostgreSQL do. By default NATS
    # syncs every two minutes. With it an append takes 0.5 ms instead of 0.3, and eight writers together make 2,600
    # instead of 11,000 a second (SSD); a batch of events is one append, so that is no bottleneck.
    return f"""\
server_name: flyteplane
listen: {ports.address("nats")}
http: {ports.address("nats-monitor")}
max_payload: {_MAX_PAYLOAD}
jetstream {{
  store_dir: "{layout.nats}"
  max_memory_store: 64MB
  max_file_store: {_FILE_STORE}
  sync_interval: always
}}
{nats_users.authorization(layout.secrets().nats_passwords)}"""
