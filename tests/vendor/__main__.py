"""`python -m vendor`: a stub vendor until it is terminated. Prints its root URL first.

As it is, it takes scripts of faults over its control page; with --fast it is one for measurements, see `vendor.fast`.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from dataclasses import fields

from vendor.fast import FastVendor, Habits
from vendor.script import Script
from vendor.server import VendorServer


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = _fast(arguments) if arguments.fast else _scripted(arguments)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = await server.start(arguments.host, arguments.port)
    print(f"http://{arguments.host}:{port}", flush=True)
    await stop.wait()
    await server.close()


def _scripted(arguments: argparse.Namespace) -> VendorServer:
    return VendorServer(
        Script(
            dimensions=arguments.dimensions,
            api_key=arguments.api_key,
            latency_ms=arguments.latency_ms,
            record=arguments.record,
        )
    )


def _fast(arguments: argparse.Namespace) -> FastVendor:
    return FastVendor(Habits(**{field.name: getattr(arguments, field.name) for field in fields(Habits)}))


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="vendor", description="A stub embedding vendor.")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 in a pod")
    parser.add_argument("--port", type=int, default=8090, help="0 lets the system choose")
    parser.add_argument("--dimensions", type=int, default=768)
    parser.add_argument("--latency-ms", type=float, default=0, help="how long each answer takes")
    parser.add_argument("--api-key", default=None, help="the one key that is accepted")
    parser.add_argument("--record", action="store_true", help="keep the calls, for /_stub/calls")
    fast = parser.add_argument_group("with --fast, which is for measurements")
    fast.add_argument("--fast", action="store_true", help="a vendor that takes microseconds a text, and no faults")
    fast.add_argument("--per-item-us", type=float, default=0, help="how much longer each text takes")
    fast.add_argument("--rate-429", type=int, default=0, help="refuse more calls a second, with Retry-After")
    fast.add_argument("--max-concurrency", type=int, default=0, help="refuse more calls at once")
    fast.add_argument("--overload-status", type=int, default=503, help="how those are refused")
    fast.add_argument("--poison", default=None, help="refuse calls with this in a text")
    fast.add_argument("--wrong-length-every", type=int, default=0, help="one short vector in each so-manieth answer")
    fast.add_argument("--hang-every", type=int, default=0, help="never answer each so-manieth call")
    fast.add_argument("--refuse-base64", action="store_true")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
