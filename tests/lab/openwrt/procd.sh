# Stand-in for procd and its shell functions. Strict: a call out of order, an unknown parameter, a malformed
# value or an unclosed block ends the script with 70. What was declared is written to /tmp/procd/NAME, one
# fact a line; then it does what procd does:
#   - a service declared with an instance that does not run is started, with an almost empty environment, the
#     capabilities of its file alone, and in a root that holds what it declared (`ujail.sh`), as far as that is there;
#   - one that runs and is declared again with a reload_signal gets at most that signal, never a restart;
#   - one that is declared without an instance, or deleted, gets SIGTERM;
#   - one that ends by itself is started again after five seconds, as `respawn` says;
#   - fw4 reloads when what a service gives it has changed, as its init script asks for (`procd_add_reload_data_trigger`).

_in_service= _in_instance= _in_data= _open=0 _jail=
_out=/tmp/procd

_bad() {
	echo "procd.sh: $*" >&2
	echo "$*" >>$_out/complaints
	exit 70
}

_say() { printf '%s\n' "$*" >>"$_out/$_in_service.new"; }

_pid() { cat "$_out/$1.pid" 2>/dev/null; }

_runs() { [ -n "$(_pid "$1")" ] && kill -0 "$(_pid "$1")" 2>/dev/null; }

procd_open_service() {
	[ -z "$_in_service" ] || _bad "a service in a service"
	mkdir -p $_out
	_in_service=$1
	: >"$_out/$1.new"
	rm -f "$_out/$1.command"
	_reload= _respawn=
}

procd_open_instance() {
	[ -n "$_in_service" ] && [ -z "$_in_instance" ] || _bad "an instance outside of a service, or two at once"
	_in_instance=${1:-instance1}
	_say "instance $_in_instance"
}

procd_set_param() {
	[ -n "$_in_instance" ] || _bad "set_param $1 outside of an instance"
	local param=$1
	shift
	case $param in
	command)
		[ -x "$1" ] || _bad "command $1 cannot be run"
		for word in "$@"; do printf '%s\n' "$word"; done >"$_out/$_in_service.command"
		;;
	respawn)
		[ $# = 3 ] && [ -z "$(printf '%s' "$*" | tr -d '0-9 ')" ] || _bad "respawn wants three numbers"
		_respawn=$2
		;;
	limits)
		for word in "$@"; do
			case $word in nofile=* | core=* | as=* | nproc=*) ;; *) _bad "no limit $word" ;; esac
		done
		;;
	reload_signal) _reload=$(kill -l "$1") || _bad "no signal $1" ;;
	capabilities)
		[ -f "$1" ] || _bad "no capabilities file $1"
		_capabilities=$(sed -n 's/.*"bounding": \[\(.*\)\].*/\1/p' "$1" | tr -d ' "' | sed 's/CAP_/+/g' | tr A-Z a-z)
		[ -n "$_capabilities" ] || _bad "no bounding capabilities in $1"
		;;
	term_timeout | nice) [ -z "$(printf '%s' "$1" | tr -d 0-9)" ] || _bad "$param wants a number" ;;
	no_new_privs | stdout | stderr) [ "$1" = 1 ] || [ "$1" = 0 ] || _bad "$param wants 0 or 1" ;;
	file | netdev | env | data | user | group | pidfile | facility | seccomp) ;;
	*) _bad "no parameter $param" ;;
	esac
	_say "$param $*"
}

procd_add_jail() {
	[ -n "$_in_instance" ] || _bad "a jail outside of an instance"
	_jail=$1
	for word in "$@"; do
		[ "$word" = "$1" ] || case $word in
		log | ubus | procfs | sysfs | ronly | requirejail | netns | userns | cgroupsns) ;;
		*) _bad "no jail option $word" ;;
		esac
	done
	_say "jail $*"
}

