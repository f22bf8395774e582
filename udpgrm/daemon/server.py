# SPDX-License-Identifier: Apache-2.0
"""The daemon: it starts or adopts state, serves messages, and stops."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from udpgrm import abi, log
from udpgrm.build import cache, sources
from udpgrm.daemon import directory
from udpgrm.daemon.adoptions import Adoptions
from udpgrm.daemon.compiling import Compiler
from udpgrm.daemon.errors import Errors
from udpgrm.daemon.garbage_collection import GarbageCollector
from udpgrm.daemon.inbox import Inbox, Item
from udpgrm.daemon.keying import Keying
from udpgrm.daemon.messages import MessageHandler
from udpgrm.daemon.registration import Registrar
from udpgrm.daemon.steering import Steering
from udpgrm.daemon.supervision import StopSignals, notify
from udpgrm.daemon.tubular import Tubular
from udpgrm.kernel import bpffs, btf, descriptors
from udpgrm.loader import failures, hooks, iterators, renewing, tracepoints
from udpgrm.loader.pool import Pool
from udpgrm.loader.programs import Linker
from udpgrm.state import layout
from udpgrm.state.layout import Limits
from udpgrm.state.maps import Maps

#: The close of a socket outside of the hooks is not reported: collect that often (seconds).
COLLECT_EVERY = 30.0
LOOK_AGAIN_AFTER = 1.0
#: Seconds between rounds that fail, as for want of memory.
_REST_AFTER_ERROR = 1.0
#: Seconds of messages before anything else is served, and how many of root's in between.
_AT_A_TIME = 0.05
_ROOTS_AT_ONCE = 256


@dataclass(frozen=True)
class Options:
    """The options of the daemon's command line."""

    directory: Path
    limits: Limits
    cgroup: Optional[Path]
    with_sendmsg: bool
    force: bool
    persist: bool
    tubular: Optional[str]


def run(options: Options) -> None:
    """Run a daemon until SIGINT or SIGTERM.

    Raises StartError, BuildError, StateError or OSError when it cannot start;
    what it has pinned by then is removed, unless it was there before. Once it
    serves, a persistent daemon keeps its state however it ends.
    """
    stopping = StopSignals()
    _raise_descriptors()
    log.step("Loading BPF")
    cache.compile_missing(sources.all_programs())
    lock_fd = directory.take(options.directory, options.force)
    keep = (options.directory / "config").exists()
    try:
        maps = directory.open_maps(options.directory, options.limits)
        with contextlib.closing(maps):  # the removal of pins needs descriptors, too
            server = Server(options, maps, stopping, lock_fd)
            server.start()
            keep = keep or options.persist
            server.serve()
            keep = options.persist
    finally:
        if not keep:
            directory.clean_up(options.directory, lock_fd)
        os.close(lock_fd)


