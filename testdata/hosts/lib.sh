# What the host scripts share: this machine's Debian archive, and mmdebstrap on it.
# Sourced by bash; no mirror is named here, they are those of this machine's apt.

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# archive [-security] prints the root of the Debian archive, or of its security
# archive, that this machine's apt uses. $STEAD_DEBIAN_MIRROR (and _SECURITY) override
# it, for machines whose own archive is another distribution's.
archive() {
	local suffix=${1-}
	case $suffix in
	-security) [ -z "${STEAD_DEBIAN_SECURITY-}" ] || { echo "$STEAD_DEBIAN_SECURITY"; return; } ;;
	*) [ -z "${STEAD_DEBIAN_MIRROR-}" ] || { echo "$STEAD_DEBIAN_MIRROR"; return; } ;;
	esac
	apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
		awk -v suffix="$suffix" '$1 == "Debian" && $2 ~ "^[a-z]+" suffix "$" { print $3; exit }'
}

# sources SUITE prints the apt sources of a Debian release on this machine's mirrors,
# or nothing where apt knows none: mmdebstrap has a default of its own.
sources() {
	local main security
	main=$(archive) security=$(archive -security)
	[ -n "$main" ] || return 0
	echo "deb $main $1 main"
	[ -z "$security" ] || echo "deb $security $1-security main"
}

# inreleases SUITE writes the signed indexes that a host of this suite is made from.
inreleases() {
	local tmp deb uri suite component status=0
	tmp=$(mktemp)
	while read -r deb uri suite component; do
		/usr/lib/apt/apt-helper -o quiet=2 download-file "${uri%/}/dists/$suite/InRelease" "$tmp" >&2 &&
			cat "$tmp" || status=1
	done < <(sources "$1")
	rm -f "$tmp"
	return $status
}

# bootstrap SUITE ROOT PACKAGES [OPTION…] makes a root with apt's lists kept, as hosts
# have them. Old suites outlive their Valid-Until, so that date isn't asked for;
# signatures are.
bootstrap() {
	local suite=$1 root=$2 packages=$3 list=$2.list
	shift 3
	sources "$suite" >"$list"
	[ -s "$list" ] || { rm "$list"; list=; }
	mmdebstrap --mode=root --variant=minbase --format=directory \
		--keyring="$keyring" --include="$packages" \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='Acquire::Retries "3"' \
		--dpkgopt=force-unsafe-io \
		--skip=cleanup/apt/lists,check/empty \
		"$@" "$suite" "$root" $list >"$root.log" 2>&1 || { tail -20 "$root.log" >&2; return 1; }
	rm -f "$root.log" $list
}
