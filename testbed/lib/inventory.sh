# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
# shellcheck shell=bash
# Ansible's inventory of the hosts.

inventory() { # count
  local i
  mkdir -p "$STATE/cp"
  echo '[fleet]'
  for i in $(seq "$1"); do
    echo "$PREFIX$i ansible_host=$(address "$i")"
  done
  # A mux that outlives its host would hang without ServerAlive*. On a busy machine an sshd may take 10 s to answer.
  cat <<EOF
[fleet:vars]
ansible_user=root
ansible_ssh_timeout=60
ansible_python_interpreter=/usr/bin/python3
ansible_pipelining=true
ansible_ssh_private_key_file=$STATE/key
ansible_control_path=$STATE/cp/%%h
ansible_ssh_args=-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=10 -o ServerAliveCountMax=3
ansible_ssh_common_args=-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ProxyCommand="$HERE/$ENTRY exec ctl socat - TCP:%h:%p"
EOF
}
