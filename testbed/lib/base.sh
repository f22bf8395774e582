# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
# shellcheck shell=bash
# The root trees below hosts' overlays. Hosts reach no registry: what a role needs on
# them is there, installed or, in trees of other releases than Debian 12, in apt's cache.

# A tree is used again as long as neither the packages nor this recipe change.
BASE=$STATE/base-$(cat "${PACKAGES[@]}" "$HERE/lib/base.sh" | sha256sum | cut -c1-12)

# Of hosts, in turn; the empty one is Debian 12, with a role's packages installed.
IFS=' ' read -ra RELEASES <<< "${FLEET_RELEASES:-}"
[ ${#RELEASES[@]} -gt 0 ] || RELEASES=('')

release_of() { # host index
  echo "${RELEASES[($1 - 1) % ${#RELEASES[@]}]}"
}

base_tree() { # [release]
  local base=$BASE${1:+.$1}
  [ ! -d "$base" ] || return 0
  note "building the hosts' root tree${1:+ of $1}"
  find "$STATE" -mindepth 1 -maxdepth 1 -name 'base-*' \
    '(' -name '*.tmp' -o ! -name "${BASE##*/}*" ')' -exec rm -rf --one-file-system {} +
  trap 'rm -rf --one-file-system "$BASE"*.tmp' EXIT
  if [ -n "${1:-}" ]; then
    bare_tree "$base.tmp" "$1"
  else
    bootstrap "$base.tmp" bookworm "$(cat "${PACKAGES[@]}")"
    : > "$base.tmp/etc/apt/sources.list"
  fi
  configure_tree "$base.tmp"
  mv "$base.tmp" "$base"
  trap - EXIT
}

bare_tree() { # directory release
  local keys=$BASE.keys.tmp components=main
  # Ubuntu's, of which Debian 12 has no package
  unshare --mount mmdebstrap --quiet --variant=extract --mode=root --format=directory \
    --include=ubuntu-archive-keyring trixie "$keys"
  [ "$2" != noble ] || components=main,universe
  # the shell that mmdebstrap starts expands $1, the tree
  # shellcheck disable=SC2016
  bootstrap "$1" "$2" "$(cat "$HERE/host-packages.txt")" \
    --keyring="$keys/usr/share/keyrings" --components=$components --skip=cleanup/apt \
    --customize-hook='chroot "$1" apt-get --quiet=2 --yes --no-install-recommends \
      --download-only install '"$(paste -sd' ' "$HERE/role-packages.txt")"
  rm -rf --one-file-system "$keys"
}

bootstrap() { # directory release packages [option..]
  # in a mount namespace of its own: an interrupted build leaves no mount behind
  unshare --mount mmdebstrap --quiet --variant=minbase --mode=root --format=directory \
    --include="${3//$'\n'/,}" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "${@:4}" "$2" "$1"
}

configure_tree() { # directory
  local tree=$1
  rm -f "$tree/etc/hostname"
  : > "$tree/etc/machine-id"
  : > "$tree/etc/fstab"
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
