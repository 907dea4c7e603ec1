#!/usr/bin/env bash
# Builds the images, each only if something in it has changed, and tells at the end which base each was built on.
# Usage: build.sh [NAME..], of: python3.11 nodejs20 rust-stable gcc13 dotnet8 scala3 ghc96 agent (all of them)
#   THE0_BASES   upstream: pull the upstream bases; standin: use stand-ins (tests/setup/bases), for tests only;
#                auto (the default): upstream where it is here or can be pulled, else a stand-in
#   THE0_PREFIX, THE0_TAG   the images are PREFIX/NAME:TAG (the0, latest)
set -euo pipefail
cd "$(dirname "$0")/.."
docker=/usr/bin/docker
[ -x "$docker" ] || docker=docker
bases=${THE0_BASES:-auto}
prefix=${THE0_PREFIX:-the0}
tag=${THE0_TAG:-latest}
context=.cache/images
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)

# What gcc 13 and a current Rust build needs newer libraries than Debian 12 has; newer ones run what was built for older.
declare -A upstream=(
  [python3.11]=python:3.11-slim-bookworm
  [nodejs20]=node:20-bookworm-slim
  [rust-stable]=debian:trixie-slim
  [gcc13]=debian:trixie-slim
  [dotnet8]=mcr.microsoft.com/dotnet/runtime:8.0-bookworm-slim
  [scala3]=eclipse-temurin:21-jre
  [ghc96]=debian:bookworm-slim
  [agent]=debian:bookworm-slim
)
declare -A standin=(
  [python3.11]=python [nodejs20]=node [rust-stable]=native [gcc13]=native
  [dotnet8]=dotnet [scala3]=jre [ghc96]=haskell [agent]=agent
)
names=("$@")
((${#names[@]})) || names=(python3.11 nodejs20 rust-stable gcc13 dotnet8 scala3 ghc96 agent)

fail() {
  echo "images: $*" >&2
  exit 1
}

# The upstream image, if it is here or comes. One that does not come is asked for once in a day.
declare -A refused=()
pulled() { # IMAGE
  "$docker" image inspect "$1" >/dev/null 2>&1 && return
  [ "$bases" = upstream ] || { [ -z "${refused[$1]:-}" ] && [ -z "$(find "$context/unreached" -mmin -1440 2>/dev/null)" ]; } || return 1
  echo "images: pulling $1"
  timeout "${THE0_PULL_TIMEOUT:-300}" "$docker" pull --quiet "$1" >/dev/null && return
  touch "$context/unreached"
  return 1
}

# Sets base and words.
choose() { # NAME
  local image=${upstream[$1]}
  base=$image words="$image, the upstream image"
  case $bases in
    upstream) pulled "$image" || fail "$image cannot be pulled: THE0_BASES=standin builds a stand-in, for tests" ;;
    auto) pulled "$image" || stand_in "$1" ;;
    standin) stand_in "$1" ;;
    *) fail "THE0_BASES is $bases: use auto, upstream or standin" ;;
  esac
}

stand_in() { # NAME
  local line
  line=$(tests/setup/bases/build.sh "${standin[$1]}") || fail "no base for $1"
  base=${line%%$'\t'*} words="a stand-in: ${line#*$'\t'}"
}

# What an image is made of: one that has the same is not built again, under whatever tag it is.
inputs() { # ARCHIVE DOCKERFILE NAME
  local id
  id=$("$docker" image inspect --format '{{.Id}}' "$base")
  { cat "$context/$1" "$2"; echo "$3 $version $base $id"; } | sha256sum | cut -d' ' -f1
}

build() { # NAME
  local archive=the0.tar file=images/Dockerfile image=$prefix/$1:$tag hash same
  [ "$1" != agent ] || archive=agent.tar file=images/agent.Dockerfile
  hash=$(inputs "$archive" "$file" "$1")
  same=$("$docker" image ls --quiet --no-trunc --filter "label=the0.inputs=$hash" | head -n 1)
  if [ -n "$same" ]; then
    "$docker" tag "$same" "$image"
    return
  fi
  mkdir -p "$context/$1"
  ln -f "$context/$archive" "$context/$1/$archive"
  DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-1} "$docker" build --quiet --file "$file" --tag "$image" \
    --build-arg BASE="$base" --build-arg BASE_WORDS="$words" --build-arg RUNTIME="$1" \
    --build-arg VERSION="$version" --build-arg INPUTS="$hash" "$context/$1" >/dev/null || fail "$image could not be built"
  rm -r "${context:?}/$1"
}

"$docker" info >/dev/null 2>&1 || fail "no Docker answers"
mkdir -p "$context"
exec 9>"$context/lock"
flock 9
parts=(runtimes)
case " ${names[*]} " in *" agent "*) parts+=(agent) ;; esac
images/stage.sh "${parts[@]}"
table=
for name in "${names[@]}"; do
  [ -n "${upstream[$name]:-}" ] || fail "there is no image $name"
  choose "$name"
  build "$name"
  table+=$(printf '%-24s on %s' "$prefix/$name:$tag" "$words")$'\n'
done
"$docker" image prune --force --filter label=the0.inputs >/dev/null # untagged ones of ours
printf '%s' "$table"
