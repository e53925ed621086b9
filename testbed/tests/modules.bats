# --module: mounts and variables that the site has prepared. The environment's order is in environment.bats.
load lib

setup_file() { alice 'mkdir -p mod && echo mine >mod/file'; }
teardown_file() { alice 'rm -r mod'; }
teardown() { restore_config; }

# more_modules: what some sites have, on the login node and the compute nodes.
more_modules() {
    configure '$ a [modules.base]\nenv.set = { ORDER = "base", LOST = "x" }\n[[modules.base.mount]]\nfrom = "/usr/lib"\nto = "/opt/base"\n[modules.top]\nrequires = ["base"]\nenv.append = { ORDER = "top" }\nenv.prepend = { ORDER = "first" }\nenv.unset = ["LOST"]\n[modules.rival]\nconflicts = ["base"]\n[modules.usual]\ndefault = true\nenv.set = { USUAL = "yes" }' ctl c1 c2
}

# What of the module `greeting` a rank sees.
LOOK='echo "$GREETING"; echo "${PATH%%:*}"; ls -d /opt/site/licenses/GPL-3; touch /opt/site/licenses/new; true'

@test "a module's variables and its mount are there for every rank, on both nodes" {
    run alice 'srun -N2 -n4 --image=tiny:1 --module=greeting sh -c "$1" 2>&1 | sort | uniq -c | tr -s " "' "$LOOK"
    assert_line ' 4 hello from the site'
    assert_line ' 4 /opt/site/bin'
    assert_line ' 4 /opt/site/licenses/GPL-3'
    assert_line ' 4 touch: /opt/site/licenses/new: Read-only file system'
}

@test "without it nothing of it is there" {
    run alice 'srun --image=tiny:1 sh -c "echo \"\$PATH \$GREETING\"; ls /opt"'
    assert_line '/bin '
    assert_line 'ls: /opt: No such file or directory'
    # Nor on the host, nor in the batch script of a job that has it.
    run batch --image=tiny:1 --module=greeting <<<$'#!/bin/bash\necho "greeting: $GREETING"; ls /opt/site'
    assert_line 'greeting: '
    assert_line "ls: cannot access '/opt/site': No such file or directory"
}

@test "sbatch's module is that of its steps: by option, by #SBATCH, by salloc, by the environment" {
    run batch --image=tiny:1 --module=greeting <<<"#!/bin/bash
srun sh -c '$LOOK' 2>&1"
    assert_line --index 0 'hello from the site'
    assert_line --partial 'Read-only file system'
    run batch <<<"#!/bin/bash
#SBATCH --image=tiny:1
#SBATCH --module=greeting
srun sh -c 'echo \$GREETING'"
    assert_output 'hello from the site'
    run alice 'salloc -Q --image=tiny:1 --module=greeting srun sh -c "echo \$GREETING"'
    assert_output 'hello from the site'
    run alice 'SLURM_SHIFTER_MODULE=greeting srun --image=tiny:1 sh -c "echo \$GREETING"'
    assert_output 'hello from the site'
}

@test "a step's own modules replace the job's, and the next step has the job's again" {
    run batch --image=tiny:1 --module=greeting <<<$'#!/bin/bash
show=\'echo "greeting: $GREETING"; ls /opt; true\'
srun --module=none sh -c "$show"; srun sh -c "$show"'
    assert_output 'greeting: 
ls: /opt: No such file or directory
greeting: hello from the site
site'
}

@test "several modules, with commas or by repeating, each brings what it requires first" {
    more_modules
    show='echo "$ORDER ${LOST-lost} ${GREETING%% *}"; ls /opt'
    for options in '--module=greeting,top' '--module=top --module=greeting' '--module=base,top,greeting,top'; do
        run alice "srun --image=tiny:1 $options"' sh -c "$1"' "$show"
        assert_output 'first:base:top lost hello
base
site'
    done
}

@test "modules that exclude each other are refused, also when one comes along with another" {
    more_modules
    for command in srun sbatch salloc; do
        run alice "$command --image=tiny:1 --module=rival,top $([[ $command == sbatch ]] && echo --wrap) true; echo \"exit \$?\""
        assert_line 'exit 1'
        assert_output --partial '--module: rival and base exclude each other'
        assert_output --partial 'hint: ask for rival or for base'
        one_message
    done
    run alice 'srun --image=tiny:1 --module=rival true'
    assert_success
}

@test "defaults are there until something is named" {
    more_modules
    show='echo "usual: $USUAL"'
    run alice 'srun -QN2 --image=tiny:1 sh -c "$1"; srun -Q --image=tiny:1 --module=base sh -c "$1"; srun -Q --image=tiny:1 --module=none sh -c "$1"; srun -Q sh -c "$1"' "$show"
    assert_output 'usual: yes
usual: yes
usual: 
usual: 
usual: '
}

@test "a module's mount that the node lacks fails the step, unless the site calls it optional" {
    configure '$ a [modules.gone]\n[[modules.gone.mount]]\nfrom = "/no/such/driver"\nto = "/opt/driver"\n[modules.maybe]\n[[modules.maybe.mount]]\nfrom = "/no/such/driver"\nto = "/opt/driver"\noptional = true' ctl c1
    run alice 'srun -w c1 --image=tiny:1 --module=gone true 2>&1'
    assert_failure 1
    assert_output --partial 'cannot open /no/such/driver'
    assert_output --partial 'This is a site problem'
    run alice 'srun -w c1 --image=tiny:1 --module=maybe true'
    assert_success
    no_drained_node
}

@test "a volume beside a module's mount, and none on it, in it or over it" {
    run alice 'srun --image=tiny:1 --module=greeting --volume=$HOME/mod:/opt/mine sh -c "cat /opt/mine/file; ls /opt/site"'
    assert_output $'mine\nlicenses'
    for to in /opt /opt/site /opt/site/licenses /opt/site/licenses/GPL-3; do
        run alice 'srun --image=tiny:1 --module=greeting --volume=$HOME/mod:"$1" true 2>&1' "$to"
        assert_failure 1
        assert_output --partial "$to: /opt/site/licenses is protected"
        one_message
    done
    # Without the module the place is anybody's.
    run alice 'srun --image=tiny:1 --volume=$HOME/mod:/opt/site/licenses cat /opt/site/licenses/file'
    assert_output mine
}
