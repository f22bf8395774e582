# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Find the command of an init script whose stop may end processes of other instances."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from udpgrm.restart import migration, systemd
from udpgrm.restart.plan import Refused
from udpgrm.services import init_script

#: From packages of Debian 12.
BROAD = "start-stop-daemon --stop --quiet --oknodo --name $NAME"
STOPS = [
    (BROAD, BROAD),
    (
        "\tstart-stop-daemon --stop --quiet --oknodo --retry=0/30/KILL/5 --exec $DAEMON",
        "start-stop-daemon --stop --quiet --oknodo --retry=0/30/KILL/5 --exec $DAEMON",
    ),
    ("    start-stop-daemon --oknodo --stop --quiet --pidfile $PIDFILE \\\n\t--exec $DAEMON", None),
    (
        "  start-stop-daemon --stop --quiet \\\n   --user $USER \\\n   --exec $DAEMON",
        "start-stop-daemon --stop --quiet --user $USER --exec $DAEMON",
    ),
    ('start-stop-daemon --stop --quiet ${PIDFILE:+--pidfile "$PIDFILE"}', None),
    ("start-stop-daemon -K -q -p $PIDFILE -n $NAME", None),
    ("start-stop-daemon --start --quiet --exec $DAEMON -- --stop-at-eof", None),
    ("start-stop-daemon --stop --signal 1 --quiet --exec $DAEMON", None),
    ("start-stop-daemon --test --stop --quiet --user root --exec $DAEMON", None),
    ('killproc -p "$PIDFILE" "$PROGRAM" || ret=$?', None),
    ("killproc $DAEMON; log_end_msg $?", "killproc $DAEMON"),
    ("  killall -q ircd || true", "killall -q ircd"),
    ("# killall would end all of them", None),
]


@pytest.mark.parametrize(("script", "expected"), STOPS)
def test_the_command_that_may_end_other_instances(script: str, expected: Optional[str]) -> None:
    assert init_script.broad_stop(f"#!/bin/sh\n{script}\n") == expected


def test_a_unit_of_such_a_script_is_not_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refuse a unit whose stop would end the new instance as well, which serves by then."""
    script = tmp_path / "tftpd-hpa"
    monkeypatch.setattr(init_script, "DIRECTORY", tmp_path)
    properties = {
        "ExecStop": f"{{ path={script} ; argv[]={script} stop ; ignore_errors=no ; pid=0 }}"
    }
    monkeypatch.setattr(systemd, "property_of", lambda _, name: properties.get(name, ""))
    script.write_text("start-stop-daemon --stop --quiet --pidfile /run/in.tftpd.pid\n")
    migration.refuse_stop("tftpd-hpa.service")
    script.write_text(f"{BROAD}\n")
    with pytest.raises(Refused) as caught:
        migration.refuse_stop("tftpd-hpa.service")
    assert str(caught.value) == (
        f"tftpd-hpa.service: {script} stop ends processes by name ({BROAD}), so that of the "
        "instance that has replaced the unit: set ExecStop= and KillMode=control-group in a "
        "drop-in (systemctl edit tftpd-hpa.service)"
    )
