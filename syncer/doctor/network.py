"""The way to every server: its name, its IPv4 addresses, its certificate; and the clock, by what they say.

All servers are asked at once (``probes``), when the first check wants to know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median
from typing import Final

from syncer.diagnosis import Check, Found, fail, not_tried, ok, warn
from syncer.doctor import certificates
from syncer.doctor.probes import Place, Probe, ask
from syncer.doctor.words import span

REFUSED_SECONDS: Final = 240.0
"""AWS refuses requests signed by a clock five minutes wrong; so near to that is too near."""
NOTABLE_SECONDS: Final = 60.0
"""A clock that is further ahead may take a lease early (README, Clocks)."""
_SET_CLOCK: Final = "set the clock of this machine, and have it set by NTP (timedatectl set-ntp true)"


class Network:
    """The places, asked once."""

    def __init__(self, places: Sequence[Place], now: Callable[[], float] = time.time) -> None:
        self._places = places
        self._now = now
        self._probes: dict[str, Future[Probe]] = {}

    def checks(self) -> list[Check]:
        """Return the checks of the clock, the names and the certificates."""
        names = [
            Check(
                f"dns.{place.key}",
                f"name of {place.title}",
                lambda place=place: self._name(place),  # type: ignore[misc]
                settings=place.settings,
            )
            for place in self._places
        ]
        connections = [
            Check(
                f"tls.{place.key}",
                f"TLS to {place.title}",
                lambda place=place: self._connection(place),  # type: ignore[misc]
                needs=(f"dns.{place.key}",),
                settings=place.settings,
            )
            for place in self._places
        ]
        return [Check("clock", "clock of this machine", self._clock), *names, *connections]

    def has_ipv4(self, key: str) -> bool:
        """Tell whether a place has an IPv4 address."""
        return bool(self._probe(key).ipv4)

    def _probe(self, key: str) -> Probe:
        if not self._probes:
            pool = ThreadPoolExecutor(max(len(self._places), 1), "probe")
            self._probes = {place.key: pool.submit(ask, place, self._now) for place in self._places}
            pool.shutdown(wait=False)
        return self._probes[key].result()

    def _clock(self) -> Found:
        probes = [self._probe(place.key) for place in self._places]
        told = [probe.ahead for probe in probes if probe.ahead is not None]
        refused = [probe.certificate_error for probe in probes if probe.certificate_error is not None]
        if not told and len(refused) > 1 and all(map(certificates.dates_are_to_blame, refused)):
            says = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self._now()))
            return fail(f"no server's certificate is valid at its time, {says}", _SET_CLOCK)
        if not told:
            return not_tried("no server told its time; see the names and connections below")
        ahead = median(told)
        wrong = abs(ahead)
        said = f"{span(wrong)} {'ahead of' if ahead > 0 else 'behind'} the servers"
        if wrong > REFUSED_SECONDS:
            return fail(f"{said}: AWS refuses what it signs", _SET_CLOCK)
        if wrong > NOTABLE_SECONDS:
            return warn(f"{said}: two runners would disagree about the lease", _SET_CLOCK)
        return ok(f"within {max(round(wrong), 1)} s of {len(told)} servers")

    def _name(self, place: Place) -> Found:
        probe = self._probe(place.key)
        if probe.no_name is not None:
            return probe.no_name
        if probe.proxy:
            return ok("the proxy of the environment (HTTPS_PROXY) looks it up")
        if not probe.ipv4:
            words = f"{place.host} has IPv6 addresses only"
            if place.prefers_ipv4:
                return warn(f"{words}; Outlook.com turns sign-ins over IPv6 away", "use a name server that gives IPv4")
            return ok(words)
        return ok(f"{place.host}: {len(probe.ipv4)} IPv4" + (f", {len(probe.ipv6)} IPv6" if probe.ipv6 else ""))

    def _connection(self, place: Place) -> Found:
        probe = self._probe(place.key)
        return probe.no_connection or ok(probe.reached)
