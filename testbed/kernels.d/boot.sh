# shellcheck shell=bash disable=SC2154 # the main script's variables
# What runs in a guest, the boot, and the verdict. Sourced by testbed/kernels.

# program_job PROGRAM ARGUMENT...: the guest runs one program of the host. Files that the
# arguments name go with it.
program_job() {
	local path word
	path=$(type -P "$1") || die "$1: no such program"
	path=$(realpath "$path")
	install_program "$guest" "$path"
	kind=program
	for word in "${@:2}"; do
		[ -f "$word" ] && install_program "$guest" "$(realpath "$word")"
	done
	printf '#!/bin/sh\nexec %s\n' "$(printf '%q ' "$path" "${@:2}")" >"$guest/job"
}

# executables CARGO-ARGUMENT...: "KIND PATH" of every executable that cargo builds.
executables() {
	(cd "$REPO" && cargo "$@" --message-format=json-render-diagnostics) | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable"):
        kind = "example" if message["target"]["kind"] == ["example"] else "test"
        print(kind, message["executable"])
'
}

# tests_job: the guest runs the tests that need root, then stages one image with the example
# program. On a kernel below the floor only the latter: it shows the message users would see.
tests_job() {
	local kind_ path list example crate=$REPO/udi/mount
	kind=tests
	need_toolchain
	say "building the tests of udi-mount"
	list=$(executables test -p udi-mount --features guest --no-run --lib --tests) || die "the tests do not build"
	example=$(executables build -p udi-mount --example stage | awk '$1 == "example" { print $2 }') ||
		die "the example program does not build"
	mkdir -p "$guest/tests"
	while read -r kind_ path; do
		[ "$kind_" = test ] || continue
		install_program "$guest" "$path" "/tests/$(basename "$path")"
	done <<<"$list"
	install_program "$guest" "$example" /stage
	# Tests find their data where the crate was built.
	mkdir -p "$guest$crate"
	cp -r "$crate/." "$guest$crate/"
	small_image "$guest/image.sqsh"
	install -m 755 "$HERE/kernels.d/nfs-export" "$guest/nfs-export"
	cat >"$guest/job" <<-END
		#!/bin/sh
		cd $crate
		export RACE_TRIES=20
		failed=0
		if [ "\$FLOOR" != below ]; then
			/nfs-export || failed=1
			for test in /tests/*; do
				echo "--- \${test##*/}"
				\$test --ignored --test-threads=1 ${TESTS:-} || failed=1
			done
		fi
		echo "--- stage"
		/stage --image /image.sqsh --repeat 1
		echo "stage exit=\$?"
		[ "\$FLOOR" = below ] || { umount /nfs && echo 0 >/proc/fs/nfsd/threads; } || failed=1
		exit \$failed
	END
}

# small_image FILE: what staging needs of an image, and no more.
small_image() {
	local tree=$work/image
	mkdir -p "$tree"/{bin,etc,dev,proc,sys,tmp,var/tmp,root,home}
	cp "$(command -v busybox)" "$tree/bin/busybox"
	ln -s busybox "$tree/bin/sh"
	ln -s busybox "$tree/bin/true"
	mksquashfs "$tree" "$1" -all-root -no-progress -quiet >/dev/null || die "mksquashfs failed"
	chmod 644 "$1"
}

# boot LABEL ROOT OUTPUT: runs the guest; returns the job's exit code, 97 if it never ended.
boot() {
	local label=$1 root=$2 output=$3 floor=met token code
	token=ended-$$-$RANDOM$RANDOM
	[ "$label" = 5.10 ] && floor=below
	pack_guest "$guest" "$label" "$work/initrd" || die "packing the guest failed"
	# Two CPUs: since 6.18 the order of namespace ids depends on the CPU.
	# q35, not microvm: without HPET and PM timer a kernel on a busy host finds no clock and hangs.
	# One thread: when two emulate, kernels that patch their own code while both CPUs run it crash now and then.
	timeout "${BOOT_LIMIT:-300}" qemu-system-x86_64 -M q35 -accel tcg,thread=single -cpu max -smp 2 -m 1G \
		-nodefaults -no-user-config -no-reboot -display none -serial stdio \
		-kernel "$KERNELS/$label/vmlinuz" -initrd "$work/initrd" \
		-append "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t random.trust_cpu=on TOKEN=$token ROOTFS=$root FLOOR=$floor RUST_BACKTRACE=1" \
		</dev/null 2>&1 | tr -d '\r' >"$output"
	code=$(sed -n "s/^@$token exit=\([0-9]*\)\$/\1/p" "$output")
	sed -i -e "/^@$token/d" -e '/reboot: Restarting system$/d' "$output"
	return "${code:-97}"
}

# run_on LABEL ROOT: one guest, one line; the guest's output too if it failed or with -v.
run_on() {
	local label=$1 root=$2 output=$work/output code begin=$SECONDS version verdict line
	version=$(cat "$KERNELS/$label/version")
	boot "$label" "$root" "$output"
	code=$?
	verdict=failed
	if [ "$code" = 97 ]; then
		line="failed: the guest did not come to its end"
	elif [ "$kind" = program ]; then
		line="exit code $code"
		[ "$code" = 0 ] && verdict=passed
		verbose=1
	elif [ "$label" = 5.10 ]; then
		refused "$output"
	else
		tests_passed "$output" "$code"
	fi
	if [ $verdict = failed ] || [ -n "$verbose" ]; then cat "$output"; fi
	printf '%-5s %-28s / is %-9s  %s  (%d s)\n' "$label" "$version" "$root" "$line" $((SECONDS - begin))
	[ $verdict = passed ]
}

tests_passed() {
	local passed failed
	read -r passed failed < <(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed;.*/\1 \2/p' "$1" |
		awk '{ p += $1; f += $2 } END { print p + 0, f + 0 }')
	line="passed $passed, failed $failed"
	if [ "$passed" = 0 ]; then
		line="$line: no test ran"
	elif ! grep -q '^stage exit=0$' "$1"; then
		line="$line, but staging an image failed"
	elif [ "$2" = 99 ]; then
		line="$line, but the kernel complained"
	elif [ "$2" = 0 ] && [ "$failed" = 0 ]; then
		verdict=passed
	fi
}

refused() {
	local words
	words=$(grep -m1 -F '5.14' "$1")
	if grep -q '^stage exit=0$' "$1"; then
		line="failed: an image was staged below the floor"
	elif [ -z "$words" ]; then
		line="failed: refused, but without naming the kernel it needs"
	else
		line="passed: refused with \"$words\""
		verdict=passed
	fi
}
