# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
# shellcheck shell=bash
# shellcheck disable=SC2034  # read by those who source this
# Names and places that every part shares; testbed/vms has some of its own.

STATE=${FLEET_DIR:-${TMPDIR:-/tmp}/udpgrm-fleet}
PREFIX=fl    # of host names, network namespaces and interfaces
CGROUP=fleet # below the cgroup roots
PACKAGES=("$HERE/host-packages.txt" "$HERE/role-packages.txt")
CG2=/sys/fs/cgroup
CG1=         # systemd's own v1 hierarchy, where a machine is booted in hybrid mode
if [ -d $CG2/unified ]; then
  CG1=$CG2/systemd
  CG2=$CG2/unified
fi

note() { echo "fleet: $*" >&2; }

address() { # host index -> IPv4
  echo "10.77.$(($1 / 250)).$(($1 % 250 + 2))"
}

make_cgroups() { # path below the roots
  mkdir -p "$CG2/$1" ${CG1:+"$CG1/$1"}
}

join_cgroups() { # path below the roots; moves this shell
  local root
  for root in "$CG2" ${CG1:+"$CG1"}; do
    echo $BASHPID > "$root/$1/cgroup.procs"
  done
}

remove_cgroups() { # path below the roots
  local root
  for root in "$CG2" ${CG1:+"$CG1"}; do
    [ ! -d "$root/$1" ] || find "$root/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}

kill_cgroup() { # directory; ends every process below it and waits for that
  [ -e "$1/cgroup.kill" ] || return 0
  echo 1 > "$1/cgroup.kill"
  local tries
  for tries in $(seq 500); do
    grep -q 'populated 0' "$1/cgroup.events" && return
    sleep 0.02
  done
  note "processes in $1 outlive SIGKILL after $((tries / 50)) s"
  return 1
}
