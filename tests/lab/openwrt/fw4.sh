#!/bin/sh
# Stand-in for firewall4: what it makes of zones, rules and forwardings, from the real `uci` and what services gave procd.
# As the real one (fw4.uc, ruleset.uc, rule.uc) it
#   - takes in the files of chain-pre/forward first, unless `auto_includes` is 0, then what is established;
#   - gives each zone a chain, entered by its devices, in which the rules of services stand before the file's own and
#     the forwardings behind both;
#   - lets a rule towards a zone end in a jump to accept_to_ZONE or reject_to_ZONE, which look at the zone's devices;
#   - names each rule in its comment, and masquerades what leaves by a zone with `masq`.
#   - complains of options that it does not know (which fails the test), and leaves out sections whose `enabled` is none
#     of its words for yes.
# Of the rules' options it carries out only those that our tests use, and fails at others.
set -e
work=/tmp/fw4
rm -rf $work
mkdir -p $work /tmp/procd

# Options by kind of section, as fw4.uc has them.
cat >$work/known <<-EOF
	zone enabled name family network device subnet input output forward masq masq_allow_invalid masq_src masq_dest masq6 extra extra_src extra_dest mtu_fix custom_chains log log_limit auto_helper helper counter
	forwarding enabled name family src dest
	rule enabled name _name family src dest device direction ipset helper set_helper proto src_ip src_mac src_port dest_ip dest_port icmp_type extra limit limit_burst utc_time start_date stop_date start_time stop_time weekdays monthdays mark set_mark set_xmark dscp set_dscp counter log log_limit target
	redirect enabled name _name family src dest ipset helper proto src_ip src_mac src_port src_dip src_dport dest_ip dest_port extra limit limit_burst utc_time start_date stop_date start_time stop_time weekdays monthdays mark reflection reflection_src reflection_zone counter log log_limit target
	EOF
uci -q show firewall | awk -v known=$work/known '
	BEGIN { while ((getline line <known) > 0) { split(line, words, " "); options[words[1]] = line " " } }
	/^firewall\.[^.=]*=/ { split($0, part, "="); kind[substr(part[1], 10)] = part[2]; next }
	{
		rest = substr($0, 10); dot = index(rest, "."); section = substr(rest, 1, dot - 1)
		option = substr(rest, dot + 1); sub(/=.*/, "", option)
		of = kind[section]
		if (of in options && !index(options[of], " " option " "))
			print "[!] Section " section " specifies unknown option " option
	}' >$work/unknown
[ ! -s $work/unknown ] || tee -a /tmp/procd/complaints <$work/unknown >&2
is_on() { case $1 in '' | 1 | on | true | yes) ;; *) return 1 ;; esac }
[ "$1" != flush ] || { nft delete table inet fw4 2>/dev/null || :; exit 0; }

get() { uci -q get "firewall.$1" || :; }

devices() {
	local network device
	for network in $(get "@zone[$1].network"); do
		device=$(uci -q get "network.$network.device") && echo "\"$device\"" || :
	done
	for device in $(get "@zone[$1].device"); do
		echo "\"$device\"" | sed 's/+"/*"/'
	done
}

list() { echo "$*" | tr -s ' ' ',' | sed 's/,/, /g'; }

# add_rule NAME, of the options in the variables of their names
add_rule() {
	local chain match= verdict
	is_on "$enabled" || return 0
	case "$src.$dest" in
	'*.'?*) chain=forward ;;
	?*.?*) chain=forward_$src ;;
	'*.') chain=input ;;
	?*.) chain=input_$src ;;
	*) chain=output ;;
	esac
	verdict=$(echo "$target" | tr A-Z a-z)
	case $verdict in accept | reject | drop) ;; *) echo "fw4.sh: target $target" >&2; return 1 ;; esac
	case $dest in
	'' | '*') [ "$verdict" != reject ] || verdict="jump handle_reject" ;;
	*) verdict="jump ${verdict}_to_$dest" ;;
	esac
	[ -z "$src_mac" ] || match="$match ether saddr { $(list $src_mac) }"
	[ -z "$mark" ] || match="$match meta mark and ${mark#*/} == ${mark%/*}"
	local four= six= address
	for address in $dest_ip; do
		case $address in *:*) six="$six $address" ;; *) four="$four $address" ;; esac
	done
	{
		[ -z "$four" ] || echo "ip daddr { $(list $four) }"
		[ -z "$six" ] || echo "ip6 daddr { $(list $six) }"
		[ -n "$four$six" ] || echo
	} >$work/to
	local to one
	while read -r to; do
		for one in ${proto:-tcp udp}; do
			case $one in
			all) one= ;;
			tcp | udp) one="meta l4proto $one ${dest_port:+$one dport { $(list $dest_port) }}" ;;
			icmp) one="meta l4proto { 1, 58 }" ;;
			*) echo "fw4.sh: proto $one" >&2; return 1 ;;
			esac
			echo "		$one $to$match counter $verdict comment \"!fw4: $1\"" >>$work/$chain
		done
	done <$work/to
}

