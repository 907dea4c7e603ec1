#!/usr/bin/env bash
# A real Kubernetes of one node for the tests, one a machine: etcd, API server, controllers, scheduler and kubelet out of
# one program (tests/kubernetes/node), over a containerd of its own. No kube-proxy and no DNS: Pods are reached by their
# addresses, and the host from Pods at 10.89.0.1.
#
#   kubernetes.sh build          the program into .cache/bin, once for each version (minutes; kept.sh)
#   kubernetes.sh start          until the node is Ready; what runs already is left as it is
#   kubernetes.sh stop           ends all of it and leaves nothing behind
#   kubernetes.sh running        whether there is one: 0, or 1
#   kubernetes.sh import IMAGE.. what Docker has under these names becomes the node's
#   kubernetes.sh kubectl ARG..  kubectl as its administrator
#   kubernetes.sh halt PART      kills a part: kubelet, kube-apiserver, ..
#   kubernetes.sh resume PART    starts it again
#
# Exit code 3: it cannot be had here, and why is said.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/kept.sh

sources=tests/kubernetes/node
bin=$PWD/.cache/bin
node=$bin/kubernetes-node
pause=$bin/kubernetes-pause

home=/var/lib/the0-test-kubernetes # all there is of the cluster
admin=$home/pki/admin.kubeconfig
socket=$home/containerd.sock
api=10.96.0.1 # the API server's, and of its Service; an address of the loopback
name=127.0.0.1
bridge=the0-k8s
host=10.89.0.1
pods=10.89.0.0/24
cni=/usr/lib/cni
parts=(kubelet kube-scheduler kube-controller-manager kube-apiserver etcd containerd)
# Folders that containerd and the kubelet insist on; in their mount namespace these are ours.
insisted='/var/lib/kubelet /var/log/pods /var/log/containers /var/lib/cni /run/containerd /usr/libexec/kubernetes'
# What the kubelet sets.
sysctls='vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes'

cannot() {
  echo "setup: no Kubernetes: $1" >&2
  exit 3
}

fail() {
  echo "setup: Kubernetes: $1" >&2
  exit 1
}

kubectl() { "$node" kubectl --kubeconfig "$admin" --cache-dir "$home/kubectl" "$@"; }
ctr() { command ctr --address "$socket" --namespace k8s.io "$@"; }

# The program.

kubernetes() { sed -n 's#^\tk8s.io/kubernetes \(v[0-9.]*\)$#\1#p' "$sources/go.mod"; }
wanted() { echo "$(kubernetes) $(cd "$sources" && find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-16)"; }
is_built() { [ -x "$node" ] && [ -x "$pause" ] && [ "$(cat "$node.version" 2>/dev/null)" = "$(wanted)" ]; }

build() {
  is_built && return
  local is
  is=$(wanted)
  if take "$node" "$is" && take "$pause" "$is"; then
    echo "$is" >"$node.version"
    return
  fi
  as_root
  command -v go >/dev/null || cannot "there is no go to build it with"
  echo "setup: building Kubernetes $(kubernetes) (5 to 7 minutes, once)"
  local new major minor rest version=k8s.io/component-base/version
  IFS=. read -r major minor rest <<<"$(kubernetes)"
  new=$(mktemp -d "${TMPDIR:-/tmp}/the0-kubernetes.XXXXXX")
  trap 'chmod -R u+w "$new"; rm -rf "$new"' EXIT
  # Its 3 GB of objects are of no use to anything else.
  export GOCACHE=$new/cache GOWORK=off CGO_ENABLED=0 GOFLAGS=-p=2
  [ -d "$(go env GOMODCACHE)" ] || export GOMODCACHE=$new/modules
  mkdir "$new/out"
  local told="-X $version.gitVersion=$(kubernetes) -X $version.gitMajor=${major#v} -X $version.gitMinor=$minor"
  nice -n 15 go build -C "$sources" -trimpath -ldflags "-s -w $told -X $version.gitTreeState=archive" -o "$new/out/" . ./pause \
    >"$new/log" 2>&1 || { tail -n 5 "$new/log" >&2; cannot "it could not be built"; }
  mkdir -p "$bin"
  mv "$new/out/node" "$node"
  mv "$new/out/pause" "$pause"
  echo "$is" >"$node.version"
  keep "$node" "$is"
  keep "$pause" "$is"
}

# The machine.

as_root() { [ "$(id -u)" = 0 ] || cannot "only root can start it"; }