def _raise_descriptors() -> None:
    """Raise the limit of descriptors to the maximum: sockets of labelled groups need one each."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Server:
    """A started daemon."""

    def __init__(self, options: Options, maps: Maps, stopping: StopSignals, lock_fd: int) -> None:
        """Load the programs and adopt the state in the maps. lock_fd: of the pin directory."""
        self._options = options
        self._maps = maps
        self._lock_fd = lock_fd
        self._has_pins = True
        self._stopping = stopping
        self._errors = Errors()
        config = maps.config
        config.pid = os.getpid()
        maps.write_config(config)
        log.step(f"Pinning bpf programs to {options.directory}")
        descriptors.prepare()
        linker = self._load_programs()
        self._pool = Pool(self._maps, options.limits)
        self._poll = select.epoll()
        self._compiler = Compiler(self._poll)
        self._tubular = Tubular(options.tubular) if options.tubular else None
        self._keying = Keying(maps, options.directory, linker)
        self._steering = Steering(
            maps, self._pool, self._compiler, linker, self._keying, self._tubular is not None
        )
        registrar = Registrar(self._maps, self._pool, self._tubular)
        self._messages = MessageHandler(self._maps, self._steering, registrar, self._tubular)
        self._adoptions = Adoptions(
            self._maps, self._messages, options.directory, options.with_sendmsg
        )
        self._inbox = Inbox(maps)
        self._collector = GarbageCollector(
            self._maps, self._pool, self._messages, self._adoptions, self._inbox
        )
        #: When (monotonic seconds) to collect, and when at the earliest
        self._due = self._collect_not_before = 0.0
        #: Whether prepared groups or tables may have been taken
        self._is_short = False
        self._refill_not_before = 0.0

    def _load_programs(self) -> Linker:
        directory = self._options.directory
        with btf.KernelTypes():  # parsed once for all of this
            linker = Linker(self._maps, self._options.limits)
            renewing.load(
                [hook.program for hook in sources.HOOKS], lambda: hooks.load(directory, linker)
            )
            renewing.load(
                sources.ITERATOR_PROGRAMS, lambda: iterators.load(directory, linker, self._maps)
            )
            renewing.load(
                list(sources.TRACEPOINTS.values()), lambda: tracepoints.load(directory, linker)
            )
            renewing.load(sources.STAGES, linker.stages)
        return linker

    def start(self) -> None:
        """Attach the hooks, and notify the service manager that the daemon is ready."""
        self._adoptions.reconcile()
        for _ in self._collector.steps():
            pass
        while self._pool.refill():
            pass
        if self._options.cgroup is not None:
            log.step(f"Installing BPF into cgroup {self._options.cgroup}")
            hooks.install(
                self._options.directory,
                self._options.cgroup,
                self._options.with_sendmsg,
                starting_over=self._options.force,
            )
        if self._options.tubular:
            log.step(f"Tubular path {self._options.tubular}")
        for name in layout.RINGS:
            self._poll.register(self._maps[name], select.EPOLLIN)
        self._poll.register(self._stopping.fileno(), select.EPOLLIN)
        self._poll.register(self._adoptions.fileno(), select.EPOLLIN)
        if self._tubular is not None:
            self._poll.register(self._tubular.fileno(), select.EPOLLIN)
        log.step("Tailing message ring buffer")
        notify("READY=1")

    def serve(self) -> None:
        """Serve until a signal to stop comes; no single error ends it."""
        self._guarded(self._resume)  # asked for while no daemon ran
        self._due = time.monotonic() + COLLECT_EVERY
        while not self._stopping.have_come:
            if not self._guarded(self._round):
                self._stopping.wait(_REST_AFTER_ERROR)
        notify("STOPPING=1")
        config = self._maps.config
        config.pid = 0
        self._maps.write_config(config)

    def _round(self) -> None:
        """Wait for something to do, and do some of it; root's messages come first."""
        self._serve()
        if self._compiler.start():
            self._resume()
        self._search()
        self._adopt()
        if self._collector.is_due_soon:
            # a user that opens and closes sockets makes it collect for half of the time at most
            soon = max(time.monotonic() + LOOK_AGAIN_AFTER, self._collect_not_before)
            self._due = min(self._due, soon)
        wake = min(moment for moment in (self._due, *self._moments()) if moment is not None)
        events = dict(self._poll.poll(max(0.0, wake - time.monotonic())))
        if self._stopping.have_come:
            return
        if self._compiler.watch in events:
            self._compiler.finish()
            self._resume()
        if self._tubular is not None:
            self._tubular.expire()
            if self._tubular.fileno() in events:
                self._messages.count_tubulars_failures()
        due = self._adoptions.due
        if self._adoptions.fileno() in events or (due is not None and time.monotonic() >= due):
            self._guarded(self._adoptions.reconcile)
        if time.monotonic() >= self._due:
            self._collect()

    def _collect(self) -> None:
        self._due = time.monotonic() + COLLECT_EVERY
        began = time.monotonic()
        self._guarded(self._adoptions.reconcile)
        self._guarded(self._collect_in_steps)
        self._guarded(self._steering.replace_outdated)
        self._guarded(self._steering.put_back)
        self._guarded(self._keying.follow)
        self._guarded(self._look_at_pins)
        now = time.monotonic()
        self._collect_not_before = now + (now - began)
        self._is_short = True

    def _look_at_pins(self) -> None:
        """Log if commands find the pins no longer, once."""
        had, where = self._has_pins, self._options.directory
        self._has_pins = directory.is_there(where, self._lock_fd)
        if had and not self._has_pins:
            log.problem(
                f"{where} is no longer this daemon's: its bpf file system was unmounted, or its "
                "pins were removed. Packets are steered as before, but no command finds the state. "
                f"Mount it again ({bpffs.MOUNT}) and restart the daemon"
            )

    def _collect_in_steps(self) -> None:
        for _ in self._collector.steps():
            self._serve_root()
            self._refill_if_short()  # the collection takes long with many groups

    def _moments(self) -> Iterator[Optional[float]]:
        """Yield when (monotonic seconds) there is something to do, if nothing comes before."""
        yield self._compiler.due
        yield self._messages.search_due
        yield self._adoptions.due
        yield self._messages.entrance.due
        yield self._messages.deferred.retry_due
        yield self._tubular.due if self._tubular is not None else None
        yield self._refill_not_before if self._is_short else None
        yield None if self._inbox.is_empty else 0.0

    def _serve(self) -> None:
        """Serve messages for a while, and refill the pool."""
        retry_due = self._messages.deferred.retry_due
        if retry_due is not None and time.monotonic() >= retry_due:
            self._inbox.add(self._messages.deferred.take_failed())
        self._messages.begin_round()
        end = time.monotonic() + _AT_A_TIME
        while time.monotonic() < end:
            item = self._inbox.next()
            if item is None:
                break
            self._serve_one(item)
            self._adoptions.expect()
        self._refill_if_short()

    def _refill_if_short(self) -> None:
        if self._is_short and time.monotonic() >= self._refill_not_before:
            self._guarded(self._refill)

    def _refill(self) -> None:
        self._refill_not_before = time.monotonic() + _REST_AFTER_ERROR
        self._is_short = self._pool.refill()
        self._refill_not_before = 0.0

    def _serve_root(self) -> None:
        """Serve root's messages in between, while something else takes long."""
        for count in range(_ROOTS_AT_ONCE):
            item = self._inbox.roots()
            if item is None:
                return
            if not count:
                self._messages.begin_round()
            self._serve_one(item)

    def _serve_one(self, item: Item) -> None:
        self._is_short = True
        self._attempt(item.message, self._messages.handle, item.message)
        if item.ring is None:
            self._messages.settle(item.message)
        self._inbox.done(item)

    def _attempt(
        self, message: abi.Message, serve: Callable[..., None], *arguments: object
    ) -> None:
        """Serve a message, or defer it if the machine has no room for it now."""
        try:
            serve(*arguments)
        except Exception as error:
            self._errors.report(error)
            if failures.is_machines(error):
                self._guarded(self._messages.try_again, message)

    def _resume(self) -> None:
        """Handle messages that waited for a program; some may have to wait again."""
        self._messages.begin_round()
        self._guarded(self._steering.replace_outdated)
        self._inbox.add(self._messages.deferred.take_unsteered())

    def _adopt(self) -> None:
        """Enter the unconnected sockets of adopted cgroups."""
        self._messages.begin_round()
        try:
            for message in self._messages.entrance.recheck():
                self._attempt(message, self._messages.handle, message)
                self._serve_root()
        except (OSError, RuntimeError) as error:
            self._errors.report(error, "cannot look for adopted sockets now")

    def _search(self) -> None:
        """Serve sockets that had to be searched for."""
        self._messages.begin_round()
        try:
            for message, found in self._messages.search():
                self._attempt(message, self._messages.serve, message, found)
                self._messages.settle(message)
                self._serve_root()
        except (OSError, RuntimeError) as error:
            self._errors.report(error, "cannot look for sockets now")

    def _guarded(self, action: Callable[..., object], *arguments: object) -> bool:
        """Call an action and log its errors, which must not end the daemon; return its success."""
        try:
            action(*arguments)
        except Exception as error:
            self._errors.report(error)
            return False
        return True
