# Sourced: programs that take minutes to build are kept for all checkouts of this user, each by its version.
kept=${XDG_CACHE_HOME:-${HOME:-$PWD}/.cache}/the0-tests

kept_as() { # FILE VERSION
  echo "$kept/$(basename "$1")-$(echo "$(uname -sm) $2" | sha256sum | cut -c1-16)"
}

# FILE is the program of that version from now on, if it was kept.
take() { # FILE VERSION
  local from
  from=$(kept_as "$@")
  [ -x "$from" ] || return 1
  mkdir -p "$(dirname "$1")"
  ln -f "$from" "$1" 2>/dev/null || cp "$from" "$1"
}

# That it could not be kept is no harm.
keep() { # FILE VERSION
  local to
  to=$(kept_as "$@")
  { mkdir -p "$kept" && cp "$1" "$to.$$" && mv "$to.$$" "$to"; } 2>/dev/null || rm -f "$to.$$"
}
