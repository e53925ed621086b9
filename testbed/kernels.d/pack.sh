# shellcheck shell=bash
# The initramfs of one boot. Sourced by testbed/kernels.

# Host programs that tests call; their libraries come along. busybox has the rest.
GUEST_TOOLS="mksquashfs mkfs.xfs mke2fs mkfs.erofs mkfs.ext4 setfacl getfacl"

# install_program ROOT FILE [AT]: a host program and its shared libraries, at the same paths.
install_program() {
	local root=$1 file=$2 at=${3:-$2} lib
	mkdir -p "$root$(dirname "$at")"
	cp -L "$file" "$root$at"
	# Symbols make a Rust test binary ten times as large, and the guest has its disk in memory.
	strip --strip-debug "$root$at" 2>/dev/null || true
	for lib in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*'); do
		[ -e "$root$lib" ] && continue
		mkdir -p "$root$(dirname "$lib")"
		cp -L "$lib" "$root$lib"
	done
}

# new_guest ROOT: everything but the kernel's modules and the job.
new_guest() {
	local root=$1 tool path
	mkdir -p "$root"/{bin,usr/bin,usr/sbin,usr/lib,etc,root,tmp,var/tmp}
	# Debian's layout, so that the host's paths of interpreters and libraries hold.
	ln -s usr/lib "$root/lib"
	mkdir -p "$root/usr/lib64" && ln -s usr/lib64 "$root/lib64"
	cp "$(command -v busybox)" "$root/bin/busybox"
	install -m 755 "$HERE/kernels.d/init" "$root/init"
	cp /etc/passwd /etc/group "$root/etc/"
	for tool in $GUEST_TOOLS; do
		path=$(command -v "$tool") || continue
		install_program "$root" "$path"
	done
}

# pack_guest ROOT LABEL OUT: the guest with the modules of one kernel, as a cpio archive.
pack_guest() {
	local root=$1 label=$2 out=$3
	rm -rf "$root/modules"
	cp -r "$KERNELS/$label/modules" "$root/modules"
	(cd "$root" && find . -print0 | cpio -0 --quiet -o -H newc -R 0:0) >"$out"
}
