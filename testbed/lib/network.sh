# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
# shellcheck shell=bash
# A bridge in a namespace of its own: the fleet is not reachable from the machine's
# network, nor the other way round.

CTL=${PREFIX}ctl          # the bridge; Ansible's connections start here
CLIENT=${PREFIX}client    # a place across the bridge, for traffic

bridge() {
  [ ! -e "/run/netns/$CTL" ] || return 0
  ip netns add "$CTL"
  ip -n "$CTL" -batch - <<'EOF'
link set lo up
link add br0 type bridge
addr add 10.77.255.254/16 dev br0
link set br0 up
EOF
  plug "$CLIENT" 10.77.255.1
}

plug() { # namespace address; makes the namespace, cabled to the bridge
  ip netns add "$1"
  ip link add "v$1" netns "$CTL" type veth peer name eth0 netns "$1"
  ip -n "$CTL" link set "v$1" master br0 up
  ip -n "$1" -batch - <<EOF
link set lo up
addr add $2/16 dev eth0
link set eth0 up
EOF
}

cable() { # index up|down
  ip -n "$CTL" link set "v$PREFIX$1" "$2"
}

in_place() { # ctl|client command..; becomes the command, in the fleet's cgroup
  local place=$PREFIX$1
  shift
  make_cgroups "$CGROUP/run"
  (
    join_cgroups "$CGROUP/run"
    exec ip netns exec "$place" "$@"
  )
}

remove_namespaces() {
  local name
  # `ip netns list` prints "NAME (id: N)"
  for name in $(ip netns list | awk '{print $1}' | grep -E "^(${PREFIX}[0-9]+|$CTL|$CLIENT)$"); do
    ip netns del "$name"
  done
}
