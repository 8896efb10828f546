"""The least that a first apply can cost here: 16 connections that send bodies which are ready, and do nothing else.

A process of its own (`python -m tests.bench.floor FILE`), as the daemon is. FILE is JSON: `server`, `ca_file`, `token`,
`connections`, and `stages`, lists of [path, body]. Prints JSON: `seconds` from the first request to the last
answer, and `cpu_s` of the whole process.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

QUERY = "?fieldManager=gitsyncd%2Fbench&fieldValidation=Strict&force=false"


async def send(plan: dict[str, Any]) -> float:
    """Seconds that it took. Raises RuntimeError at the first answer that is no success."""
    tls = ssl.create_default_context(cafile=plan["ca_file"])
    headers = {"Authorization": f"Bearer {plan['token']}", "Content-Type": "application/apply-patch+yaml"}
    connector = aiohttp.TCPConnector(limit=plan["connections"], ssl=tls)
    stages = [[(plan["server"] + path + QUERY, body.encode()) for path, body in stage] for stage in plan["stages"]]
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def worker(pending: Any) -> None:
            for url, body in pending:
                async with session.patch(url, data=body) as response:
                    answer = await response.read()
                    if response.status not in {200, 201}:
                        raise RuntimeError(f"{url}: {response.status} {answer[:300]!r}")

        begun = time.perf_counter()
        for stage in stages:
            pending = iter(stage)
            await asyncio.gather(*(worker(pending) for _ in range(plan["connections"])))
        return time.perf_counter() - begun


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    seconds = asyncio.run(send(plan))
    print(json.dumps({"seconds": seconds, "cpu_s": time.process_time()}))


if __name__ == "__main__":
    main()
