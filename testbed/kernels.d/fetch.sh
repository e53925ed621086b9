# shellcheck shell=bash
# Debian's kernels: download once, check by apt, keep what a boot needs.
# Sourced by testbed/kernels.

# Modules that the tests need, in so far as they are not built in.
KERNEL_MODULES="loop squashfs overlay xfs ext4 erofs fuse autofs4 nfsd nfsv4"

# label -> Debian suite
suite_of() {
	case $1 in
	5.10) echo bullseye ;;
	6.1) echo bookworm ;;
	new) echo sid ;;
	*) return 1 ;;
	esac
}

# apt in a root of its own, so that no foreign suite touches this machine's packages.
# Signatures are checked against Debian's keyring; only the "Valid-Until" date is not, because
# a mirror may lag and these kernels run nothing but our tests.
private_apt() {
	local dir=$1 suite=$2 mirror
	mirror=$(debian_mirror) || exit
	mkdir -p "$dir"/{state/lists/partial,cache/archives/partial,etc/preferences.d,etc/apt.conf.d,etc/sources.list.d}
	: >"$dir/status"
	echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" \
		>"$dir/etc/sources.list"
	cat >"$dir/apt.conf" <<-END
		Dir "$dir/";
		Dir::State "$dir/state/";
		Dir::State::status "$dir/status";
		Dir::Cache "$dir/cache/";
		Dir::Etc "$dir/etc/";
		APT::Architecture "amd64";
		APT::Sandbox::User "";
		Acquire::Languages "none";
		Acquire::Check-Valid-Until "false";
		Acquire::Retries "3";
	END
}

# Packages of the current cloud kernel (fewer modules, the same file systems). In newer suites
# the kernel, its modules and the lists of what is built in are packages of their own.
kernel_packages() {
	apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
		--no-replaces --no-enhances linux-image-cloud-amd64 |
		grep -E '^linux-(image|binary|modules|base)-[0-9]'
}

# fetch_kernel LABEL: afterwards $KERNELS/LABEL holds vmlinuz, version and modules/NN-name.ko in
# the order in which they are to be loaded. Does nothing when that is already there.
fetch_kernel() {
	local label=$1 suite dir=$KERNELS/$1 work root version
	[ -e "$dir/version" ] && [ "$(cat "$dir/wanted" 2>/dev/null)" = "$KERNEL_MODULES" ] && return 0
	suite=$(suite_of "$label")
	say "fetching the kernel of Debian $suite"
	work=$(mktemp -d "$KERNELS/.fetch.XXXXXX")
	private_apt "$work/apt" "$suite"
	(
		set -e
		export APT_CONFIG=$work/apt/apt.conf
		mkdir "$work/debs" "$work/root" "$work/out" "$work/out/modules"
		cd "$work/debs"
		apt-get update -qq
		# shellcheck disable=SC2046 # a list of package names
		apt-get download -qq $(kernel_packages)
		for deb in *.deb; do dpkg-deb -x "$deb" "$work/root"; done
	) || { rm -rf "$work"; die "the kernel of Debian $suite could not be downloaded"; }

	root=$work/root
	[ -d "$root/usr/lib/modules" ] || { mkdir -p "$root/usr" && mv "$root/lib" "$root/usr/lib"; }
	[ -e "$root/lib" ] || ln -s usr/lib "$root/lib"
	version=$(ls "$root/lib/modules")
	cp "$root/lib/modules/$version/vmlinuz" "$work/out/vmlinuz" 2>/dev/null ||
		cp "$root/boot/vmlinuz-$version" "$work/out/vmlinuz" ||
		{ rm -rf "$work"; die "no kernel found in the packages of Debian $suite"; }
	depmod -b "$root" "$version"
	collect_modules "$root" "$version" "$work/out/modules"
	echo "$version" >"$work/out/version"
	echo "$KERNEL_MODULES" >"$work/out/wanted"
	rm -rf "$dir"
	mv "$work/out" "$dir"
	rm -rf "$work"
}

collect_modules() {
	local root=$1 version=$2 out=$3 n=10 module what path rest seen=" "
	for module in $KERNEL_MODULES; do
		# The host's own modprobe.d must not speak here, hence -C.
		while read -r what path rest; do
			[ "$what" = insmod ] || continue
			case $seen in *" $path "*) continue ;; esac
			seen="$seen$path "
			case $path in
			*.xz) xz -dc "$path" >"$out/$n-$(basename "$path" .xz)" ;;
			*.zst) zstd -qdc "$path" >"$out/$n-$(basename "$path" .zst)" ;;
			*) cp "$path" "$out/$n-$(basename "$path")" ;;
			esac
			n=$((n + 1))
		done < <(modprobe -C /dev/null -d "$root" -S "$version" --show-depends "$module" 2>/dev/null)
	done
}
