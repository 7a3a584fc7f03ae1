# Stand-in for /lib/functions.sh: what OpenWrt's own does around a package's scripts, in its order.
# The package's parts run in a subshell with the functions' positional parameters, uci-defaults are run once
# and kept when they fail, and an upgrade neither enables nor disables the service.

_services() {
	grep -s '^/etc/init.d/' "/usr/lib/opkg/info/$pkgname.list"
}

default_postinst() {
	local pkgname="$(basename "${1%.*}")" ret=0 script
	[ -f "/usr/lib/opkg/info/$pkgname.list" ] || { echo "functions.sh: no list of $pkgname" >&2; return 70; }
	for script in $(grep -s '^/etc/uci-defaults/' "/usr/lib/opkg/info/$pkgname.list"); do
		( [ -f "$script" ] && cd "$(dirname "$script")" && . "$script" ) && rm -f "$script"
	done
	uci commit
	if [ -f "/usr/lib/opkg/info/$pkgname.postinst-pkg" ]; then
		( . "/usr/lib/opkg/info/$pkgname.postinst-pkg" )
		ret=$?
	fi
	for script in $(_services); do
		[ "$PKG_UPGRADE" = 1 ] || "$script" enable
		"$script" start
	done
	return $ret
}

default_prerm() {
	local pkgname="$(basename "${1%.*}")" ret=0 script
	if [ -f "/usr/lib/opkg/info/$pkgname.prerm-pkg" ]; then
		( . "/usr/lib/opkg/info/$pkgname.prerm-pkg" )
		ret=$?
	fi
	for script in $(_services); do
		[ "$PKG_UPGRADE" = 1 ] || "$script" disable
		"$script" stop
	done
	return $ret
}
