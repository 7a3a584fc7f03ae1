#!/bin/sh
# What udhcpc calls when a lease comes or goes: sets address and route, and prints the lease for the test.
case "$1" in
bound | renew)
	ip addr replace "$ip/${mask:-24}" dev "$interface"
	[ -n "$router" ] && ip route replace default via "${router%% *}"
	echo "ip=$ip"
	echo "opt114=$opt114"
	;;
deconfig) ip link set "$interface" up ;;
esac
