# The stage: what was built for a release of Slurm, ready to be put on any node.

# slurm_headers: sets REPLY to a directory with slurm/spank.h of the running release. It is /usr/include when
# the host's are the same: the tests have built against those, and would be built again for another path.
slurm_headers() {
    local id image
    image=$(docker inspect -f '{{.Config.Image}}' "$(container ctl)")
    REPLY=$CACHE/include/${image##*:}
    if [[ ! -f $REPLY/slurm/spank.h ]]; then
        mkdir -p "$REPLY"
        id=$(docker create "$image")
        docker cp "$id:/usr/include/slurm" "$REPLY/" >/dev/null
        docker rm "$id" >/dev/null
    fi
    if diff -qr "$REPLY/slurm" /usr/include/slurm >/dev/null 2>&1; then REPLY=/usr/include; fi
}

# is_plugin FILE: it exports what Slurm looks for.
is_plugin() { nm -D --defined-only "$1" 2>/dev/null | grep -q ' plugin_name$'; }

# fill_stage RELEASE BUILD-DIRECTORY
fill_stage() {
    local release=$1 built=$2 stage=$STAGE/$1 new=$STAGE/$1.new lib file
    rm -rf "$new"
    mkdir -p "$new"/{plugins,libexec,bin,man,completions,conf}
    for lib in shifter job_submit_shifter; do
        file=$built/lib$lib.so
        if [[ -f $file ]] && is_plugin "$file"; then
            cp "$file" "$new/plugins/$lib.so"
        else
            warn "lib$lib.so is no Slurm plugin (yet): left out"
        fi
    done
    for file in shifter-check shifter; do [[ -x $built/$file ]] && cp "$built/$file" "$new/libexec/"; done
    [[ -x $built/shifterimg ]] && cp "$built/shifterimg" "$new/bin/"
    for file in "$REPO"/imgtool/man/*.1; do [[ -f $file ]] && cp "$file" "$new/man/"; done
    for file in "$REPO"/imgtool/completions/*.bash "$REPO"/imgtool/man/*.bash; do [[ -f $file ]] && cp "$file" "$new/completions/"; done
    cp "$TESTBED/conf/shifter.toml" "$new/conf/"
    rm -rf "$stage"
    mv "$new" "$stage"
}

# install_stage NODE RELEASE: each file by rename, since a mapped plugin must not change under its process.
install_stage() {
    tar -C "$STAGE/$2" -c . | docker exec -i "$(container "$1")" install-stage
    # A command on the host; in images the plugin shows it.
    docker exec "$(container "$1")" ln -sf ../libexec/shifter/shifter /usr/bin/shifter
}
