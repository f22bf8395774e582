# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
# shellcheck shell=bash
# One host.

INOTIFY=fs.inotify.max_user_instances

# Each host's systemd takes 7 of root's 128 inotify instances.
raise_inotify() {
  local now
  now=$(sysctl -n $INOTIFY)
  [ "$now" -lt 8192 ] || return 0
  echo "$now" > "$STATE/inotify.was"
  sysctl -qw $INOTIFY=8192
}

restore_inotify() {
  [ -e "$STATE/inotify.was" ] || return 0
  sysctl -qw "$INOTIFY=$(cat "$STATE/inotify.was")"
  rm "$STATE/inotify.was"
}

start_host() { # index; keeps what the host had on disk
  local name=$PREFIX$1
  local dir=$STATE/$name
  [ -e "/run/netns/$name" ] || plug "$name" "$(address "$1")"
  rm -rf "$dir/work"
  mkdir -p "$dir"/{up,work,root,bpf}
  install -d -m 700 "$dir/up/root" "$dir/up/root/.ssh"
  install -m 600 "$STATE/key.pub" "$dir/up/root/.ssh/authorized_keys"
  make_cgroups "$CGROUP/$name"
  setsid unshare --mount --propagation slave "$HERE/fleet" _supervise "$1" \
    < /dev/null > "$dir/log" 2>&1 &
}

# Runs in a mount namespace of its own and in the host's cgroup: mounts and
# processes go away with it.
supervise() { # index
  local name=$PREFIX$1 status kind
  local dir=$STATE/$name
  kind=$(release_of "$1")
  join_cgroups "$CGROUP/$name"
  mount -t overlay overlay -o "lowerdir=$BASE${kind:+.$kind},upperdir=$dir/up,workdir=$dir/work,volatile" "$dir/root"
  # "network", never "1": a host would write the machine's own sysctls
  export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
  while :; do
    # systemd in a container mounts no bpffs; a fresh one per boot, as on hardware
    mount -t bpf -o nosuid,nodev,noexec,mode=700 bpf "$dir/bpf"
    status=0
    # without @known nspawn's filter blocks bpf()
    systemd-nspawn --quiet --register=no --keep-unit --directory="$dir/root" \
      --machine="$name" --hostname="$name" --resolv-conf=off --timezone=off \
      --link-journal=no --network-namespace-path="/run/netns/$name" --capability=all \
      --system-call-filter=@known --bind="$dir/bpf:/sys/fs/bpf" \
      --console=pipe --boot || status=$?
    umount "$dir/bpf"
    remove_below "$name"
    [ $status = 133 ] || break    # 133: the host asked for a reboot
  done
}

remove_below() { # host name; the cgroups a boot left, not the host's own
  local root
  for root in "$CG2" ${CG1:+"$CG1"}; do
    find "$root/$CGROUP/$1" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}

kill_host() { # index
  kill_cgroup "$CG2/$CGROUP/$PREFIX$1"
  remove_cgroups "$CGROUP/$PREFIX$1"
}

enter_host() { # index [command..]
  local pid
  read -r pid < "$CG2/$CGROUP/$PREFIX$1/payload/init.scope/cgroup.procs"
  shift
  [ $# -gt 0 ] || set -- bash
  exec nsenter --target "$pid" --mount --uts --ipc --net --pid --cgroup \
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "TERM=${TERM:-dumb}" "$@"
}
