# Base images: a Debian release as a docker image, pulled where a registry answers, else bootstrapped.

# hub_reachable: asked once; a machine without the Docker Hub must not wait for it again and again.
hub_reachable() {
    if [[ ! ${HUB:-} ]]; then
        HUB=no
        timeout 20 docker pull -q debian:bookworm-slim >/dev/null 2>&1 && HUB=yes
        [[ $HUB == yes ]] || note "images cannot be pulled from the Docker Hub here: Debian's packages make the bases"
    fi
    [[ $HUB == yes ]]
}

# bootstrap SUITE TARBALL [PACKAGE,…]: a minimal Debian as a tar archive.
bootstrap() {
    local suite=$1 tarball=$2 packages=${3:-}
    need_packages mmdebstrap debian-archive-keyring
    # A mirror may stand still for longer than testing's files say they are valid.
    quietly "$LOGS/bootstrap-$suite.log" mmdebstrap --variant=minbase --mode=root \
        ${packages:+--include="$packages"} --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Check-Valid-Until "false"' \
        "$suite" "$tarball.part.tar" "$(debian_mirror)"
    mv "$tarball.part.tar" "$tarball"
}

# base_image SUITE: sets REPLY to the docker image.
base_image() {
    local suite=$1
    REPLY=shifter-testbed/base:$suite
    docker image inspect "$REPLY" >/dev/null 2>&1 && return
    if hub_reachable && timeout 300 docker pull -q "debian:$suite-slim" >/dev/null 2>&1; then
        docker tag "debian:$suite-slim" "$REPLY"
        return
    fi
    say "making a minimal Debian $suite (15 s)"
    local tarball=$CACHE/base/$suite.tar
    mkdir -p "$CACHE/base"
    [[ -f $tarball ]] || bootstrap "$suite" "$tarball"
    docker import "$tarball" "$REPLY" >/dev/null
}

# build_image NAME DIRECTORY SUITE [BUILD-ARG…]: sets REPLY; rebuilt when a file of DIRECTORY changes.
build_image() {
    local name=$1 dir=$2 suite=$3 hash arg args=()
    shift 3
    for arg; do args+=(--build-arg "$arg"); done
    hash=$( (cd "$dir" && find . -type f | LC_ALL=C sort | xargs sha256sum && find . -printf '%p %m\n' | LC_ALL=C sort; echo "$suite" "$@") | sha256sum | cut -c1-12)
    local tag=shifter-testbed/$name:$suite-$hash
    if ! docker image inspect "$tag" >/dev/null 2>&1; then
        base_image "$suite"
        say "building the image of $name on Debian $suite (log: $LOGS/build-$name-$suite.log; the first time takes a minute or two)"
        local proxy
        proxy=$(apt_proxy)
        DOCKER_BUILDKIT=0 quietly "$LOGS/build-$name-$suite.log" docker build -t "$tag" \
            --build-arg BASE="$REPLY" --build-arg SUITE="$suite" --build-arg MIRROR="$(debian_mirror)" \
            ${proxy:+--build-arg http_proxy="$proxy"} "${args[@]}" "$dir"
    fi
    REPLY=$tag
}
