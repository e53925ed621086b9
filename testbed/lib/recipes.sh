# The test images. Each recipe_NAME makes the OCI layout $CACHE/oci/NAME.new from images.d/NAME; TAG_NAME is its tag.

TAG_ubuntu=14.04 TAG_debian=12 TAG_tiny=1 TAG_odd=1 TAG_sci=1 TAG_mpich=3.4 TAG_trap=1 TAG_secret=1

# make_image NAME: built when its recipe has changed, pushed when the registry lacks it or has another.
make_image() {
    local name=$1 tag hash layout=$CACHE/oci/$1 where=$REGISTRY auth=() push_args=()
    local -n tag_of=TAG_$name
    tag=$tag_of
    hash=$( (cat "$TESTBED/images.d/$name"/* 2>/dev/null; declare -f "recipe_$name") | sha256sum | cut -c1-16)
    case $name in
        # Docker's own manifest format is as common as OCI's: two images have it.
        ubuntu | debian) push_args=(--format v2s2) ;;
        secret) where=$REGISTRY_BASIC auth=(--creds alice:wonderland) push_args=(--dest-creds alice:wonderland) ;;
    esac
    if [[ $(cat "$layout.recipe" 2>/dev/null) != "$hash" ]]; then
        say "building $name:$tag"
        rm -rf "$layout.new" "$layout.recipe" "$layout"
        mkdir -p "$CACHE/oci"
        "recipe_$name" "$layout.new" "$tag"
        mv "$layout.new" "$layout"
        rm -f "$layout.pushed"
        echo "$hash" >"$layout.recipe"
    fi
    if [[ $(in_registry "$where" "$name:$tag" "${auth[@]}") != "$(cat "$layout.pushed" 2>/dev/null || echo never)" ]]; then
        push "$name" "$tag" "$where" "${push_args[@]}"
        in_registry "$where" "$name:$tag" "${auth[@]}" >"$layout.pushed"
    fi
    note "$name:$tag is in the registry"
}

# built_by_docker NAME BASE-SUITE|scratch LAYOUT TAG
built_by_docker() {
    local name=$1 suite=$2 layout=$3 tag=$4 base=scratch
    if [[ $suite != scratch ]]; then base_image "$suite"; base=$REPLY; fi
    DOCKER_BUILDKIT=0 quietly "$LOGS/image-$name.log" docker build -t "shifter-testbed/image-$name" \
        --build-arg BASE="$base" --build-arg SUITE="$suite" --build-arg MIRROR="$(debian_mirror)" \
        --build-arg http_proxy="$(apt_proxy)" "$TESTBED/images.d/$name"
    from_docker "shifter-testbed/image-$name" "$layout" "$tag"
}

from_docker() { quietly "$LOGS/save-${3}.log" skopeo copy "docker-daemon:$1:latest" "oci:$2:$3"; }

# The real one where it can be had, else something equally old in spirit, marked as what it is.
recipe_ubuntu() {
    rm -f "$CACHE/stand-ins"
    if hub_reachable && quietly "$LOGS/pull-ubuntu.log" docker pull -q ubuntu:14.04; then
        docker tag ubuntu:14.04 shifter-testbed/image-ubuntu:latest
        from_docker shifter-testbed/image-ubuntu "$1" "$2"
        return
    fi
    built_by_docker ubuntu bullseye "$1" "$2"
    echo 'ubuntu:14.04 is Debian bullseye here, since the Docker Hub cannot be reached' >"$CACHE/stand-ins"
}

recipe_debian() { built_by_docker debian bookworm "$1" "$2"; }
recipe_sci() { note "python, numpy, scipy, two MPIs: some minutes the first time"; built_by_docker sci bookworm "$1" "$2"; }
recipe_mpich() { built_by_docker mpich bullseye "$1" "$2"; }

recipe_tiny() { need_packages busybox-static; from_tree tiny "$1" "$2"; }
recipe_trap() { need_packages busybox-static gcc libc6-dev; from_tree trap "$1" "$2"; }
recipe_secret() { need_packages busybox-static; from_tree secret "$1" "$2"; }

# from_tree NAME LAYOUT TAG: what images.d/NAME/tree makes, as it is.
from_tree() {
    local name=$1 context=$CACHE/tmp/$1
    rm -rf "$context" && mkdir -p "$context"
    "$TESTBED/images.d/$name/tree" "$context/root"
    # COPY would take the set-user-ID bits away.
    tar --create --sort=name --owner=0 --group=0 -C "$context/root" -f "$context/root.tar" .
    rm -r "$context/root"
    cp "$TESTBED/images.d/tiny/Dockerfile" "$context/"
    DOCKER_BUILDKIT=0 quietly "$LOGS/image-$name.log" docker build -t "shifter-testbed/image-$name" "$context"
    from_docker "shifter-testbed/image-$name" "$2" "$3"
    rm -rf "$context"
}

# A second layout, odd-gzip, is the same without zstd, for tools that cannot read it.
recipe_odd() {
    need_packages busybox-static zstd python3
    rm -rf "$CACHE/oci/odd-gzip"
    quietly "$LOGS/image-odd.log" python3 "$TESTBED/images.d/odd/odd.py" "$1" "$CACHE/oci/odd-gzip" "$2"
}
