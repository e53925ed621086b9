# What a rank finds in its environment: line by line of the table in docs/users.md, and what else must come through.
load lib

teardown() { restore_config; }

# value_of NAME [VARIABLE=VALUE…] -- [OPTION…]: what NAME is for a rank of alice's.
value_of() {
    local name=$1 given=()
    shift
    while [[ ${1:---} != -- ]]; do given+=("$1"); shift; done
    shift
    as alice env "${given[@]}" srun -Q --image=debian:12 "$@" printenv "$name" </dev/null
}
# The image's own variables, as `shifterimg inspect` tells them: debian:12 has IMAGE_SAYS=hello, odd:1 EMPTY= and WITH_EQUALS=a=b.

@test "1: the job's variables get in, but PATH and LD_* do not" {
    [[ $(value_of MINE MINE=job --) == job ]]
    run value_of LD_LIBRARY_PATH LD_LIBRARY_PATH=/nowhere --
    assert_failure
    [[ $(value_of PATH PATH=/usr/bin:/bin:/mine --) != *mine* ]]
}

@test "1: the site decides what is stripped, also of what Slurm sets for each rank" {
    configure '$ a [environment]\nstrip = ["HOST_*", "SLURM_LOCALID", "PMI_FD"]' ctl c1 c2
    run alice 'HOST_A=1 HOSTED=2 LD_X=3 srun -n2 --mpi=pmi2 --image=debian:12 sh -c "env | grep -E \"^(HOST|LD_X|SLURM_LOCALID|PMI_FD|PMI_RANK)\" | sort"'
    assert_output $'HOSTED=2\nLD_X=3\nPMI_RANK=0\nHOSTED=2\nLD_X=3\nPMI_RANK=1' || assert_output $'HOSTED=2\nLD_X=3\nPMI_RANK=1\nHOSTED=2\nLD_X=3\nPMI_RANK=0'
}

@test "2: the image's variables win over the job's, but do not say who I am, what the job is, or which GPUs it has" {
    made_image posing
    run alice 'cd /shared; IMAGE_SAYS=job CUDA_VISIBLE_DEVICES=3 srun --mpi=pmi2 --image=user:alice/posing:1 env'
    alice 'shifterimg rm user:alice/posing:1'
    # It says "image" of each name in the table.
    assert_equal "$(grep '=image$' <<<"$output")" IMAGE_SAYS=image
    for line in HOME=/home/alice USER=alice LOGNAME=alice SHELL=/bin/bash PWD=/shared SLURM_PROCID=0 PMI_RANK=0 CUDA_VISIBLE_DEVICES=3 SHIFTER_RUNTIME=1; do
        assert_line "$line"
    done
}

@test "2: an image without a PATH, and one with empty values and equals signs in them" {
    run alice 'EMPTY=job WITH_EQUALS=job srun --image=odd:1 sh -c "echo [\$EMPTY] [\$WITH_EQUALS] [\${EMPTY-unset}] \$PATH"'
    assert_output '[] [a=b] [] /bin'
}

@test "3: SHIFTERENV_NAME sets NAME, whatever it is" {
    [[ $(value_of IMAGE_SAYS SHIFTERENV_IMAGE_SAYS=mine --) == mine ]]
    [[ $(value_of PATH SHIFTERENV_PATH=/mine:/usr/bin:/bin --) == /mine:/usr/bin:/bin ]]
    [[ $(value_of LD_LIBRARY_PATH SHIFTERENV_LD_LIBRARY_PATH=/mine --) == /mine ]]
    [[ -z $(value_of IMAGE_SAYS SHIFTERENV_IMAGE_SAYS= --) ]]
}

@test "4: a module wins over mine, and prepends to the image's" {
    [[ $(value_of GREETING SHIFTERENV_GREETING=mine -- --module=greeting) == 'hello from the site' ]]
    [[ $(value_of PATH -- --module=greeting) == /opt/site/bin:/usr/local/sbin:* ]]
}

