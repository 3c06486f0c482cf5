"""`python -m vendor`: a stub vendor until it is terminated. Prints its root URL first."""

from __future__ import annotations

import argparse
import asyncio
import signal

from vendor.script import Script
from vendor.server import VendorServer


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    script = Script(
        dimensions=arguments.dimensions,
        api_key=arguments.api_key,
        latency_ms=arguments.latency_ms,
        record=arguments.record,
    )
    server = VendorServer(script)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = await server.start("127.0.0.1", arguments.port)
    print(f"http://127.0.0.1:{port}", flush=True)
    await stop.wait()
    await server.close()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="vendor", description="A stub embedding vendor.")
    parser.add_argument("--port", type=int, default=8090, help="0 lets the system choose")
    parser.add_argument("--dimensions", type=int, default=768)
    parser.add_argument("--latency-ms", type=float, default=0, help="how long each answer takes")
    parser.add_argument("--api-key", default=None, help="the one key that is accepted")
    parser.add_argument("--record", action="store_true", help="keep the calls, for /_stub/calls")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
