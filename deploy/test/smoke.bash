# What the smoke tests of this directory share: they source it. Each prints a line a
# check, ends with how many passed and failed, and cleans up whatever happens.
#
# Exit codes: 0 all passed, 1 a check failed, 2 the test itself could not go on, 77 this
# machine cannot run it.
# shellcheck shell=bash

set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
smoke_cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/assetd-smoke
smoke_key=smoke-key-5f1d3a77c2 # what no log may have
passed=0 failed=0

skip() { echo "skipped: $*"; exit 77; }
die() { echo "cannot go on: $*" >&2; exit 2; }

# need COMMAND...: skips where one of them is missing.
need() {
  local c
  [ "$(id -u)" = 0 ] || skip "it takes root"
  for c in "$@"; do
    command -v "$c" >/dev/null || skip "there is no $c"
  done
}

# isolate ARGUMENT...: starts the script again in namespaces of its own (as unshare(1)
# has them), so that mounts go with it. Call it with the script's arguments.
isolate() {
  local kinds=$1
  shift
  [ -z "${SMOKE_ISOLATED:-}" ] || return 0
  # shellcheck disable=SC2086 # several options
  unshare $kinds --propagation private true 2>/dev/null || skip "this kernel, or its container, grants no namespaces"
  # shellcheck disable=SC2086
  SMOKE_ISOLATED=1 exec unshare $kinds --propagation private -- bash "$0" "$@"
}

# check WHAT COMMAND...: one line, and counted.
check() {
  local what=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
    echo "ok   $what"
  else
    failed=$((failed + 1))
    echo "FAIL $what"
  fi
}

not() { ! "$@"; }

# eventually SECONDS COMMAND...: until it holds. The time is a bound, not a measure.
eventually() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}

# summary: the last line. Its status is the test's.
summary() {
  echo "$passed passed, $failed failed, after $SECONDS s"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}

# retried COMMAND...: three times, for what comes over the network.
retried() {
  "$@" || { sleep 5; "$@"; } || { sleep 20; "$@"; }
}

mirror() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1; }

# debian_root: prints a directory with this machine's Debian and a systemd in it, made
# once a set of packages and never written to.
debian_root() {
  local packages=systemd,systemd-sysv,dbus,ca-certificates,man-db dir suite
  # shellcheck disable=SC1091
  suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  dir=$smoke_cache/$suite-$(cksum <<<"$packages" | cut -d ' ' -f 1)
  mkdir -p "$smoke_cache" || return
  (
    flock 9
    [ -d "$dir" ] && exit
    echo "making $dir" >&2
    rm -rf "$dir.part"
    retried make_debian_root "$packages" "$suite" "$dir.part" && : >"$dir.part/etc/machine-id" && mv "$dir.part" "$dir"
  ) 9>"$dir.lock" || return
  echo "$dir"
}

make_debian_root() {
  rm -rf "$3"
  mmdebstrap --quiet --variant=minbase --include="$1" "$2" "$3" "$(mirror)" >&2
}

# overlay LOWER WORK: mounts WORK/root, LOWER with a layer in memory over it.
overlay() {
  mount -t tmpfs -o mode=755 smoke "$2" && mkdir "$2"/{up,work,root} &&
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/up,workdir=$2/work" "$2/root"
}