@test "4 and 5: set, prepend, append and unset, of two modules in order and of the site" {
    configure '$ a [environment]\nprepend = { V = "site<" }\nappend = { V = ">site" }\nunset = ["BY_A"]\n[modules.a.env]\nset = { BY_A = "a", BOTH = "a" }\nprepend = { V = "a<", NEW = "new" }\nunset = ["GONE"]\n[modules.b.env]\nset = { BOTH = "b" }\nappend = { V = ">b" }' ctl c1 c2
    run alice 'for given in "V=job GONE=1" "V=" "GONE=2"; do
            env $given srun --image=debian:12 --module=a,b sh -c "echo \$V \$BOTH \$NEW [\$BY_A\$GONE]"
        done'
    assert_output 'site<:a<:job:>b:>site b new []
site<:a<:>b:>site b new []
site<:a<:>b:>site b new []'
}

# odd:1 has ODD=yes and EMPTY=.
@test "4 and 5: prepending and appending to what the image has, an empty value too, to mine, to what is set, and to nothing" {
    for table in modules.m.env environment; do
        configure '$ a ['$table']\nset = { SET = "set" }\nprepend = { ODD = "before", EMPTY = "before", SET = "before" }\nappend = { ODD = "after", NEW = "after" }' ctl c1 c2
        [[ $table == modules.* ]] && module=m || module=none
        run alice 'for mine in ODD IGNORED; do
                env SET=job SHIFTERENV_$mine=mine srun --image=odd:1 --module=$1 sh -c "echo \$ODD \$EMPTY \$SET \$NEW"
            done' $module
        assert_output 'before:mine:after before before:set after
before:yes:after before before:set after'
        restore_config
    done
}

@test "5: the site has the last word" {
    configure '$ a [environment]\nset = { GREETING = "the last word" }\nunset = ["MINE"]' ctl c1 c2
    [[ $(value_of GREETING -- --module=greeting) == 'the last word' ]]
    run value_of MINE MINE=job --
    assert_failure
}

@test "6: a rank can tell which image it is in, whatever anybody else says" {
    configure '$ a [environment]\nset = { SHIFTER_RUNTIME = "0", SHIFTER_IMAGE = "site" }\nunset = ["SHIFTER_IMAGEREQUEST"]\nappend = { SHIFTER_MODULES = "site" }\n[modules.lies.env]\nset = { SHIFTER_IMAGE = "module", SHIFTER_MODULES = "module" }' ctl c1 c2
    run alice 'export SHIFTER_RUNTIME=0 SHIFTERENV_SHIFTER_RUNTIME=0 SHIFTERENV_SHIFTER_IMAGE=lie SHIFTERENV_SHIFTER_IMAGEREQUEST=lie SHIFTER_MODULES=lie SHIFTERENV_SHIFTER_MODULES=lie
        for module in none lies; do
            srun --image=debian:12 --module=$module sh -c "echo \$SHIFTER_RUNTIME \$SHIFTER_IMAGE \$SHIFTER_IMAGEREQUEST \${SHIFTER_MODULES-unset}" | sed "s/@[0-9a-f]*\$/@…/"
        done'
    told="1 $(alice 'shifterimg lookup debian:12') docker:docker.io/library/debian:12"
    assert_output "$told unset
$told lies@…"
}

@test "7: what a TaskProlog exports and unsets comes last, and each rank has its own" {
    alice 'printf "#!/bin/sh\necho export IMAGE_SAYS=prolog-\$SLURM_PROCID\necho unset MINE\necho export LD_LIBRARY_PATH=/site\n" >prolog.$$.sh
        mv prolog.$$.sh prolog.sh; chmod +x prolog.sh'
    run alice 'MINE=1 SHIFTERENV_IMAGE_SAYS=mine srun -n2 --image=debian:12 --task-prolog=$PWD/prolog.sh sh -c "echo \$IMAGE_SAYS [\$MINE] \$LD_LIBRARY_PATH" | sort; rm prolog.sh'
    assert_output $'prolog-0 [] /site\nprolog-1 [] /site'
}

