#!/usr/bin/env bash
# Builds the test bots into .cache/bots/RUNTIME, each only if its sources have changed and its compiler is there (setup/bots.sh
# installs them); what is missing is said, and the tests that need it are skipped.
set -uo pipefail
cd "$(dirname "$0")"
cache=$PWD/../../.cache

# As an SDK is vendored by a user: beside the bot, in `vendor`.
bot_python3.11() {
  cp python3.11/*.py "$out"
  mkdir "$out/vendor"
  cp -r "$cache/sdk-0.4.0/the0" "$out/vendor"
}

bot_nodejs20() { cp nodejs20/*.js "$out"; }

bot_rust-stable() {
  cargo build --quiet --release --locked --manifest-path rust-stable/Cargo.toml --target-dir "$cache/bots/target" &&
    cp "$cache"/bots/target/release/{bot,query} "$out"
}

# The same bot with each of the platform's SDKs.
bot_rust-sdk() {
  local version
  for version in 0.3.1 0.4.0; do
    cargo build --quiet --release --locked --manifest-path "rust-sdk/$version/Cargo.toml" --target-dir "$cache/bots/target/sdk-$version" &&
      mkdir "$out/$version" && cp "$cache/bots/target/sdk-$version"/release/{bot,query} "$out/$version" || return
  done
}

# Also without any library, for an image that has none.
bot_gcc13() {
  local name
  for name in bot query; do
    g++ -std=c++17 -O1 -o "$out/$name" "gcc13/$name.cpp" &&
      g++ -std=c++17 -O1 -s -static -o "$out/$name-static" "gcc13/$name.cpp" || return
  done
}

bot_dotnet8() {
  local name
  for name in Bot Query; do
    mcs -out:"$out/$name.dll" -target:exe "dotnet8/$name.cs" && cp dotnet8/runtimeconfig.json "$out/$name.runtimeconfig.json" || return
  done
}

# Java finds Scala's library by the manifest, beside the jar.
bot_scala3() {
  cp /usr/share/java/scala-library.jar "$out" || return
  local name package
  for name in Bot Query; do
    package=${name,,}
    mkdir "$out/$package.classes"
    scalac -d "$out/$package.classes" "scala3/$name.scala" &&
      printf 'Class-Path: scala-library.jar\nMain-Class: %s.Main\n' "$package" >"$out/manifest" &&
      jar --create --file "$out/$package.jar" --manifest "$out/manifest" -C "$out/$package.classes" . || return
    rm -r "$out/$package.classes" "$out/manifest"
  done
}

bot_ghc96() {
  local name
  for name in Bot Query; do ghc -v0 -O0 -outputdir "$out/$name.objects" -o "$out/${name,,}" "ghc96/$name.hs" || return; done
  rm -r "$out"/*.objects
}

declare -A compilers=(
  [python3.11]=python3 [nodejs20]=cp [rust-stable]=cargo [rust-sdk]=cargo [gcc13]=g++ [dotnet8]=mcs [scala3]=scalac [ghc96]=ghc
)
mkdir -p "$cache/bots"
for runtime in "${!compilers[@]}"; do
  target=$cache/bots/$runtime
  made_of=$({ find "$runtime" -type f -not -path '*/target/*' -print0 | sort -z | xargs -0 cat; cat build.sh; } | sha256sum)
  [ "$(cat "$target.made-of" 2>/dev/null)" != "$made_of" ] || continue
  if ! command -v "${compilers[$runtime]}" >/dev/null; then
    echo "setup: no ${compilers[$runtime]} to build the $runtime bot with; its tests are skipped" >&2
    continue
  fi
  echo "setup: building the $runtime bot"
  out=$(mktemp -d "$cache/bots/.new.XXXXXX")
  rm -rf "$target" "$target.made-of"
  if "bot_$runtime"; then
    mv "$out" "$target" && echo "$made_of" >"$target.made-of"
  else
    rm -rf "$out"
    echo "setup: the $runtime bot could not be built; its tests are skipped" >&2
  fi
done
exit 0
