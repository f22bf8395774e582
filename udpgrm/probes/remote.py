# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Probes from another host: flows held there, with questions over one ssh session.

Both ends speak JSON, a line each way: {"hold": PROBE, "address": "IP:PORT"} is
answered with {"flow": N, "source": [IP, PORT]}, {"ask": N} with {"result": ...},
{"close": N} with {}. A failure is answered with {"error": WHY}.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import selectors
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Optional, TypeVar

from udpgrm.probes import runner
from udpgrm.probes.specs import ProbeSpec
from udpgrm.state import address as addresses

if TYPE_CHECKING:
    import subprocess

_SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "--")
_COMMAND = "udpgrm prober"
#: Seconds for the session, in addition to those of the probe itself.
_PATIENCE_S = 10.0
_LONGEST = 1 << 20

_Answer = TypeVar("_Answer")


class ProberError(OSError):
    """Raised when the other host cannot probe; the message names it and says why."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"from {host}: {reason}")


class Prober:
    """A host that probes for this one. Its session begins with the first flow."""

    def __init__(self, host: str) -> None:
        """Use an ssh destination, [USER@]HOST, without interaction."""
        self._host = host
        self._session: Optional[subprocess.Popen[bytes]] = None
        self._unread = b""

    def hold(self, spec: ProbeSpec, address: str) -> RemoteFlow:
        """Begin a flow; a wildcard address is probed at the ssh client's. Raises ProberError."""

        def flow(answer: dict[str, Any]) -> RemoteFlow:
            ip, port = answer["source"]
            return RemoteFlow(self, spec, int(answer["flow"]), (str(ip), int(port)))

        return self.call({"hold": _document(spec), "address": address}, _PATIENCE_S, flow)

    def close(self) -> None:
        """End the session and with it all flows."""
        if self._session is None:
            return
        import subprocess

        for pipe in (self._session.stdin, self._session.stdout, self._session.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._session.wait(1)
        except subprocess.TimeoutExpired:
            self._session.kill()
            self._session.wait()
        self._session = None

    def call(
        self, question: dict[str, Any], timeout: float, read: Callable[[dict[str, Any]], _Answer]
    ) -> _Answer:
        """Send a request to the other end, and return its answer. Raises ProberError."""
        if self._session is None:
            import subprocess

            self._session = subprocess.Popen(
                [*_SSH, self._host, _COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C is for us
            )
        assert self._session.stdin is not None
        try:
            self._session.stdin.write(json.dumps(question).encode() + b"\n")
            self._session.stdin.flush()
        except BrokenPipeError as error:
            raise ProberError(self._host, self._last_message()) from error
        line = self._line(time.monotonic() + timeout)
        try:
            answer = json.loads(line)
            if "error" not in answer:
                return read(answer)
        except (KeyError, TypeError, ValueError) as error:
            raise ProberError(self._host, "what answered is not an udpgrm prober") from error
        raise ProberError(self._host, str(answer["error"]))

    def _line(self, deadline: float) -> bytes:
        assert self._session is not None and self._session.stdout is not None
        descriptor = self._session.stdout.fileno()
        with selectors.DefaultSelector() as ready:
            ready.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not ready.select(max(deadline - time.monotonic(), 0)):
                    raise ProberError(self._host, "no answer in time")
                part = os.read(descriptor, 65536)
                if not part or len(self._unread) > _LONGEST:
                    raise ProberError(self._host, self._last_message())
                self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _last_message(self) -> str:
        """Return why the session ended: the last line of ssh's or the remote shell's stderr."""
        import subprocess

        assert self._session is not None and self._session.stderr is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._session.wait(1)
        os.set_blocking(self._session.stderr.fileno(), False)
        message = (self._session.stderr.read() or b"").decode(errors="replace").strip()
        return message.splitlines()[-1] if message else "the ssh session ended"


class RemoteFlow:
    """A flow of another host, with the interface of runner.Held."""

    def __init__(self, prober: Prober, spec: ProbeSpec, number: int, source: runner.Source) -> None:
        self.source = source
        self._prober = prober
        self._number = number
        self._timeout = spec.timeout_s * (spec.retries + 1) + _PATIENCE_S

    def ask(self) -> runner.ProbeResult:
        """Send a question. Raises ProberError; failures of the service are in the result."""

        def result(answer: dict[str, Any]) -> runner.ProbeResult:
            return runner.ProbeResult(**{**answer["result"], "source": self.source})

        return self._prober.call({"ask": self._number}, self._timeout, result)

    def close(self) -> None:
        """End the flow, if its host can still be reached."""
        with contextlib.suppress(ProberError):
            self._prober.call({"close": self._number}, _PATIENCE_S, lambda _: None)


def run(spec: ProbeSpec, address: str) -> runner.ProbeResult:
    """Probe once, from the host that the probe names or from here. Raises ProberError."""
    if spec.from_host is None:
        return runner.run(spec, address)
    prober = Prober(spec.from_host)
    try:
        return prober.hold(spec, address).ask()
    finally:
        prober.close()


def serve(
    lines: Iterable[str],
    reply: Callable[[str], None],
    parse: Callable[[dict[str, Any], str], ProbeSpec],
    came_from: Optional[str],
) -> None:
    """Serve the other end: hold flows until EOF.

    parse: makes a probe of a definition's keys and an address, or raises ValueError.
    came_from: the address that the session came from, None = unknown.
    """
    flows: dict[int, runner.Held] = {}
    with contextlib.ExitStack() as held:
        for number, line in enumerate(lines):
            try:
                question = json.loads(line)
                answer: dict[str, Any] = {}
                if "hold" in question:
                    where = _reachable(question["address"], came_from)
                    flow = held.enter_context(runner.hold(parse(question["hold"], where), where))
                    flows[number] = flow
                    answer = {"flow": number, "source": flow.source}
                elif "ask" in question:
                    answer = {"result": vars(flows[question["ask"]].ask())}
                else:
                    flows.pop(question["close"]).close()
            except (KeyError, TypeError, ValueError) as error:
                answer = {"error": f"not understood: {error}"}
            except OSError as error:
                answer = {"error": error.strerror or str(error)}
            reply(json.dumps(answer))


def _reachable(where: str, came_from: Optional[str]) -> str:
    """Return an address at which this host can reach a wildcard address. Raises ValueError."""
    address = addresses.read(where)
    ip, port = address.ip, address.port
    if ip.is_link_local and ip.version == 6:
        raise ValueError(f"{address.plain} is link-local: its device is not known here")
    if not ip.is_unspecified:
        return address.plain  # the device is the other host's
    if came_from is None or ipaddress.ip_address(came_from).version != ip.version:
        raise ValueError(f"{where} is a wildcard, and ssh came from {came_from or 'nowhere'}")
    return addresses.form(came_from, port)


def _document(spec: ProbeSpec) -> dict[str, Any]:
    """Return a probe as a definition has it, without its source and destination."""
    given = {key: value for key, value in vars(spec).items() if value is not None}
    for ours in ("address", "from_host"):
        given.pop(ours, None)
    return {"type": spec.type, **given}
