"""Certificates that sign themselves, for servers of tests."""

import asyncio
from pathlib import Path


async def own_certificate(folder: Path, name: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """Write a certificate for `name` and its key to `folder`; return their paths."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    making = await asyncio.create_subprocess_exec(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", "/CN=localhost", "-addext", f"subjectAltName={name}"),
        *("-out", str(chain), "-keyout", str(key)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await making.wait() == 0
    return chain, key