# take NAME='VALUE' ...: an option of the rule
clear() { enabled= src= dest= proto= src_mac= dest_ip= dest_port= mark= target=; }
take() {
	case $1 in
	enabled | src | dest | proto | src_mac | dest_ip | dest_port | mark | target) eval "$1=\$2" ;;
	name | type | family) ;;
	*) echo "fw4.sh: option $1" >&2; return 1 ;;
	esac
}

# Rules of services: `firewall type=rule src=ZONE dest_ip=ADDRESS ADDRESS ...`
for service in /tmp/procd/*; do
	case $service in *.command | *.pid | *.log | *.signals | *.new | */complaints | '/tmp/procd/*') continue ;; esac
	number=0
	sed -n 's/^firewall //p' "$service" >$work/given
	while read -r line; do
		clear
		option= value=
		for word in $line -=; do
			case $word in
			*=*)
				[ -z "$option" ] || take "$option" "$value"
				option=${word%%=*} value=${word#*=}
				;;
			*) value="$value $word" ;;
			esac
		done
		add_rule "ubus:${service##*/} rule $number"
		number=$((number + 1))
	done <$work/given
done

number=0
while uci -q get "firewall.@rule[$number]" >/dev/null; do
	clear
	uci show "firewall.@rule[$number]" | sed -n "s/^[^.]*\.[^.=]*\.\([a-z_]*\)=/\1 /p" | tr -d "'" >$work/options
	while read -r option value; do take "$option" "$value"; done <$work/options
	add_rule "$(get "@rule[$number].name")"
	number=$((number + 1))
done

number=0
while uci -q get "firewall.@forwarding[$number]" >/dev/null; do
	if is_on "$(get "@forwarding[$number].enabled")"; then
		src=$(get "@forwarding[$number].src") dest=$(get "@forwarding[$number].dest")
		echo "		jump accept_to_$dest comment \"!fw4: Accept $src to $dest forwarding\"" >>$work/forward_$src
	fi
	number=$((number + 1))
done

part() { [ ! -f "$work/$1" ] || cat "$work/$1"; }

zones() {
	local number=0 zone devices
	while uci -q get "firewall.@zone[$number]" >/dev/null; do
		zone=$(get "@zone[$number].name")
		devices=$(list $(devices $number))
		! is_on "$(get "@zone[$number].enabled")" || "$1" "$zone" "$number" "${devices:-\"none\"}"
		number=$((number + 1))
	done
}

enter() { echo "		iifname { $3 } jump ${hook}_$1"; }
chains() {
	local policy verdict
	for verdict in accept drop reject; do
		echo "	chain ${verdict}_to_$1 {"
		echo "		oifname { $3 } counter $([ $verdict = reject ] && echo jump handle_reject || echo $verdict)"
		echo "	}"
	done
	policy=$(get "@zone[$2].input" | tr A-Z a-z)
	echo "	chain input_$1 {"
	part "input_$1"
	[ "$policy" = accept ] && echo "		accept" || echo "		jump handle_reject"
	echo "	}"
	policy=$(get "@zone[$2].forward" | tr A-Z a-z)
	echo "	chain forward_$1 {"
	part "forward_$1"
	echo "		jump ${policy:-reject}_to_$1"
	echo "	}"
}
masquerade() {
	[ "$(get "@zone[$2].masq")" != 1 ] || echo "		meta nfproto ipv4 oifname { $3 } masquerade"
	[ "$(get "@zone[$2].masq6")" != 1 ] || echo "		meta nfproto ipv6 oifname { $3 } masquerade"
}

{
	echo "table inet fw4"
	echo "delete table inet fw4"
	echo "table inet fw4 {"
	echo "	chain handle_reject {"
	echo "		meta l4proto tcp reject with tcp reset"
	echo "		reject with icmpx type port-unreachable"
	echo "	}"
	zones chains
	for hook in input forward; do
		echo "	chain $hook {"
		echo "		type filter hook $hook priority filter; policy drop;"
		[ $hook != input ] || echo '		iif "lo" accept'
		[ $hook = input ] || [ "$(get "@defaults[0].auto_includes")" = 0 ] ||
			cat /usr/share/nftables.d/chain-pre/forward/*.nft 2>/dev/null || :
		echo "		ct state vmap { established : accept, related : accept }"
		part $hook
		zones enter
		echo "		jump handle_reject"
		echo "	}"
	done
	echo "	chain srcnat {"
	echo "		type nat hook postrouting priority srcnat; policy accept;"
	zones masquerade
	echo "	}"
	echo "}"
} >$work/ruleset
nft -f - <$work/ruleset