need() {
  local missing=()
  as_root
  [ -x "$cni/bridge" ] && [ -x "$cni/host-local" ] || missing+=(containernetworking-plugins)
  command -v iptables >/dev/null || missing+=(iptables)
  command -v ip >/dev/null || missing+=(iproute2)
  command -v containerd >/dev/null || missing+=(containerd)
  command -v runc >/dev/null || missing+=(runc)
  if ((${#missing[@]})); then
    command -v apt-get >/dev/null || cannot "not installed, and there is no apt to install it by: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
      cannot "${missing[*]} could not be installed"
  fi
  mountpoint -q /sys/fs/cgroup || { command -v cgroupfs-mount >/dev/null && cgroupfs-mount; } || cannot "no cgroups are mounted"
  unshare --mount true 2>/dev/null || cannot "this root may not make mount namespaces"
}

network() {
  ip addr replace "$api/32" dev lo
  [ -d "/sys/class/net/$bridge" ] || ip link add "$bridge" type bridge
  ip addr replace "$host/24" dev "$bridge"
  ip link set "$bridge" up
  for way in -i -o; do
    iptables -w -C FORWARD $way "$bridge" -j ACCEPT 2>/dev/null || iptables -w -I FORWARD $way "$bridge" -j ACCEPT
  done
}

settings() {
  cat >"$home/cni/10-the0.conflist" <<C
{"cniVersion": "1.0.0", "name": "the0", "plugins": [
  {"type": "bridge", "bridge": "$bridge", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$home/addresses", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
C
  cat >"$home/containerd.toml" <<C
version = 2
root = "$home/containerd/root"
state = "$home/containerd/state"
[grpc]
  address = "$socket"
[plugins."io.containerd.internal.v1.opt"]
  path = "$home/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "the0.test/pause:1"
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$cni"
    conf_dir = "$home/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
C
  cat >"$home/kubelet.yaml" <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
healthzPort: 0
containerRuntimeEndpoint: unix://$socket
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: [pods]
makeIPTablesUtilChains: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $home/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $home/pki/kubelet-serving.crt
tlsPrivateKeyFile: $home/pki/kubelet-serving.key
C
}

# The parts.

resume() { # PART
  local command=()
  case $1 in
    # It, its shims and the kubelet have a mount namespace of their own: their mounts end with it.
    containerd)
      export home insisted
      command=(unshare --mount --propagation slave -- bash -ec '
        for path in $insisted; do mkdir -p "$home/insisted$path"; mount --bind "$home/insisted$path" "$path"; done
        exec containerd --config "$home/containerd.toml"')
      ;;
    etcd)
      command=("$node" etcd --data-dir "$home/etcd" --unsafe-no-fsync --log-level warn
        --listen-client-urls http://127.0.0.1:23790 --advertise-client-urls http://127.0.0.1:23790
        --listen-peer-urls http://127.0.0.1:23800 --initial-advertise-peer-urls http://127.0.0.1:23800
        --initial-cluster default=http://127.0.0.1:23800)
      ;;
    kube-apiserver)
      command=("$node" kube-apiserver --etcd-servers=http://127.0.0.1:23790
        --bind-address=$api --secure-port=443 --advertise-address=$api --endpoint-reconciler-type=none
        --service-cluster-ip-range=10.96.0.0/24 --authorization-mode=Node,RBAC --client-ca-file="$home/pki/ca.crt"
        --tls-cert-file="$home/pki/apiserver.crt" --tls-private-key-file="$home/pki/apiserver.key"
        --kubelet-client-certificate="$home/pki/apiserver-kubelet.crt" --kubelet-client-key="$home/pki/apiserver-kubelet.key"
        --kubelet-certificate-authority="$home/pki/ca.crt" --kubelet-preferred-address-types=Hostname
        --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$home/pki/sa.pub"
        --service-account-signing-key-file="$home/pki/sa.key")
      ;;
    kube-controller-manager)
      command=("$node" kube-controller-manager --kubeconfig="$home/pki/controller-manager.kubeconfig"
        --leader-elect=false --secure-port=0 --use-service-account-credentials --root-ca-file="$home/pki/ca.crt"
        --service-account-private-key-file="$home/pki/sa.key" --flex-volume-plugin-dir="$home/flex"
        --controllers='*,-node-ipam-controller,-node-route-controller,-service-lb-controller')
      ;;
    kube-scheduler)
      command=("$node" kube-scheduler --kubeconfig="$home/pki/scheduler.kubeconfig" --leader-elect=false --secure-port=0)
      ;;
    kubelet)
      command=(nsenter --mount --target "$(cat "$home/pid/containerd")" -- "$node" kubelet --config="$home/kubelet.yaml"
        --kubeconfig="$home/pki/kubelet.kubeconfig" --hostname-override=$name)
      ;;
    *) fail "there is no part $1: use one of ${parts[*]}" ;;
  esac
  is_up "$1" && return
  setsid nohup "${command[@]}" >>"$home/log/$1.log" 2>&1 </dev/null &
  echo $! >"$home/pid/$1"
}

# Process ids are used again: only what was started with our folder is ours.
is_up() { # PART
  local pid
  pid=$(cat "$home/pid/$1" 2>/dev/null) || return 1
  [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$home/"
}

halt() { # PART
  is_up "$1" || return 0
  kill -9 "$(cat "$home/pid/$1")" 2>/dev/null || true
  for _ in {1..100}; do
    is_up "$1" || return 0
    sleep 0.1
  done
  fail "$1 does not end"
}

await() { # SECONDS PART COMMAND..
  local end=$((SECONDS + $1)) part=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ! is_up "$part" || ((SECONDS >= end)); then
      tail -n 5 "$home/log/$part.log" >&2
      fail "$part has ended or does not answer (its log: $home/log/$part.log): $*"
    fi
    sleep 0.2
  done
}

# A Pod's namespaces are held by a program of ours, in an image of one layer that no builder is needed for.
pack_pause() {
  local root=$home/pause
  mkdir -p "$root/files"
  cp "$pause" "$root/files/pause"
  tar -C "$root/files" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$root/layer.tar" .
  printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/pause"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(sha256sum <"$root/layer.tar" | cut -d' ' -f1)" >"$root/config.json"
  echo '[{"Config":"config.json","RepoTags":["the0.test/pause:1"],"Layers":["layer.tar"]}]' >"$root/manifest.json"
  tar -C "$root" -cf - manifest.json config.json layer.tar
  rm -r "$root"
}

running() {
  [ -e "$home/ready" ] || return
  local part
  for part in "${parts[@]}"; do is_up "$part" || return; done
}

start() {
  running && return
  need
  build
  stop
  mkdir -p "$home"/{log,pid,cni}
  # shellcheck disable=SC2086
  sysctl $sysctls >"$home/sysctls"
  for path in $insisted; do [ -d "$path" ] || { mkdir -p "$path" && echo "$path" >>"$home/made"; }; done
  "$node" certificates "$home/pki" $api $name
  network
  settings
  for part in containerd etcd kube-apiserver kube-controller-manager kube-scheduler; do resume $part; done
  await 60 containerd ctr version
  pack_pause | ctr images import - >/dev/null
  await 120 kube-apiserver kubectl get --raw /readyz
  resume kubelet
  await 120 kubelet kubectl wait node $name --for=condition=Ready --timeout=10s
  await 60 kube-controller-manager kubectl --namespace default get serviceaccount default
  restore_sysctls
  touch "$home/ready"
  echo "setup: Kubernetes $(kubernetes) is ready after $SECONDS s: KUBECONFIG=$admin"
}

restore_sysctls() {
  [ ! -s "$home/sysctls" ] || sed 's/ = /=/' "$home/sysctls" | xargs sysctl -qw
}

# Processes of Pods.
in_pods() {
  find /sys/fs/cgroup/{,*/}kubepods -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u || true
}

# The kubelet goes first, so that nothing is started again.
stop() {
  [ -d "$home" ] || return 0
  for part in "${parts[@]}"; do [ "$part" = containerd ] || (halt "$part") || true; done
  local left
  for _ in {1..50}; do
    left=$(in_pods)
    [ -n "$left" ] || break
    # shellcheck disable=SC2086
    kill -9 $left 2>/dev/null || true
    sleep 0.1
  done
  (halt containerd) || true
  for pid in $(pgrep -x containerd-shim); do
    tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "-address $socket " && kill -9 "$pid" 2>/dev/null
  done || true
  sleep 0.3
  find /sys/fs/cgroup/{,*/}kubepods -depth -type d -exec rmdir {} + 2>/dev/null || true
  ip link del "$bridge" 2>/dev/null || true
  ip addr del "$api/32" dev lo 2>/dev/null || true
  for way in -i -o; do iptables -w -D FORWARD $way "$bridge" -j ACCEPT 2>/dev/null || true; done
  restore_sysctls
  # shellcheck disable=SC2046
  [ ! -s "$home/made" ] || rmdir $(cat "$home/made") 2>/dev/null || true
  rm -rf "$home"
}

import() {
  local docker=/usr/bin/docker
  [ -x "$docker" ] || docker=docker
  running || fail "it does not run: tests/setup/kubernetes.sh start"
  "$docker" save "$@" | ctr images import - >/dev/null
}

case "${1:-}" in
  build | start | stop | running) "$1" ;;
  import | kubectl | halt | resume) "$@" ;;
  *)
    sed -n 's/^#   \(kubernetes.sh\)/\1/p' "$0" >&2
    exit 2
    ;;
esac
