"""The base firewall of the lab's router: what fw4 does on a real one, in one page of nft.

Input is open for what a guest may ask the router; forwarding is closed but for established flows and for guests'
packets with our mark that leave by `wan`, as the rule that the service gives fw4 has it; what leaves there is
masqueraded, IPv4 and IPv6. There is no guest-to-wan forwarding, so an unmarked packet of a guest has nothing that lets
it out.
"""

MARK = 0x08000000

BASE = f"""
table inet fw4
delete table inet fw4
table inet fw4 {{
	chain input {{
		type filter hook input priority filter; policy drop;
		iifname "lo" accept
		ct state established,related accept
		ip protocol icmp accept
		ip6 nexthdr 58 accept
		iifname "br-guest" udp dport {{ 53, 67, 123, 547 }} accept
		iifname "br-guest" tcp dport {{ 53, 443, 2121-2123, 2125 }} accept
	}}
	chain forward {{
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname "br-guest" jump forward_visitors
	}}
	chain forward_visitors {{
		meta mark & {MARK:#010x} == {MARK:#010x} counter jump accept_to_wan
	}}
	chain accept_to_wan {{
		oifname "wan" counter accept
	}}
	chain srcnat {{
		type nat hook postrouting priority srcnat; policy accept;
		oifname "wan" masquerade
	}}
}}
"""

NAT_ONLY = """
table inet fw4
delete table inet fw4
table inet fw4 {
	chain srcnat {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "wan" masquerade
	}
}
"""

FLUSH = "flush ruleset\n"

# In the internet's namespace: counts every packet that a guest got out, under its own address or the router's, and
# apart from them those of a `Hammer`, whatever else a paid guest does meanwhile.
COUNT_LEAKS = """
table inet leaks
delete table inet leaks
table inet leaks {
	counter packets_from_guests { }
	counter packets_of_hammers { }
	chain watch {
		type filter hook prerouting priority raw; policy accept;
		iifname "eth0" ip daddr 198.51.100.80 counter name packets_from_guests
		iifname "eth0" ip6 daddr 2001:db8:80::80 counter name packets_from_guests
		iifname "eth0" ip saddr 192.168.77.0/24 counter name packets_from_guests
		iifname "eth0" ip6 saddr fd77::/64 counter name packets_from_guests
		iifname "eth0" ip dscp cs7 counter name packets_of_hammers
		iifname "eth0" ip6 dscp cs7 counter name packets_of_hammers
	}
}
"""
