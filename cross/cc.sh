#!/bin/sh
# The C compiler of a cross build, for the crates that bring C (SQLite, ring): Debian's GCC with musl's headers. It makes
# SQLite a fifth smaller than clang does. build.sh sets GCC, GCC_HEADERS (flags) and, for MIPS, SQLITE_FLAGS.
set -eu

for argument; do
	shift
	case $argument in
	--target=*) continue ;; # said to clang only
	*sqlite3.c) set -- "$@" ${SQLITE_FLAGS:-} ;;
	esac
	set -- "$@" "$argument"
done
# shellcheck disable=SC2086 # words
exec "$GCC" $GCC_HEADERS "$@"
