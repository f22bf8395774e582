# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
# shellcheck shell=bash
# One virtual machine, and the image below its disk.

suite() { # kernel -> release of Debian that has it
  case $1 in
    6.1) echo bookworm ;;
    6.12) echo trixie ;;
    *) note "no release has kernel $1: 6.1 or 6.12" && return 1 ;;
  esac
}

# Kernel, modules and a file system that holds the root tree. No initial RAM disk: NVMe
# and ext4 are built into Debian's kernels for clouds.
image() { # kernel
  [ ! -e "$BASE.$1.ext4" ] || return 0
  local work=$BASE.image.tmp modules
  base_tree
  note "building an image with kernel $1"
  trap 'rm -rf --one-file-system "$BASE.image.tmp"' EXIT
  rm -rf --one-file-system "$work"
  mkdir "$work"
  unshare --mount mmdebstrap --quiet --variant=extract --mode=root --format=directory \
    --include=linux-image-cloud-amd64 "$(suite "$1")" "$work/kernel"
  cp -a "$BASE" "$work/tree"
  mkdir -p "$work/tree/usr/lib/modules"
  for modules in "$work"/kernel/{,usr/}lib/modules/*; do
    [ ! -d "$modules" ] || cp -a "$modules" "$work/tree/usr/lib/modules/"
  done
  cp "$work"/kernel/boot/vmlinuz-* "$BASE.$1.vmlinuz"
  configure_image "$work/tree"
  truncate --size=4G "$work/ext4"
  mke2fs -q -F -t ext4 -E lazy_itable_init=1,lazy_journal_init=1 -d "$work/tree" "$work/ext4"
  mv "$work/ext4" "$BASE.$1.ext4"
  rm -rf --one-file-system "$work"
  trap - EXIT
}

configure_image() { # directory
  chroot "$1" depmod "$(ls "$1/usr/lib/modules")"
  install -d -m 700 "$1/root/.ssh"
  install -m 600 "$STATE/key.pub" "$1/root/.ssh/authorized_keys"
  printf 'virtio_pci\nvirtio_net\n' > "$1/etc/modules-load.d/vm.conf"
  systemctl --quiet --root="$1" unmask systemd-modules-load.service systemd-sysctl.service
  systemctl --quiet --root="$1" enable systemd-networkd.service
  systemctl --quiet --root="$1" mask systemd-networkd-wait-online.service
}

make_vm() { # index kernel; an empty disk above the image
  local name=$PREFIX$1
  qemu-img create -q -f qcow2 -F raw -b "$BASE.$2.ext4" "$STATE/$name.qcow2"
  echo "$2" > "$STATE/$name.kernel"
}

start_vm() { # index; keeps what the machine had on disk
  local tap="t$PREFIX$1"
  if ! ip -n "$CTL" link show "$tap" > /dev/null 2>&1; then
    ip netns exec "$CTL" ip tuntap add "$tap" mode tap
    ip -n "$CTL" link set "$tap" master br0 up
  fi
  make_cgroups "$CGROUP/$PREFIX$1"
  setsid "$HERE/vms" _run "$1" < /dev/null > "$STATE/$PREFIX$1.log" 2>&1 &
}

accelerator() {
  # /dev/kvm alone is not enough: some hypervisors offer one that runs their kernels only
  if [ -w /dev/kvm ] && grep -qE '^flags.* (vmx|svm) ' /proc/cpuinfo; then
    echo "-accel kvm -cpu host"
  else
    echo "-accel tcg,thread=multi,tb-size=128 -cpu Nehalem"
  fi
}

run_vm() { # index; becomes the emulator
  local name=$PREFIX$1 kernel options
  read -r kernel < "$STATE/$name.kernel"
  read -ra options < <(accelerator)
  join_cgroups "$CGROUP/$name"
  exec ip netns exec "$CTL" qemu-system-x86_64 "${options[@]}" -smp 2 -m 768 -M pc \
    -nodefaults -display none -serial "file:$STATE/$name.console" \
    -kernel "$BASE.$kernel.vmlinuz" \
    -append "console=ttyS0 root=/dev/nvme0n1 rw quiet mitigations=off net.ifnames=0 ip=$(address "$1")::10.77.255.254:255.255.0.0:$name:eth0:none systemd.hostname=$name" \
    -drive "file=$STATE/$name.qcow2,if=none,id=disk,cache=unsafe" \
    -device nvme,drive=disk,serial=disk \
    -netdev "tap,id=net,ifname=t$name,script=no,downscript=no" \
    -device "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:00:00:$(printf %02x "$1")" \
    -device virtio-rng-pci
}

kill_vm() { # index
  kill_cgroup "$CG2/$CGROUP/$PREFIX$1"
  remove_cgroups "$CGROUP/$PREFIX$1"
}

enter_vm() { # index [command..]
  local where
  where=$(address "$1")
  shift
  # ssh hands one string to the shell there
  [ $# -eq 0 ] || set -- "$(printf '%q ' "$@")"
  exec ip netns exec "$CTL" ssh -q -i "$STATE/key" -o StrictHostKeyChecking=no \
    -o UserKnownHostsFile=/dev/null "root@$where" "$@"
}
