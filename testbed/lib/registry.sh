# The registry: Debian's docker-registry in a container of its own; its content is cache.

REGISTRY=$SUBNET.5:5000
# Asks for a name and password: alice, wonderland. Port 5002 has the same images for who has a token.
REGISTRY_BASIC=$SUBNET.5:5001

start_registry() {
    local name
    name=$(container registry)
    build_image registry "$TESTBED/registry" bookworm
    if running "$name"; then
        [[ $(docker inspect -f '{{.Config.Image}}' "$name") == "$REPLY" ]] && return
        docker rm -f "$name" >/dev/null
    fi
    mkdir -p "$REGISTRY_STORE"
    start_container registry "$REPLY" --label "$LABEL=registry" -v "$REGISTRY_STORE:/var/lib/registry"
    local i
    for ((i = 0; i < 50; i++)); do
        (exec 3<>"/dev/tcp/${REGISTRY/:/\/}") 2>/dev/null && return
        sleep 0.1
    done
    die "the registry does not answer: docker logs $(container registry)"
}

# in_registry REGISTRY NAME:TAG [SKOPEO-ARG…]: the checksum of what the registry has by that name, if anything.
in_registry() {
    local where=$1 name=$2 raw
    shift 2
    raw=$(skopeo inspect --raw --tls-verify=false "$@" "docker://$where/$name" 2>/dev/null) || return 0
    sha256sum <<<"$raw"
}

# push LAYOUT-NAME TAG REGISTRY [SKOPEO-ARG…]: from the OCI layout in the cache, digests as they are.
push() {
    local name=$1 tag=$2 where=$3
    shift 3
    quietly "$LOGS/push-$name.log" skopeo copy --all --dest-tls-verify=false "$@" \
        "oci:$CACHE/oci/$name:$tag" "docker://$where/$name:$tag"
}
