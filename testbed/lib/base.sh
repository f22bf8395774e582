# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
# shellcheck shell=bash
# The root tree below every host's overlay. Hosts reach no registry: what a role
# needs on them is in the lists of packages.

# A tree is used again as long as neither the packages nor this recipe change.
BASE=$STATE/base-$(cat "${PACKAGES[@]}" "$HERE/lib/base.sh" | sha256sum | cut -c1-12)

base_tree() {
  [ ! -d "$BASE" ] || return 0
  note "building the hosts' root tree"
  rm -rf --one-file-system "$STATE"/base-*
  local tree=$BASE.tmp
  trap 'rm -rf --one-file-system "$BASE.tmp"' EXIT
  # in a mount namespace of its own: an interrupted build leaves no mount behind
  unshare --mount mmdebstrap --quiet --variant=minbase --mode=root --format=directory \
    --include="$(cat "${PACKAGES[@]}" | paste -sd,)" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$tree"
  configure_tree "$tree"
  mv "$tree" "$BASE"
  trap - EXIT
}

configure_tree() { # directory
  local tree=$1
  rm -f "$tree/etc/hostname"
  : > "$tree/etc/machine-id"
  : > "$tree/etc/fstab"
  : > "$tree/etc/apt/sources.list"
  printf 'UseDNS no\nMaxStartups 100:30:200\n' > "$tree/etc/ssh/sshd_config.d/fleet.conf"
  install -d "$tree/etc/systemd/journald.conf.d" "$tree/sys/fs/bpf"
  printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=8M\nRuntimeMaxFileSize=1M\n' \
    > "$tree/etc/systemd/journald.conf.d/fleet.conf"
  systemctl --quiet --root="$tree" mask apt-daily.timer apt-daily-upgrade.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer \
    getty@tty1.service console-getty.service systemd-pstore.service \
    systemd-modules-load.service systemd-sysctl.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount
}
