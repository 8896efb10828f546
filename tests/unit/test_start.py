"""What a start of the daemon costs."""

import subprocess
import sys

_IMPORT = """
import os
from gitsyncd.cli.running import _no_default_trust
os.environ["SSL_CERT_FILE"] = "/somewhere.pem"
os.environ.pop("SSL_CERT_DIR", None)
with _no_default_trust():
    from aiohttp import connector
assert connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509"] == 0, "certificates were read"
assert connector._SSL_CONTEXT_VERIFIED.verify_mode.name == "CERT_REQUIRED", "and without them nobody is believed"
assert os.environ["SSL_CERT_FILE"] == "/somewhere.pem"
assert "SSL_CERT_DIR" not in os.environ
"""


def test_importing_the_http_client_reads_no_certificates_of_the_machine() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
