# Stand-in for ujail: runs a program in a root of its own. There are the libraries, the program, /proc, a few devices,
# the log's socket, and what the service declared: read-only or writable, and only as it is when the jail is made.
# Usage: ujail.sh DECLARED SETPRIV [OPTION...] PROGRAM [ARGUMENT...]
set -e
declared=$1
shift
jail=/tmp/jail
mkdir -p $jail
mount -t tmpfs -o mode=755 tmpfs $jail

show() {
	[ -e "$2" ] || return 0
	if [ -d "$2" ]; then
		mkdir -p "$jail$2"
	else
		mkdir -p "$jail$(dirname "$2")"
		[ -e "$jail$2" ] || : >"$jail$2"
	fi
	mount --bind "$2" "$jail$2"
	[ "$1" != ro ] || mount -o remount,bind,ro,nosuid "$jail$2"
}

for folder in /lib /lib64 /usr/lib; do show ro $folder; done
for device in null zero full random urandom log; do show rw /dev/$device; done
show ro /bin/setpriv
show rw /proc
{
	sed -n 's/^mount //p' "$declared"
	echo "ro $(sed -n 's/^command \([^ ]*\).*/\1/p' "$declared")"
} | sort -k 2 -u | while read -r how path; do show "$how" "$path"; done
mount -o remount,ro $jail
exec env -i container=ujail chroot $jail "$@"
