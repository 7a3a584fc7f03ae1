#!/bin/sh
# Stand-in for /sbin/reload_config: tells procd which packages differ from what it saw last. Of one that it sees for the
# first time it only takes note, as on a router, where it looks once at the end of boot.
echo reload_config >>/tmp/reloads
seen=/tmp/run/config.md5 now=/tmp/config.now
rm -rf $now
mkdir -p $now
cd /etc/config
for package in *; do
	uci -q show "$package" >"$now/$package"
done
cd $now
[ ! -f $seen ] || md5sum -c $seen 2>/dev/null | sed -n 's/: FAILED$//p' | while read -r package; do
	ubus call service event "{'type':'config.change','data':{'package':'$package'}}"
done
md5sum -- * >$seen
