# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
# shellcheck shell=bash
# There is one fleet per machine, and it belongs to one process: the demo, a
# molecule run. The next owner clears what a dead one has left.

locked() { # command..; one `up` or `down` at a time changes who owns what
  (
    flock 9
    "$@" 9>&-
  ) 9> "$STATE/lock"
}

start_time() { # pid -> clock ticks since boot; tells a process from a later one of its number
  local fields
  fields=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # the name, field 2, may hold spaces: count from behind it
  # shellcheck disable=SC2086
  set -- ${fields##*) }
  echo "${20}"
}

owner_pid() { # pid, or the name of a process that the caller runs under
  local pid=$PPID comm rest
  case $1 in
    '' | *[!0-9]*) ;;
    *) echo "$1" && return ;;
  esac
  while [ "$pid" -gt 1 ]; do
    comm=$(cat "/proc/$pid/comm")
    [ "$comm" != "$1" ] || { echo "$pid"; return; }
    read -r _ rest < <(sed 's/.*) //' "/proc/$pid/stat")
    pid=${rest%% *}
  done
  note "this does not run under a process named '$1'"
  return 1
}

foreign_owner() { # pid; prints and succeeds when another living process has the fleet
  local pid ticks
  read -r pid ticks 2>/dev/null < "$STATE/owner" || return 1
  [ "$pid" != "$1" ] && [ "$(start_time "$pid")" = "$ticks" ] && echo "$pid"
}

try_claim() { # pid
  local other
  if other=$(foreign_owner "$1"); then
    echo "$other"
    return 1
  fi
  down
  echo "$1 $(start_time "$1")" > "$STATE/owner"
}

claim() { # owner; waits up to 15 minutes for another one to end
  local pid other noted='' deadline=$((SECONDS + 900))
  pid=$(owner_pid "$1")
  until other=$(locked try_claim "$pid"); do
    [ -n "$other" ] || exit 1
    [ -n "$noted" ] || note "waiting for process $other, which has the fleet"
    noted=yes
    [ $SECONDS -lt $deadline ] || { note "process $other still has it"; exit 1; }
    sleep 1
  done
}

release() { # owner, or empty: any owner
  local pid other
  if [ -n "$1" ]; then
    pid=$(owner_pid "$1")
    if other=$(foreign_owner "$pid"); then
      note "left alone: the fleet of process $other"
      return
    fi
  fi
  down
}