_mounts() {
	local how=$1
	shift
	[ -n "$_jail" ] || _bad "a mount without a jail"
	# As procd.sh: not quoted.
	for word in $@; do
		case $word in /*) ;; *) _bad "the jail mounts $word, which is no path" ;; esac
		[ -e "$word" ] || _bad "the jail mounts $word, which is not there"
		_say "mount $how $word"
	done
}
procd_add_jail_mount() { _mounts ro "$@"; }
procd_add_jail_mount_rw() { _mounts rw "$@"; }

procd_open_data() {
	[ -z "$_in_data" ] || _bad "data in data"
	_in_data=1
}
procd_close_data() {
	[ -n "$_in_data" ] && [ "$_open" = 0 ] || _bad "data closed with something open"
	_in_data=
}
json_add_array() { [ -n "$_in_data" ] || _bad "json outside of data"; _open=$((_open + 1)); _array=$1; }
json_close_array() { _open=$((_open - 1)); _array=; }
json_add_object() { [ -n "$_array" ] || _bad "an object outside of an array"; _open=$((_open + 1)); _object=; }
json_add_string() { _object="$_object $1=$2"; }
json_close_object() { _open=$((_open - 1)); _say "$_array$_object"; }

procd_close_instance() {
	[ -n "$_in_instance" ] && [ -z "$_in_data" ] || _bad "an instance closed with data open, or none"
	[ -f "$_out/$_in_service.command" ] || _bad "an instance without a command"
	_in_instance= _jail=
}

procd_add_reload_trigger() { for word in "$@"; do _say "trigger config.change $word"; done; }
procd_add_reload_interface_trigger() {
	[ $# = 1 ] || _bad "one interface a trigger"
	_say "trigger interface.* $1"
}

procd_close_service() {
	local service=$_in_service
	[ -z "$_in_instance" ] || _bad "an instance is open"
	! type service_triggers >/dev/null 2>&1 || service_triggers
	if type service_data >/dev/null 2>&1; then
		procd_open_data
		service_data
		procd_close_data
	fi
	_in_service=
	local changed=1
	cmp -s "$_out/$service.new" "$_out/$service" && changed=
	local before="$(_given "$service")"
	mv "$_out/$service.new" "$_out/$service"
	[ "$before" = "$(_given "$service")" ] || _data_changed
	if [ ! -f "$_out/$service.command" ]; then
		_end "$service"
	elif ! _runs "$service"; then
		set --
		while read -r word; do set -- "$@" "$word"; done <"$_out/$service.command"
		rm -f "$_out/$service.pid"
		(_keep "$service" "$@") >>"$_out/$service.log" 2>&1 </dev/null &
		until [ -s "$_out/$service.pid" ]; do sleep 0.01; done
	elif [ -n "$changed" ]; then
		[ -n "$_reload" ] || _bad "a running service was declared anew without a reload_signal: it would restart"
		kill "-$_reload" "$(_pid "$service")"
	fi
}

# Runs it until somebody else takes its PID away.
_keep() {
	local service=$1 pid
	shift
	while :; do
		# As the first process of its jail it is not ended by a signal that it does not handle yet.
		(
			trap '' HUP
			exec env -i PATH="$PATH" unshare -m --propagation unchanged /bin/sh /lib/functions/ujail.sh "$_out/$service" \
				/bin/setpriv --no-new-privs --bounding-set="-all,$_capabilities" \
				--inh-caps="-all,$_capabilities" --ambient-caps="-all,$_capabilities" "$@"
		) &
		pid=$!
		echo $pid >"$_out/$service.pid.new" && mv "$_out/$service.pid.new" "$_out/$service.pid"
		wait $pid
		[ -n "$_respawn" ] && [ "$(_pid "$service")" = $pid ] || return 0
		sleep "$_respawn"
		[ "$(_pid "$service")" = $pid ] || return 0
	done
}

# As procd does, without waiting for it.
_end() {
	local pid=$(_pid "$1")
	rm -f "$_out/$1.pid"
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || :
}

procd_kill() {
	# A script that has it said to the operator says it in the middle of an upgrade.
	[ -e "$_out/$1" ] || {
		echo "Command failed: ubus call service delete { \"name\": \"$1\" } (Not found)" >&2
		echo "$1 was stopped, and is no service" >>$_out/complaints
		return
	}
	local before="$(_given "$1")"
	rm -f "$_out/$1"
	[ -z "$before" ] || _data_changed
	_end "$1"
}

# What a service gives fw4.
_given() { grep '^firewall' "$_out/$1" 2>/dev/null; }

_data_changed() {
	! grep -q procd_add_reload_data_trigger /etc/init.d/firewall 2>/dev/null || /etc/init.d/firewall reload
}

procd_set_config_changed() {
	[ $# = 1 ] || _bad "procd_set_config_changed wants a package"
	[ ! -x "/etc/init.d/$1" ] || "/etc/init.d/$1" reload
}

procd_running() { _runs "$1"; }

procd_send_signal() {
	[ $# = 3 ] && [ "$2" = '*' ] || _bad "procd_send_signal wants a service, '*' and a signal"
	_runs "$1" || return 1
	kill "-$(kill -l "$3")" "$(_pid "$1")" && echo "$3" >>"$_out/$1.signals"
}
