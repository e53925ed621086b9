# The host: packages, the Rust toolchain, dockerd. Debian 12, root.

# Debian's mirror as this machine knows it; no host name is written down here.
debian_mirror() {
    local site
    site=$(apt-get indextargets --format '$(SITE)' 'Identifier: Packages' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1)
    [[ $site ]] || die "apt knows no Debian mirror: run 'apt-get update' and look at /etc/apt/sources.list.d"
    printf '%s' "$site"
}

apt_proxy() {
    local proxy=
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    printf '%s' "$proxy"
}

# need_packages PACKAGE…: installs those that are missing.
need_packages() {
    local missing=() package
    for package; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || die "must be root to install: ${missing[*]}"
    say "installing packages of Debian: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    quietly "$LOGS/apt-update.log" apt-get -o DPkg::Lock::Timeout=300 update
    quietly "$LOGS/apt-install.log" apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}"
}

# version_at_least WANTED HAVE
version_at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }

cargo_version() { cargo --version 2>/dev/null | cut -d' ' -f2 || true; }

# A cargo that is new enough is on PATH afterwards: the one there, rustup's, or Debian's cargo-web.
need_toolchain() {
    need_packages gcc libc6-dev libclang-dev pkg-config
    export PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
    local have
    have=$(cargo_version)
    if [[ $have ]] && version_at_least 1.90 "$have"; then return; fi
    say "cargo is ${have:-missing}, 1.90 is needed: using Debian's cargo-web"
    need_packages cargo-web rustc-web
    # Something older may be ahead on PATH.
    PATH=/usr/bin:$PATH
    have=$(cargo_version)
    version_at_least 1.90 "${have:-0}" || die "no cargo ≥ 1.90 (found ${have:-none})"
}

# rustfmt and clippy of the same toolchain.
need_lint_tools() {
    cargo fmt --version >/dev/null 2>&1 || need_packages rustfmt-web
    cargo clippy --version >/dev/null 2>&1 || need_packages rust-web-clippy
}

need_dockerd() {
    need_packages docker.io iptables
    # Where the kernel has AppArmor switched on, dockerd starts nothing without its parser.
    if [[ $(cat /sys/module/apparmor/parameters/enabled 2>/dev/null) == Y ]]; then need_packages apparmor; fi
    docker info >/dev/null 2>&1 && return
    say "starting dockerd (log: /var/log/dockerd.log)"
    # Not through an init system: this machine may have none.
    setsid dockerd >>/var/log/dockerd.log 2>&1 </dev/null 9>&- &
    local i
    for ((i = 0; i < 150; i++)); do
        docker info >/dev/null 2>&1 && return
        sleep 0.2
    done
    tail -n 20 /var/log/dockerd.log >&2
    die "dockerd does not answer after 30 s"
}
