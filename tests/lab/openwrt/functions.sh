# Stand-in for /lib/functions.sh: what OpenWrt's own does around a package's scripts, in its order.
# The package's parts run in a subshell with the functions' positional parameters, uci-defaults are run once
# and kept when they fail, and an upgrade neither enables nor disables the service.

# The package's files, as opkg or apk keeps their list.
_files() {
	local list="/usr/lib/opkg/info/$pkgname.list"
	[ ! -f "/lib/apk/packages/$pkgname.list" ] || list="/lib/apk/packages/$pkgname.list"
	[ -f "$list" ] || { echo "functions.sh: no list of $pkgname" >&2; return 70; }
	grep "^$1" "$list"
}

default_postinst() {
	[ -n "$pkgname" ] || local pkgname="$(basename "${1%.*}")"
	local ret=0 script
	_files / >/dev/null || return 70
	for script in $(_files /etc/uci-defaults/); do
		( [ -f "$script" ] && cd "$(dirname "$script")" && . "$script" ) && rm -f "$script"
	done
	uci commit
	if [ -f "/usr/lib/opkg/info/$pkgname.postinst-pkg" ]; then
		( . "/usr/lib/opkg/info/$pkgname.postinst-pkg" )
		ret=$?
	fi
	for script in $(_files /etc/init.d/); do
		[ "$PKG_UPGRADE" = 1 ] || "$script" enable
		"$script" start
	done
	return $ret
}

default_prerm() {
	[ -n "$pkgname" ] || local pkgname="$(basename "${1%.*}")"
	local ret=0 script
	if [ -f "/usr/lib/opkg/info/$pkgname.prerm-pkg" ]; then
		( . "/usr/lib/opkg/info/$pkgname.prerm-pkg" )
		ret=$?
	fi
	for script in $(_files /etc/init.d/); do
		[ "$PKG_UPGRADE" = 1 ] || "$script" disable
		"$script" stop
	done
	return $ret
}