@test "values with line ends, equals signs, quotes and other letters, empty and very long ones, come through as they are" {
    run alice 'export LINES2=$'"'"'a\nb=c\n'"'"' QUOTED="\"x\" '"'"'y'"'"' \$z" LATIN=$'"'"'\xe9t\xe9'"'"' EMPTY= LONG=$(printf %0100000d 7)
        outside=$(printf "%s|" "$LINES2" "$QUOTED" "$LATIN" "[${EMPTY-unset}]" "$LONG" | sha256sum)
        inside=$(srun --image=debian:12 bash -c "printf \"%s|\" \"\$LINES2\" \"\$QUOTED\" \"\$LATIN\" \"[\${EMPTY-unset}]\" \"\$LONG\"" | sha256sum)
        [[ $outside == "$inside" ]] && echo the same'
    assert_output 'the same'
}

@test "a value that is no text is stripped and set like any other" {
    run alice 'export LD_PRELOAD2=x SHIFTERENV_BYTES=$'"'"'\xff\xfe'"'"'; env LD_AUDIT2=$'"'"'\xff'"'"' srun --image=debian:12 bash -c "printenv LD_AUDIT2 LD_PRELOAD2; printf %s \"\$BYTES\" | od -An -tx1"'
    assert_output ' ff fe'
}

@test "names that no shell can set stay as they are, and hurt nothing" {
    run alice 'env "a-b=1" "with blank=2" "SHIFTERENV_c-d=3" "SHIFTERENV_=4" srun --image=debian:12 env | grep -aE "^(a-b|with blank|c-d|SHIFTERENV_)=" | sort'
    assert_output $'SHIFTERENV_=4\na-b=1\nc-d=3\nwith blank=2'
}

@test "exported bash functions survive" {
    run alice 'hello() { echo "hello from a function: $1"; }; export -f hello
        srun --image=debian:12 bash -c "hello rank"'
    assert_output 'hello from a function: rank'
}

# What a step sees when the command, which has A, B and SHIFTERENV_C, is told what to export.
EXPORTS='ALL NONE NIL A ALL,X=1 B,SHIFTERENV_C,X=y=z'
SEEN='[a] [b] [c] [] 1
[] [] [] [] 1
[] [] [] [] 1
[a] [] [] [] 1
[a] [b] [c] [1] 1
[] [b] [c] [y=z] 1'
SHOW='srun sh -c "echo [\$A] [\$B] [\$C] [\$X] \$SHIFTER_RUNTIME"'

@test "srun --export: everything, nothing, some of it, and more; the request comes along always" {
    run alice 'export A=a B=b SHIFTERENV_C=c
        for what in '"$EXPORTS"'; do '"${SHOW/srun/srun --image=debian:12 --export=\$what}"'; done'
    assert_output "$SEEN"
}

@test "sbatch --export: the same, for the steps of the job" {
    run alice 'export A=a B=b SHIFTERENV_C=c; mkdir exports
        for what in '"$EXPORTS"'; do sbatch -Q -n1 -J exports -o exports/$what --export="$what" --image=debian:12 --wrap "$1"; done
        until [[ ! $(squeue -h --me -n exports) ]]; do sleep 0.1; done
        for what in '"$EXPORTS"'; do cat exports/$what; done; rm -r exports' "$SHOW"
    assert_output "$SEEN"
}

@test "what a script sets its steps have, unless srun says otherwise" {
    run batch --image=debian:12 <<'SCRIPT'
#!/bin/bash
export A=job
srun -Q sh -c 'echo [$A]'
A=script srun -Q sh -c 'echo [$A]'
A=script srun -Q --export=NONE sh -c 'echo [$A] $SHIFTER_RUNTIME'
srun -Q --export=ALL,B=step sh -c 'echo [$A] [$B]'
SCRIPT
    assert_output $'[job]\n[script]\n[] 1\n[job] [step]'
}

@test "the locale, TERM and what a login gives me are the same inside" {
    run alice 'export LANG=C.UTF-8 TERM=vt100; srun --image=debian:12 sh -c "echo \$LANG \$TERM \$HOME \$USER \$LOGNAME \$SHELL; locale charmap"'
    assert_output $'C.UTF-8 vt100 /home/alice alice alice /bin/bash\nUTF-8'
}
