#!/bin/sh
# The feed's own test of a built package: test.sh NAME VERSION, where it is installed.

[ "$1" = tollgated ] || exit 0

# A prerelease is 1.0.0-rc.1 to the program and 1.0.0_rc1 to apk.
version=$(printf '%s\n' "$2" | sed 's/_\([a-z]*\)/-\1./')
tollgated --version | grep -F "tollgated $version" || exit 1

# As it is installed it sells nothing, and its configuration is in order.
tollgated check | grep -F "can be used: 0 venues, 0 mints, not enabled" || exit 1
