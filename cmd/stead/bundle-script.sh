#!/bin/sh
# stead-bundle.sh writes what stead needs to take a snapshot of this host to one file, for
# hosts that can't be reached and where no foreign program may run. It does what the
# program stead-bundle does.
#
#   sh stead-bundle.sh [OPTION]... [ROOT] FILE|-
#   sh stead-bundle.sh [OPTION]... --list [ROOT]
#
#   --list            show what would go into the bundle and why
#   --with PACKAGE    take all files of a package: one that no archive has
#   --archived        take no package whole for not being named by any list of apt
#   --keep PATTERN    take paths along that match (absolute; * ? [] and ** for folders)
#   --drop PATTERN    leave paths behind that match
#
# ROOT is the folder of a root file system, / when left out. The host is only read; FILE
# and lists in a folder below ${TMPDIR:-/tmp}, which is removed, are written. It needs
# find, tar, grep and sort of GNU, and any awk; gzip and getfattr are used if they are
# there. Rules and tables are at the end.
#
# What stays on the host: people, password hashes, keys, credentials, data. Rules by path
# keep files from being read at all; a file with a secret in it is left behind and listed.
# At home: stead snapshot bundle:FILE TARGET
set -eu
LC_ALL=C
export LC_ALL
umask 077
tab=$(printf '\t')
nl='
'

fail() {
	echo "error: $1" >&2
	[ -z "${2-}" ] || echo "hint: $2" >&2
	exit 1
}

usage() {
	sed -n '6,14s/^# \{0,3\}//p' "$0" >&2
	exit 2
}

with= keep= drop= archived= list=
while [ $# -gt 0 ]; do
	case $1 in
	--with | --keep | --drop)
		[ $# -ge 2 ] || usage
		case $2 in *"$nl"* | *"$tab"*) fail "a line break or tab in $1" ;; esac
		eval "${1#--}=\"\${${1#--}}\$2\$nl\""
		shift
		;;
	--list) list=yes ;;
	--archived) archived=yes ;;
	-) break ;;
	-*) usage ;;
	*) break ;;
	esac
	shift
done
out=
if [ -z "$list" ]; then
	[ $# -ge 1 ] || usage
	for out; do :; done
	[ $# -le 2 ] || usage
	[ $# = 2 ] || set -- /
else
	[ $# -le 1 ] || usage
	[ $# = 1 ] || set -- /
fi
root=$1
case $out in
- | /* | '') ;;
*) out=$(pwd)/$out ;;
esac
case $0 in /*) self=$0 ;; *) self=$(pwd)/$0 ;; esac
[ -r "$self" ] || fail "the script has to be a file: its tables are at its end"
cd "$root" || fail "no folder $root"
root=$(pwd -P)
find . -maxdepth 0 -printf '' 2>/dev/null || fail "this find can't print what is needed" "use the program stead-bundle, or install GNU findutils"

work=$(mktemp -d "${TMPDIR:-/tmp}/stead-bundle.XXXXXX")
trap 'rm -rf "$work"' 0
trap 'exit 1' 1 2 15
say() { echo "$*" >&2; }

sed -n '/^#%rules/,/^#%rulesend/s/^#=//p' "$self" >"$work/rules"
sed -n '/^#%match/,/^#%matchend/s/^#-//p' "$self" >"$work/match.awk"
sed -n '/^#%classify/,/^#%classifyend/s/^#-//p' "$self" >"$work/classify.awk"
sed -n '/^#%settle/,/^#%settleend/s/^#-//p' "$self" >"$work/settle.awk"
sed -n '/^#%assign/,/^#%assignend/s/^#-//p' "$self" >"$work/assign.awk"
printf '%s' "$keep" | sed 's/^/keep	/' >>"$work/rules"
printf '%s' "$drop" | sed 's/^/drop	/' >>"$work/rules"
printf '%s' "$with" | sed 's/^/with	/' >>"$work/rules"
# A name may hold any byte. In lists it has byte 1 where the host has a line break.
lines() { tr '\n\000' '\001\n'; }
unlines() { tr '\n\001' '\000\n'; }

# 1. The package database: which paths packages own.

info=var/lib/dpkg/info
[ -s var/lib/dpkg/status ] || fail "reading the package database: no dpkg is there" "is this the root of a system?"
database() {
	for f in var/lib/dpkg/status var/lib/dpkg/diversions var/lib/dpkg/arch var/lib/apt/extended_states \
		var/lib/dpkg/status.d/* var/lib/dpkg/triggers/* var/lib/dpkg/updates/[0-9]* $info/*; do
		[ -f "$f" ] && [ ! -h "$f" ] && [ "$f" != var/lib/dpkg/triggers/Lock ] || continue
		printf '%s\t%s\n' "$f" "the package database, and what the host says of itself"
	done
	return 0
}
database >"$work/force"

# 2. Where packages come from: apt's sources, keys, and the indexes of its last update.

take() { # REASON FILE...
	why=$1
	shift
	for f; do
		[ -f "$f" ] && [ ! -h "$f" ] && printf '%s\t%s\n' "$f" "$why"
	done
	return 0
}
sources=$(for f in etc/apt/sources.list etc/apt/sources.list.d/*.list etc/apt/sources.list.d/*.sources; do
	[ -f "$f" ] && [ ! -h "$f" ] && printf '%s\n' "$f"
done; :)
{
	take "where packages come from" etc/apt/sources.list etc/apt/sources.list.d/*.list etc/apt/sources.list.d/*.sources
	take "keys of package archives" etc/apt/trusted.gpg etc/apt/trusted.gpg.d/*.gpg etc/apt/trusted.gpg.d/*.asc \
		etc/apt/keyrings/*.gpg etc/apt/keyrings/*.asc etc/apt/keyrings/*.pgp \
		usr/share/keyrings/*.gpg usr/share/keyrings/*.asc usr/share/keyrings/*.pgp
	printf '%s\n' "$sources" | while read -r f; do
		[ -n "$f" ] && grep -iEo 'signed-by[=:][[:space:]]*/[^] 	]+' "$f" | sed 's/^[^/]*//' | tr ',' '\n' || :
	done | while read -r k; do
		take "keys of package archives" "${k#/}"
	done
	take "what archives hold, signed" var/lib/apt/lists/*_InRelease var/lib/apt/lists/*_Release var/lib/apt/lists/*_Release.gpg \
		var/lib/apt/lists/*_Packages var/lib/apt/lists/*_Packages.xz var/lib/apt/lists/*_Packages.zst \
		var/lib/apt/lists/*_Packages.gz var/lib/apt/lists/*_Packages.bz2 var/lib/apt/lists/*_Packages.lz4
} >>"$work/force"

# Packages that no index names may have to be built again at home, from all their files.
indexed() {
	for f in var/lib/apt/lists/*_Packages*; do
		[ -f "$f" ] || continue
		case $f in
		*_Packages) cat "$f" ;;
		*.xz) xz -dc "$f" ;;
		*.zst) zstd -qdc "$f" ;;
		*.gz) gzip -dc "$f" ;;
		*.bz2) bzip2 -dc "$f" ;;
		*.lz4) lz4 -dc "$f" ;;
		esac || say "reading /$f: its packages count as unlisted"
		echo
	done
}
stanzas='
/^Package: / { name = $2 } /^Version: / { version = $2 } /^Architecture: / { arch = $2 } /^Status: / { state = $4 }
/^[ \t]*$/ { stanza() } END { stanza() }'
awk "$stanzas"' function stanza() { if (name != "" && state !~ /^(not-installed|config-files)$/) print name, version, arch; name = state = "" }' \
	var/lib/dpkg/status | sort -u >"$work/installed"
indexed | awk "$stanzas"' function stanza() { if (name != "") print name, version, arch; name = "" }' | sort -u >"$work/indexed"
comm -23 "$work/installed" "$work/indexed" >"$work/unlisted-packages"
: >"$work/whole"
while read -r name version arch; do
	quoted=$(printf '%s_' "$name" "$version" "$arch" | sed 's/%/%25/g; s/:/%3a/g')
	deb=var/cache/apt/archives/${quoted%_}.deb
	if [ -f "$deb" ]; then
		take "apt's copy of a package that none of its lists names" "$deb" >>"$work/force"
	elif [ -z "$archived" ]; then
		printf '%s\t%s\t%s\n' "$name" "$arch" "no list of apt names package $name" >>"$work/whole"
	fi
done <"$work/unlisted-packages"
printf '%s' "$with" | while read -r name; do
	grep -q "^$name " "$work/installed" || fail "no package $name is installed"
	printf '%s\t*\t%s\n' "$name" "all of package $name"
done >"$work/with"
cat "$work/with" "$work/whole" >"$work/all" && mv "$work/all" "$work/whole"

# 3. A listing of the host. File systems that hold no file of the host itself are left
# out, but for one that the root is on.

own=$(find . -maxdepth 0 -printf %F)
set --
for fs in proc sysfs devpts devtmpfs cgroup cgroup2 debugfs tracefs securityfs selinuxfs smackfs pstore efivarfs bpf binfmt_misc \
	hugetlbfs nsfs autofs resctrl mqueue fusectl configfs rpc_pipefs tmpfs ramfs nfs nfs4 smb cifs smb3 ncpfs coda afs ceph 9p \
	fuse fuseblk fuse.sshfs ocfs2 gfs2 lustre; do
	[ "$fs" = "$own" ] || set -- "$@" -o -fstype "$fs"
done
shift
fields='%y\0%m\0%U\0%G\0%s\0%T@\0%C@\0%D\0%i\0%n\0%P\0%l\0'
one=$(printf '\001')
{ find . -path "$work" -prune -o -name "*$one*" -prune -o \( "$@" \) -prune -printf "$fields" -o -printf "$fields" 2>"$work/errors" || :; } | lines >"$work/walk"
find . -name "*$one*" -prune -printf '%P\0' 2>/dev/null | lines | tr '\001' '?' |
	sed "s/\$/${tab}a byte in its name is more than this script can tell/" >"$work/unlisted"
sed -n "s/^find: [^.]*\.\/\(.*\)[^a-zA-Z0-9]*: \([A-Z].*\)\$/\1${tab}\2/p" "$work/errors" |
	sed "s/['\`\"]${tab}/${tab}/" | awk -F"$tab" '{ print $1 "\t" tolower(substr($2, 1, 1)) substr($2, 2) }' >>"$work/unlisted"
skip=${out#"$root"}
skip=${skip#/}

awk -v work="$work" -v skip="$skip" -f "$work/match.awk" -f "$work/classify.awk" "$work/walk" >"$work/candidates"
rm "$work/walk"
touch "$work/left"
awk -v work="$work" -v info="$info" -f "$work/match.awk" -f "$work/settle.awk"

# 4. What a secret is. Fast searches of everything find what is looked at closely, one
# file at a time.

awk -F"$tab" '$1 == "shape" { gsub(/[].$*+?(){}|\\^[]/, "\\\\&", $2); print ($2 ~ /\// ? "" : "(^|[^0-9A-Za-z_])") $2 $3 }' "$work/rules" >"$work/shapes"
awk -F"$tab" '$1 == "words" && $2 == "hints" { gsub(/ /, "\n", $3); print $3 }' "$work/rules" >"$work/hints"
awk -F"$tab" '$1 == "words" && $2 == "encoded" { gsub(/ /, "\n", $3); print $3 }' "$work/rules" >"$work/encoded"
address='[0-9A-Za-z_]://[^/[:space:]:@"'"'"'<>]*:[^/[:space:]@"'"'"'<>]+@[][A-Za-z0-9._-]'
bytes=$(printf '\037\213\010|BZh|\3757zXZ|[(]\265\057\375|PK\003\004|\005[\001\002]|\376\355\376\355|\316\316\316\316|\377\376|\376\377')

# suspects reads names, and writes those of files in which there may be something.
suspects() {
	sed 's/^/.\//' | unlines >"$work/suspects0"
	among() { xargs -0 grep -alZ "$@" 2>/dev/null <"$work/suspects0" | lines || :; }
	{
		among -E -e 'BEGIN .*(PRIVATE KEY|OpenVPN Static key)' -e 'PuTTY-User-Key-File-'
		among -E -f "$work/shapes"
		among -E -e "$address"
		among -E -e '^[^:]+:.*:.*:.*:' -e '^[^[:space:]]*\.[^[:space:]]*[[:space:]].*:'
		among -F -f "$work/encoded"
		among -iF -f "$work/hints"
		among -E -e "^($bytes)" -e '^0.{1,5}'"$(printf '\002\001')"
		among -F -e ustar
	} | sort -u | sed 's/^\.\///'
}

# keys reads a text with PEM blocks, and succeeds where one has enough base64 in it. In a
# program it has to be complete.
keys() { # TEXT, from standard input
	tr -d '\000' | awk -v text="$1" '
	function end() { if (inside && n >= 60 && text) found = 1; inside = 0 }
	{
		line = $0
		gsub(/\\[nr]/, " ", line)
		while (line != "") {
			if (!inside) {
				if (!match(line, /-----? ?BEGIN ([A-Z0-9]+ )*(PRIVATE KEY( BLOCK)?|OpenVPN Static key V1|SSH2 ENCRYPTED PRIVATE KEY) ?-?----/)) break
				line = substr(line, RSTART + RLENGTH); inside = 1; n = 0
				sub(/^-+/, "", line)
			}
			if (match(line, /-----? ?END /)) { rest = substr(line, RSTART + RLENGTH); line = substr(line, 1, RSTART - 1); closed = 1 } else { rest = ""; closed = 0 }
			if (line !~ /^[ \t]*[A-Z][A-Za-z-]*: /) {
				body = line
				if (match(body, /[^]A-Za-z0-9+\/= \t\r"'"'"'\\,;#>|.-]/)) {
					bad = substr(body, 1, RSTART - 1); gsub(/[^A-Za-z0-9+\/=]/, "", bad)
					if (!closed) { n += length(bad); end(); line = substr(line, RSTART + 1); continue }
				}
				gsub(/[^A-Za-z0-9+\/=]/, "", body); n += length(body)
			}
			if (closed) { if (n >= 60) found = 1; inside = 0; line = rest } else line = ""
		}
		if (found) exit
	}
	END { end(); if (!found) exit 1 }'
}

depth=0
# packed looks into a file that holds others: unpacked as FILE, or as a folder of files.
packed() { # FILE NAME PROGRAM ARGUMENT...
	file=$1 name=$2
	shift 2
	command -v "$1" >/dev/null 2>&1 || { echo "it is packed, and this host has no $1 to look into it"; return; }
	[ "$depth" -lt 3 ] || return 0
	(
		depth=$((depth + 1))
		at=$work/unpacked$depth
		rm -rf "$at"
		mkdir "$at"
		case $1 in
		tar)
			steadat=$at
			export steadat
			tar -xf "./$file" --to-command='f=$(mktemp "$steadat/m.XXXXXX") && { head -c 67108864; cat >/dev/null; } >"$f" && printf "%s\t%s\n" "${f##*/}" "$TAR_FILENAME" >>"$steadat/names"' >/dev/null 2>&1 || :
			;;
		unzip)
			[ "$(unzip -Zt "./$file" 2>/dev/null | awk '{ print $3 + 0 }')" -le 67108864 ] || { echo "it is packed, and too large to look into"; exit; }
			(cd "$at" && unzip -qq -o -P '' "$OLDPWD/$file" >/dev/null 2>&1 </dev/null) || :
			(cd "$at" && find . -type f -printf '%P\0' | lines) | awk -v OFS="$tab" '{ print $0, $0 }' >"$at.names"
			mv "$at.names" "$at/names"
			;;
		*)
			"$@" "./$file" 2>/dev/null | head -c 67108864 >"$at/m" || :
			case $name in *.tgz) name=${name%.tgz}.tar ;; *.gz | *.xz) name=${name%.?z} ;; *.bz2 | *.zst) name=${name%.???} ;; esac
			printf 'm\t\n' >"$at/names"
			;;
		esac
		[ -s "$at/names" ] || exit 0
		cd "$at"
		cut -f1 names | grep -v "$one" | suspects >suspects
		while IFS= read -r m; do
			of=$(awk -F"$tab" -v m="$m" '$1 == m { sub(/^\.?\//, "", $2); print $2; exit }' names)
			why=$(judge "$m" "$name${of:+/$of}")
			[ -z "$why" ] || { printf '%s\n' "$why"; break; }
		done <suspects
	)
}

# judge says why a file may not leave for what is in it.
judge() { # FILE NAME
	head=$(head -c 24 "./$1" | od -An -v -tx1 | tr -d ' \n')
	case $head in
	1f8b08*) packed "$1" "$2" gzip -dc; return ;;
	425a68*) packed "$1" "$2" bzip2 -dc; return ;;
	fd377a585a00*) packed "$1" "$2" xz -dc; return ;;
	28b52ffd*) packed "$1" "$2" zstd -qdc; return ;;
	504b0304*) packed "$1" "$2" unzip; return ;;
	050[12]0000*) printf '%s\n' "$head" | grep -qE '^050[12]0000[01][0-9a-f]..000[1-9a-f]00' && { echo "a Kerberos keytab"; return; } ;;
	feedfeed????????????????00000001* | cececece????????????????00000001*) echo "a Java keystore with a private key"; return ;;
	30*) printf '%s\n' "$head" | grep -qE '^30([0-7].|8.(..){0,4})(020100300d06092a8648|020100301306072a8648|020100300506032b65|020100028[12]|0201010[46][23]0|02010104[23]0)' && { echo "a private key"; return; } ;;
	esac
	if [ "$(head -c 262 "./$1" | tail -c 5 | tr -d '\000')" = ustar ]; then
		packed "$1" "$2" tar
		return
	fi
	text=yes
	case $head in
	fffe* | feff*) ;;
	1f8b* | fd377a58*) text= ;;
	*) [ "$(head -c 8192 "./$1" | tr -d '\000' | wc -c)" = "$(head -c 8192 "./$1" | wc -c)" ] || text= ;;
	esac
	if keys "$text" <"./$1"; then
		echo "a private key"
		return
	fi
	[ -n "$text" ] || return 0
	tr -d '\000' <"./$1" >"$work/text$depth"
	if grep -aq 'PuTTY-User-Key-File-' "$work/text$depth" && grep -aq 'Private-Lines:' "$work/text$depth"; then
		echo "a private key"
		return
	fi
	why=$(grep -aoE -f "$work/shapes" "$work/text$depth" | awk -F"$tab" -v rules="$work/rules" '
	BEGIN { while ((getline < rules) > 0) if ($1 == "shape") { lit[++n] = $2; why[n] = $4 } }
	{ for (i = 1; i <= n; i++) if ((at = index($0, lit[i])) && at <= 2) {
		tail = substr($0, at + length(lit[i])); d = 0; split("", seen)
		for (k = 1; k <= length(tail); k++) if (!(substr(tail, k, 1) in seen)) { seen[substr(tail, k, 1)] = 1; d++ }
		if (toupper(tail) !~ /EXAMPLE/ && d >= 6 && (!best || i < best)) best = i
	} }
	END { if (best) print why[best] }')
	[ -n "$why" ] || why=$(grep -aoE "$address" "$work/text$depth" | awk -v rules="$work/rules" -v mode=address -f "$work/assign.awk")
	# PRIVATE KEY in base64, by how many bytes are before it.
	if [ -z "$why" ] && grep -aqF -f "$work/encoded" "$work/text$depth" &&
		sed 's/\\n//g' "$work/text$depth" | tr -d ' \t\r\n' | grep -aqE 'UFJJVkFURSBLRV|QUklWQVRFIEtFW|BSSVZBVEUgS0VZ|T3BlblZQTiBTdGF0a|9wZW5WUE4gU3RhdGlj|PcGVuVlBOIFN0YXRpY'; then
		why="a private key in base64"
	fi
	[ -n "$why" ] || why=$(awk -v rules="$work/rules" -v path="$2" -v mode=assign -f "$work/assign.awk" "$work/text$depth")
	[ -z "$why" ] || printf '%s\n' "$why"
}

# Names and targets of links may hold secrets too: such a path is listed as a file that
# stayed, without what holds it.
judged() { # PATH PIECE
	mkdir -p "$work/pieces/$(dirname "$1")"
	[ ! -d "$work/pieces/$1" ] || return 0
	printf '%s' "$2" >"$work/pieces/$1"
	(cd "$work/pieces" && judge "$1" "$1")
	rm "$work/pieces/$1"
}
awk '{ f[NR % 12] = $0 } NR % 12 == 0 { n = f[11]; sub(/.*\//, "", n)
	if (length(n) >= 16) print f[11] "\tn\t" n
	if (f[1] == "l") print f[11] "\tt\t" f[0] }' "$work/listed" >"$work/pieces.txt"
{
	grep -aE -f "$work/shapes" "$work/pieces.txt" || :
	grep -aE -e "$address" "$work/pieces.txt" || :
	grep -aiF -f "$work/hints" "$work/pieces.txt" | grep -a '[=:, ].*$' | awk -F"$tab" '$3 ~ /[=:, ]/' || :
	grep -aE -e 'BEGIN .*PRIVATE KEY' -e ':.*:.*:.*:' "$work/pieces.txt" || :
	grep -aF -f "$work/encoded" "$work/pieces.txt" || :
} | sort -u | while IFS="$tab" read -r f kind piece; do
	why=$(judged "$f" "$piece")
	[ -z "$why" ] || printf '%s\t%s\t%s\n' "$f" "$kind" "$why"
done >"$work/unspeakable"
if [ -s "$work/unspeakable" ]; then
	awk -v work="$work" '
	BEGIN { while ((getline line < (work "/unspeakable")) > 0) { split(line, w, "\t"); if (w[2] == "n") name[w[1]] = w[3]; else target[w[1]] = w[3] } }
	function note(p, why) { print p "\t" why > (work "/speak-withheld") }
	{ f[NR % 12] = $0 }
	NR % 12 == 0 {
		p = f[11]
		if (shut != "" && index(p, shut "/") == 1) { print p > (work "/unnamed"); next }
		if (p in name) {
			print p > (work "/unnamed"); if (f[1] == "d") shut = p
			d = p; if (!sub(/[^\/]*$/, "", d)) d = ""
			f[11] = d "…" (hid[d]++ ? hid[d] : ""); f[5] = f[1] == "f" ? f[5] : 0
			f[1] = "f"; f[3] = f[4] = 0; f[10] = 1; f[0] = ""; note(f[11], name[p] ", in its name")
		} else if (p in target) {
			print p > (work "/unnamed"); f[1] = "f"; f[5] = 0; f[10] = 1; f[0] = ""; note(p, target[p])
		}
		for (i = 1; i <= 11; i++) print f[i]
		print f[0]
	}' "$work/listed" >"$work/spoken"
	mv "$work/spoken" "$work/listed"
	for f in take sizes compare; do
		awk -F"$tab" -v f="$f" 'FILENAME ~ /unnamed$/ { gone[$1] = 1; next } !((f == "take" ? $1 : $2) in gone)' "$work/unnamed" "$work/$f" >"$work/fewer"
		mv "$work/fewer" "$work/$f"
	done
	cat "$work/speak-withheld" >>"$work/settled-withheld"
fi

# 5. Files of packages: only those go in that aren't as the package brought them.

cut -f2- "$work/compare" | sed 's/^/.\//' | unlines | xargs -0 md5sum -- 2>/dev/null |
	awk -v work="$work" '
	BEGIN { while ((getline line < (work "/compare")) > 0) { i = index(line, "\t"); want[substr(line, i + 1)] = substr(line, 1, i - 1) } }
	{ sum = $0; esc = sub(/^\\/, "", sum); path = substr(sum, 37); sum = substr(sum, 1, 32); if (esc) gsub(/\\n/, "\001", path)
	  if (path in want) { if (want[path] == sum) print path > (work "/unchanged"); else print path "\tanother content than the package'"'"'s" > (work "/more"); delete want[path] } }
	END { for (p in want) print p "\tit could not be read" > (work "/unreadable") }'
touch "$work/unchanged" "$work/more" "$work/unreadable"
sort -o "$work/unchanged" "$work/unchanged"
cat "$work/take" "$work/more" | sort -t"$tab" -k1,1 -s | awk -F"$tab" '$1 != last { print; last = $1 }' >"$work/planned"

if [ -n "$list" ]; then
	awk -F"$tab" 'FILENAME ~ /sizes$/ { size[$2] = $1; next } { printf "%12d  /%s  %s\n", size[$1], $1, $2; n[$2]++; sum[$2] += size[$1] }
	END { for (r in n) printf "%12d bytes in %5d files: %s\n", sum[r], n[r], r }' "$work/sizes" "$work/planned" | tr '\001\033' '??'
	exit 0
fi

# 6. Accounts go in without people, addresses of archives without passwords.

instead() { # PATH REASON, content from standard input
	mkdir -p "$work/instead/$(dirname "$1")"
	cat >"$work/instead/$1"
	printf '%s\t%s\n' "$1" "$2" >>"$work/replaced"
}
: >"$work/replaced"
accounts='
function person(id, low, high) { return id + 0 >= low && id + 0 <= high || id + 0 > 65535 }
function mark(s) { return s ~ /^(\*|!|!!|x)$/ ? s : "x" }
function named(s) { return s != "" && s !~ /^[-+]/ && s !~ /[ \t,\/]/ }
BEGIN {
	limit["UID_MIN"] = limit["GID_MIN"] = 1000; limit["UID_MAX"] = limit["GID_MAX"] = 60000
	while ((getline line < "etc/login.defs") > 0)
		if (split(line, w, /[ \t]+/) == 2 && w[1] in limit && w[2] ~ /^[1-9][0-9]*$/) limit[w[1]] = w[2]
	while ((getline line < (work "/owners")) > 0) keeps[line] = 1
	while ((getline line < "etc/passwd") > 0)
		if (split(line, f, ":") == 7 && named(f[1]) && f[3] ~ /^[0-9]+$/ && f[4] ~ /^[0-9]+$/ && !person(f[3], limit["UID_MIN"], limit["UID_MAX"])) system_[f[1]] = 1
}'
if [ -f etc/passwd ] && [ ! -h etc/passwd ] && ! grep -q "^keep${tab}/etc/passwd\$" "$work/rules"; then
	awk -F: -v work="$work" "$accounts"'
	/^#/ || NF != 7 || !named($1) || $3 !~ /^[0-9]+$/ || $4 !~ /^[0-9]+$/ { next }
	!person($3, limit["UID_MIN"], limit["UID_MAX"]) { print $1 ":" mark($2) ":" $3 ":" $4 ":" $5 ":" $6 ":" $7; next }
	keeps["u" $3] { print $1 ":x:" $3 ":" $4 "::/nonexistent:/usr/sbin/nologin" }' etc/passwd | instead etc/passwd "people stay on the host"
fi
if [ -f etc/group ] && [ ! -h etc/group ] && ! grep -q "^keep${tab}/etc/group\$" "$work/rules"; then
	awk -F: -v work="$work" "$accounts"'
	/^#/ || NF != 4 || !named($1) || $3 !~ /^[0-9]+$/ { next }
	!person($3, limit["GID_MIN"], limit["GID_MAX"]) || keeps["g" $3] {
		n = split($4, m, ","); members = ""
		for (i = 1; i <= n; i++) if (system_[m[i]]) members = members (members == "" ? "" : ",") m[i]
		print $1 ":" mark($2) ":" $3 ":" members
	}' etc/group | instead etc/group "people stay on the host"
fi

# 7. Content with a secret in it stays. Fast searches of everything find what is looked at
# closely, one file at a time.

awk -F"$tab" 'FILENAME ~ /replaced$/ { gone[$1] = 1; next } !($1 in gone)' "$work/replaced" "$work/planned" >"$work/search"
cut -f1 "$work/search" | suspects >"$work/suspects"
: >"$work/withheld"
tr '\001' '\n' <"$work/suspects" | cmp -s - "$work/suspects" || grep "$one" "$work/suspects" | sed "s/\$/${tab}a name with a line break, which this script doesn't look into/" >"$work/withheld"
grep -v "$one" "$work/suspects" | while IFS= read -r f; do
	why=$(judge "$f" "$f")
	[ -n "$why" ] || continue
	case $f in
	etc/apt/sources.list | etc/apt/sources.list.d/*)
		# As long as it was, with letters for names and passwords: it is judged the same.
		awk '{
			line = $0; done = ""
			while (match(line, /:\/\/[^\/ \t"'"'"'<>]*@/)) {
				done = done substr(line, 1, RSTART + 2)
				n = 0; made = ""
				for (i = RSTART + 3; i < RSTART + RLENGTH - 1; i++) { c = substr(line, i, 1); made = made (c == ":" ? c : substr("masked-by-stead", n % 15 + 1, 1)); n++ }
				done = done made "@"; line = substr(line, RSTART + RLENGTH)
			}
			print done line }' "./$f" >"$work/masked"
		sed 's,://[^/[:space:]"<>]*@,://,g' "./$f" >"$work/without"
		if [ -z "$(cd "$work" && judge without "$f")" ] && [ "$(wc -c <"$work/masked")" = "$(wc -c <"./$f")" ]; then
			instead "$f" "where packages come from, without passwords" <"$work/masked"
			continue
		fi
		;;
	esac
	case $f in
	$info/*.list | $info/*.md5sums) fail "/$f can't leave the host: $why" "where it holds no secret: --keep /$f" ;;
	$info/*) ;;
	var/lib/dpkg/*) fail "/$f can't leave the host: $why" "where it holds no secret: --keep /$f" ;;
	esac
	grep -qxF "keep$tab/$f" "$work/rules" || printf '%s\t%s\n' "$f" "$why"
done >>"$work/withheld"
cat "$work/settled-withheld" >>"$work/withheld"

# Attributes, which no find prints.
: >"$work/attributes.txt"
if command -v getfattr >/dev/null 2>&1; then
	awk 'NR % 12 == 1 { type = $0 } NR % 12 == 11 && type != "l" { print "./" $0 }' "$work/listed" | unlines >"$work/listed0"
	xargs -0 getfattr -h -d -m - -e hex -- <"$work/listed0" 2>/dev/null | awk '
	function bytes(s,   t) { # undoes \ooo
		t = ""
		while (match(s, /\\[0-7][0-7][0-7]/)) {
			t = t substr(s, 1, RSTART - 1) sprintf("%c", substr(s, RSTART + 1, 1) * 64 + substr(s, RSTART + 2, 1) * 8 + substr(s, RSTART + 3, 1))
			s = substr(s, RSTART + 4)
		}
		gsub(/\n/, "\001", t)
		return t s
	}
	/^# file: / { path = bytes(substr($0, 9)); sub(/^\.\//, "", path); if (path == "") path = "."; next }
	/^(user\.|security\.capability=|system\.posix_acl_)/ { i = index($0, "=0x"); if (i) print path "\t" substr($0, 1, i - 1) "\t" substr($0, i + 3) }' >"$work/attributes.txt"
	awk -F"$tab" '$2 ~ /^user\./ { print $1 }' "$work/attributes.txt" | sort -u >"$work/user-attributes"
	while IFS= read -r f; do
		mkdir -p "$work/attr/$(dirname "$f")"
		[ ! -d "$work/attr/$f" ] || continue
		getfattr -h -d -m '^user\.' -e text -- "./$f" 2>/dev/null | sed -n 's/^user\.\([^=]*\)="\(.*\)"$/\1 = \2/p' >"$work/attr/$f"
		why=$(cd "$work/attr" && judge "$f" "$f")
		[ -n "$why" ] || continue
		awk -F"$tab" -v f="$f" '!($1 == f && $2 ~ /^user\./)' "$work/attributes.txt" >"$work/fewer" && mv "$work/fewer" "$work/attributes.txt"
		[ -d "./$f" ] || printf '%s\t%s, in an attribute\n' "$f" "$why" >>"$work/withheld"
	done <"$work/user-attributes"
elif command -v getcap >/dev/null 2>&1; then
	say "no getfattr here: ACLs and attributes of users are not read"
	cut -f2 "$work/sizes" | grep -v "$one" | sed 's/^/.\//' | unlines | xargs -0 getcap 2>/dev/null | awk '
	BEGIN { for (i = 1; i < 256; i++) hex[sprintf("%c", i)] = sprintf("%02x", i) }
	{ s = ""; for (i = 1; i <= length($0); i++) s = s hex[substr($0, i, 1)]; print ".\tgetcap\t" s }' >"$work/attributes.txt"
else
	say "neither getfattr nor getcap here: capabilities, ACLs and other attributes are not read"
fi

# 8. The bundle.

sort -t"$tab" -k1,1 -u -o "$work/withheld" "$work/withheld"
awk -F"$tab" 'FILENAME ~ /(replaced|withheld)$/ { gone[$1] = 1; next } !($1 in gone)' "$work/replaced" "$work/withheld" "$work/planned" >"$work/sent"
cut -f1 "$work/sent" | sed 's/^/.\//' | unlines >"$work/sent0"
sum() { xargs -0 sha256sum -- 2>/dev/null; }
{
	(cd "$work/instead" 2>/dev/null && cut -f1 "$work/replaced" | sed 's/^/.\//' | tr '\n' '\000' | sum) || :
	sum <"$work/sent0" || :
} | awk -F"$tab" -v work="$work" '
BEGIN {
	while ((getline < (work "/sizes")) > 0) size[$2] = $1
	while ((getline < (work "/planned")) > 0) why[$1] = $2
	while ((getline < (work "/replaced")) > 0) { why[$1] = $2; cmd = "wc -c < \"" work "/instead/" $1 "\""; cmd | getline n; close(cmd); size[$1] = n + 0; print $1 "\t" n + 0 > (work "/resized") }
}
{ line = $0; esc = sub(/^\\/, "", line); path = substr(line, 69)
  if (esc) { gsub(/\\\\/, "\002", path); gsub(/\\n/, "\001", path); gsub(/\002/, "\\", path) }
  if (!(path in why)) next
  shown = path; gsub(/\\/, "\\\\", shown); gsub(/\001/, "\\n", shown); gsub(/\t/, "\\t", shown); gsub(/\r/, "\\r", shown)
  print substr(line, 1, 64) "\t" size[path] "\t" why[path] "\t" shown; had[path] = 1; sum += size[path]; files++ }
END {
	for (p in why) if (!(p in had)) print p > (work "/lost")
	print files + 0 " files of " sum + 0 " bytes" > (work "/total")
}' >"$work/manifest"
touch "$work/resized" "$work/lost"
awk -F"$tab" 'FILENAME ~ /withheld$/ { w[$1] = 1; next } !($1 in w) { print $1 "\tit could not be read" }' "$work/withheld" "$work/lost" >>"$work/unreadable"
awk -F"$tab" 'FILENAME ~ /lost$/ { w[$1] = 1; next } !($1 in w) { print $1 }' "$work/lost" "$work/sent" | sed 's/^/.\//' | unlines >"$work/sent0"
cut -f1 "$work/replaced" | sed 's/^/.\//' | unlines >"$work/replaced0"
mkdir -p "$work/instead" "$work/b"
{
	echo "format 1"
	echo "maker stead-bundle.sh"
	if [ "$root" = / ]; then
		echo "kernel $(uname -r)"
		[ "$(uname -m)" != x86_64 ] || sed -n 's/^flags[	 ]*: */flags /p;/^flags/q' /proc/cpuinfo | head -n 1
	fi
	echo "rules $(awk -F"$tab" '$1 == "version" { print $2 }' "$work/rules")"
	awk -F"$tab" '$1 == "keep" || $1 == "drop" || $1 == "with" { print $1 " " $2 }' "$work/rules"
} >"$work/b/stead-bundle"
awk -F"$tab" -v work="$work" 'BEGIN { while ((getline < (work "/resized")) > 0) size[$1] = $2; FS = "\n" }
{ r[NR % 12] = $0 } NR % 12 == 0 { if (r[11] in size) r[5] = size[r[11]]; for (i = 1; i <= 11; i++) print r[i]; print r[0] }' "$work/listed" | unlines >"$work/b/listing"
split_tabs() { tr '\t' '\n' <"$1" | unlines; }
split_tabs "$work/attributes.txt" >"$work/b/attributes"
mv "$work/left" "$work/left.all"
{
	grep -avE -f "$work/shapes" "$work/left.all" || :
	grep -aE -f "$work/shapes" "$work/left.all" | awk -F"$tab" -v OFS="$tab" '{ sub(/\/.*/, "/…", $3); print }' || :
} >"$work/left"
for member in unlisted unreadable; do
	grep -avE -f "$work/shapes" "$work/$member" >"$work/fewer" || :
	mv "$work/fewer" "$work/$member"
done
for member in left unlisted unreadable withheld unchanged; do
	sort -o "$work/$member" "$work/$member"
	split_tabs "$work/$member" >"$work/b/$member"
done
mv "$work/manifest" "$work/b/manifest"
bundle() {
	tar --format=gnu -cf - --numeric-owner --owner=0 --group=0 --mode=0600 --mtime=@0 --no-recursion --hard-dereference \
		-C "$work/b" stead-bundle listing attributes left -C "$work/instead" --null -T "$work/replaced0" \
		-C "$root" --null -T "$work/sent0" -C "$work/b" unlisted unreadable withheld unchanged manifest
}
if command -v gzip >/dev/null 2>&1; then pack='gzip -nc'; else pack=cat; fi
if [ "$out" = - ]; then
	bundle | $pack
else
	[ ! -e "$out" ] || fail "$out is there already"
	{ bundle || echo failed >"$work/failed"; } | $pack >"$out"
	[ ! -e "$work/failed" ] || { rm -f "$out"; fail "tar could not write all of the bundle" "try again: a file may have changed"; }
fi
while IFS="$tab" read -r f why; do say "left behind /$f: $why"; done <"$work/withheld"
while IFS="$tab" read -r f why; do say "could not read /$f: $why"; done <"$work/unreadable"
say "$(cat "$work/total") went in; $(wc -l <"$work/withheld") stayed for what is in them; $(cat "$work/unlisted" "$work/unreadable" | wc -l) could not be read"
exit 0

#%match: which rule a path falls under; the rules, and what belongs to people.
#-function add(list, key, i) { list[key] = list[key] " " i }
#-function last(p) { sub(/.*\//, "", p); return p }
#-function glob(p,   re, i, c, e) {
#-	sub(/^\//, "", p); sub(/\/$/, "", p); sub(/\/\*\*$/, "", p); re = ""
#-	for (i = 1; i <= length(p); i++) {
#-		c = substr(p, i, 1)
#-		if (substr(p, i, 3) == "**/") { re = re "(.*/)?"; i += 2 }
#-		else if (substr(p, i, 2) == "**") { re = re ".*"; i++ }
#-		else if (c == "*") re = re "[^/]*"
#-		else if (c == "?") re = re "[^/]"
#-		else if (c == "[" && (e = index(substr(p, i), "]")) > 2) { re = re (substr(p, i + 1, 1) == "!" ? "[^/" substr(p, i + 2, e - 2) : substr(p, i, e)); i += e - 1 }
#-		else if (c ~ /[A-Za-z0-9\/_ -]/) re = re c
#-		else re = re "\\" c
#-	}
#-	return "^" re "(/.*)?$"
#-}
#-function literal(p) { sub(/^\//, "", p); sub(/[*?[+!].*/, "", p); sub(/\/$/, "", p); return p }
#-function load(   line, f, n, i, t, end) {
#-	while ((getline line < (work "/rules")) > 0) {
#-		n = split(line, f, "\t")
#-		if (f[1] == "keep") { keep[++keeps] = glob(f[2]); keeptext[keeps] = f[2] }
#-		if (f[1] == "drop") { drop[++drops] = glob(f[2]); droptext[drops] = f[2] }
#-		if (f[1] != "secret" && f[1] != "noise" && f[1] != "made") continue
#-		t = f[1] == "made" ? "m" : "s"; i = ++rules
#-		class[i] = f[1]; nodirs[i] = f[2] + 0; reason[i] = f[n]; body[i] = f[4]
#-		if (f[3] == "P" && !((t f[4]) in path)) path[t f[4]] = i
#-		if (f[3] == "B" && !((t f[4]) in below)) below[t f[4]] = i
#-		if (f[3] == "A") add(name, t last(f[4]), i)
#-		if (f[3] == "W") add(within, t last(f[4]), i)
#-		if (f[3] == "E") { end = f[4]; sub(/.*\./, ".", end); add(ext, t end, i) }
#-		if (f[3] == "G") { add(globs, t f[4], i); body[i] = f[5] }
#-		given[i] = f[3] == "P" || f[3] == "B" ? f[4] : f[3] == "G" ? literal(substr(f[5], 2)) : ""
#-	}
#-}
#-function ends(p, e,   at) { at = length(p) - length(e); return at >= 0 && substr(p, at + 1) == e && (at == 0 || substr(p, at, 1) == "/") }
#-function better(i, isdir) { if (i && (!best || i < best) && !(isdir && nodirs[i])) best = i }
#-function find(t, p, isdir,   n, e, i, k, m, list, prefix, x) {
#-	best = 0
#-	if ((t p) in path) better(path[t p], isdir)
#-	n = split(p, e, "/"); prefix = ""
#-	for (i = 1; i <= n; i++) {
#-		prefix = i == 1 ? e[1] : prefix "/" e[i]
#-		if (i < n && (t prefix) in below) better(below[t prefix], isdir)
#-		if ((t e[i]) in within) { m = split(within[t e[i]], list, " "); for (k = 1; k <= m; k++) if (ends(prefix, body[list[k]])) better(list[k] + 0, isdir) }
#-	}
#-	if ((t e[n]) in name) { m = split(name[t e[n]], list, " "); for (k = 1; k <= m; k++) if (ends(p, body[list[k]])) better(list[k] + 0, isdir) }
#-	if (index(e[n], ".")) {
#-		x = e[n]; sub(/.*\./, ".", x)
#-		if ((t x) in ext) { m = split(ext[t x], list, " "); for (k = 1; k <= m; k++) if (substr(e[n], length(e[n]) - length(body[list[k]]) + 1) == body[list[k]]) better(list[k] + 0, isdir) }
#-	}
#-	if ((t e[1]) in globs) { m = split(globs[t e[1]], list, " "); for (k = 1; k <= m; k++) if (p ~ body[list[k]]) better(list[k] + 0, isdir) }
#-	return best
#-}
#-# secret or noise by a path alone: pclass and preason
#-function bypath(p, isdir,   i, k, l) {
#-	pclass = preason = ""
#-	for (k = 1; k <= drops; k++) if (p ~ drop[k]) { pclass = "noise"; preason = "dropped by " droptext[k]; return }
#-	i = find("s", p, isdir)
#-	if (!i) return
#-	for (k = 1; k <= keeps; k++)
#-		if (p ~ keep[k]) {
#-			l = literal(keeptext[k])
#-			if (class[i] != "secret" || keeptext[k] == "/" p || given[i] != "" && index(l, given[i]) == 1) return
#-		}
#-	pclass = class[i]; preason = reason[i]
#-}
#-# made or state where no package owns a path: qclass, qreason, and whether its folder is
#-# kept (1), or is where a package owns the one around it (2)
#-function place(p, type,   e, n, i, k) {
#-	qclass = "state"; qkeep = 0
#-	if (type == "s") { qreason = "a socket lives as long as its program"; return }
#-	if (type == "c" || type == "b") { qreason = "a device node belongs to the machine"; return }
#-	for (k = 1; k <= keeps; k++) if (p ~ keep[k]) { qclass = "made"; qreason = "kept by " keeptext[k]; return }
#-	n = split(p, e, "/")
#-	if (n == 1 && type == "l") { qclass = "made"; qreason = "a link of the root"; return }
#-	if ((e[1] == "opt" || e[1] == "usr") && n > 2 && e[2] == "home" || e[1] == "opt" && n > 3 && e[3] == "home") { qreason = "a home"; return }
#-	if (e[1] ~ /^(usr|bin|sbin|etc|opt)$/ || e[1] ~ /^lib/) { qclass = "made"; qreason = ""; return }
#-	if (i = find("m", p, type == "d")) { qclass = "made"; qreason = reason[i]; return }
#-	if (e[1] == "home" || e[1] == "root") qreason = "people's files"
#-	else if (e[1] == "tmp" || e[1] == "run") qreason = "temporary"
#-	else if (e[1] ~ /^(srv|var|mnt|media)$/) qreason = "data"
#-	else qreason = "outside of where software lives"
#-	if (type == "d" && n == 1 && e[1] ~ /^(boot|dev|home|media|mnt|proc|root|run|srv|sys|tmp|var)$/) qkeep = 1
#-	if (type == "d" && e[1] == "var" && n > 1 && p !~ /^var\/(cache\/man|tmp|lib\/private|lib\/apt|cache\/apt|mail)\//) qkeep = 2
#-}
#-function stands(p) { return p ~ /^etc\/(machine-id|hostname|passwd|shadow|group|gshadow|subuid|subgid)$/ || p == "var/lib/dbus/machine-id" }
#-function people(   line, f, low, high, w) {
#-	low = 1000; high = 60000
#-	while ((getline line < "etc/login.defs") > 0) { split(line, w, /[ \t]+/); if (w[1] == "UID_MIN" && w[2] + 0 > 0) low = w[2] + 0; if (w[1] == "UID_MAX" && w[2] + 0 > 0) high = w[2] + 0 }
#-	while ((getline line < "etc/passwd") > 0) if (split(line, f, ":") == 7 && (f[3] + 0 >= low && f[3] + 0 <= high || f[3] + 0 > 65535)) who[f[1]] = 1
#-}
#-function shown(p,   e, n, i, s) {
#-	n = split(p, e, "/"); s = ""
#-	for (i = 1; i <= n; i++) {
#-		if (i > 1 && i <= 4 && e[i - 1] == "home" && (i == 2 || e[1] == "opt" || e[1] == "usr")) return s
#-		s = s (i > 1 ? "/" : "") (e[i] in who ? "…" : e[i])
#-	}
#-	return s
#-}
#-function up(p) { return sub(/\/[^\/]*$/, "", p) ? p : "." }
#-function leave(p, type, size, c, r,   e, n, at) {
#-	if (type == "d") return
#-	if (c == "secret" || c == "state" && type ~ /[scb]/) at = p
#-	else { at = up(p); n = split(at, e, "/"); if (n > 3) at = e[1] "/" e[2] "/" e[3] }
#-	at = c "\t" r "\t" shown(at); files[at]++; bytes[at] += type == "f" ? size : 0
#-}
#-function sums(file,   k) { for (k in files) printf "%s\t%d\t%.0f\n", k, files[k], bytes[k] >> file }
#%matchend

#%classify: of each path of the walk, whether it can matter.
#-BEGIN {
#-	FS = "\n"; load(); people()
#-	while ((getline line < (work "/force")) > 0) { sub(/\t.*/, "", line); force[line] = 1; while ((line = up(line)) != ".") around[line] = 1 }
#-	cmd = "cat var/lib/dpkg/info/*.list var/lib/dpkg/diversions 2>/dev/null"
#-	while ((cmd | getline line) > 0) { n = split(line, e, "/"); for (i = n; i > 1; i--) { if (e[i] in names) break; names[e[i]] = 1 } }
#-	close(cmd)
#-}
#-{ f[NR % 12] = $0 }
#-NR % 12 == 0 {
#-	p = f[11]; type = f[1]; isdir = type == "d"
#-	if (skip != "" && p == skip) next
#-	base = p; sub(/.*\//, "", base)
#-	pclass = preason = qclass = qreason = ""; qkeep = 0
#-	if (p != "") { bypath(p, isdir); if (pclass == "") place(p, type) }
#-	if (f[10] + 0 > 1 && type == "f" && f[5] + 0 > 0 && (pclass == "secret" || stands(p))) print f[8] ":" f[9] > (work "/hidden")
#-	ok = p == "" || base in names || p in force || isdir && p in around
#-	if (!ok && pclass == "secret") ok = type == "f" && stands(p)
#-	else if (!ok && pclass == "") ok = qclass == "made" || qkeep == 1 || qkeep == 2 && up(p) != "." && (last(up(p)) in names)
#-	if (!ok) { leave(p, type, f[5], pclass == "" ? qclass : pclass, pclass == "" ? qreason : preason); next }
#-	print pclass; print preason; print qclass; print qreason; print qkeep
#-	for (i = 1; i <= 11; i++) print f[i]
#-	print f[0]
#-}
#-END { sums(work "/left") }
#%classifyend

#%settle: which of them do matter, and of which the content is needed.
#-function dir(p,   at) {
#-	if (p == "." || p == "") return "."
#-	if (p in dirs) return dirs[p]
#-	at = step(dir(up(p)), last(p)); dirs[p] = at
#-	return at
#-}
#-function step(at, n,   c, e, k, i, t) {
#-	if (n == "" || n == ".") return at
#-	if (n == "..") return up(at)
#-	c = at == "." ? n : at "/" n
#-	if (!(c in link)) return c
#-	if (++hops > 40) { hops = 0; return c }
#-	used[c] = 1; t = link[c]
#-	if (t ~ /^\//) at = "."
#-	k = split(t, e, "/")
#-	for (i = 1; i <= k; i++) at = step(at, e[i])
#-	return at
#-}
#-function located(p,   d) { hops = 0; d = dir(up(p)); return d == "." ? last(p) : d "/" last(p) }
#-function followed(p) { hops = 0; return dir(p) }
#-function row(   i) { for (i = 1; i <= 17; i++) if ((getline r[i] < file) <= 0) return 0; return 1 }
#-function owns(p, pkg, arch, md5,   real, d) {
#-	real = located(p); d = 0
#-	if (real in moved) { d = 1; if (by[real] != pkg) real = located(moved[real]) }
#-	if (real in link) { hops = 0; reached[dir(real)] = 1 }
#-	if (real in owner) shared[real] = 1
#-	else { owner[real] = pkg; archof[real] = arch; sum[real] = md5 }
#-	if (d) shared[real] = 1
#-}
#-BEGIN {
#-	load(); people(); file = work "/candidates"
#-	while (row()) if (r[6] == "l") link[r[16]] = r[17]
#-	close(file)
#-	while ((getline line < (work "/hidden")) > 0) hidden[line] = 1
#-	while ((getline line < (work "/force")) > 0) { split(line, w, "\t"); force[w[1]] = w[2] }
#-	while ((getline line < (work "/whole")) > 0) { split(line, w, "\t"); whole[w[1] "\t" w[2]] = w[3] }
#-	while ((getline a < "var/lib/dpkg/diversions") > 0 && (getline b < "var/lib/dpkg/diversions") > 0 && (getline c < "var/lib/dpkg/diversions") > 0) {
#-		moved[located(substr(a, 2))] = substr(b, 2); by[located(substr(a, 2))] = c == ":" ? "" : c
#-	}
#-	packages()
#-	n = split("etc/os-release usr/lib/os-release etc/login.defs etc/default/locale etc/locale.conf etc/timezone etc/security/limits.conf", w, " ")
#-	for (i = 1; i <= n; i++) force[followed(w[i])] = "the package database, and what the host says of itself"
#-	settle()
#-}
#-# packages reads who owns what: the state and conffiles of status, lists and sums.
#-function packages(   line, name, arch, state, same, conf, k, w, multi) {
#-	if ((getline line < (info "/format")) > 0) multi = line + 0 == 1
#-	while ((getline line < "var/lib/dpkg/status") > 0) {
#-		if (line ~ /^Package: /) { name = substr(line, 10); arch = state = ""; same = 0; k = 0; split("", conf); inconf = 0 }
#-		else if (line ~ /^Architecture: /) arch = substr(line, 15)
#-		else if (line ~ /^Status: /) { split(line, w, " "); state = w[4] }
#-		else if (line ~ /^Multi-Arch: same/) same = 1
#-		else if (line ~ /^Conffiles:/) { inconf = 1; continue }
#-		if (inconf && line ~ /^ \//) conf[++k] = line
#-		else if (line !~ /^ /) inconf = 0
#-		if (line == "" && name != "") { package(name, arch, state, info "/" name (multi && same ? ":" arch : ""), conf, k); name = "" }
#-	}
#-	if (name != "") package(name, arch, state, info "/" name (multi && same ? ":" arch : ""), conf, k)
#-}
#-function package(name, arch, state, base, conf, k,   line, md5, i, p, w) {
#-	if (state == "not-installed" || state == "") return
#-	split("", md5)
#-	while ((getline line < (base ".md5sums")) > 0) md5[substr(line, 35)] = substr(line, 1, 32)
#-	close(base ".md5sums")
#-	for (i = 1; i <= k; i++) {
#-		p = conf[i]; sub(/ (obsolete|remove-on-upgrade)$/, "", p); sub(/ (obsolete|remove-on-upgrade)$/, "", p)
#-		w = p; sub(/.* /, "", w); sub(/ [^ ]*$/, "", p); p = substr(p, 3)
#-		md5[p] = w ~ /^[0-9a-f]+$/ && length(w) == 32 ? w : ""
#-		if (state == "config-files") owns(p, name, arch, md5[p])
#-	}
#-	if (state == "config-files") return
#-	while ((getline line < (base ".list")) > 0) if (line != "/.") owns(substr(line, 2), name, arch, (substr(line, 2) in md5) ? md5[substr(line, 2)] : "")
#-	close(base ".list")
#-}
#-function emit(   i, d, k, e, a) {
#-	if (r[16] != "") {
#-		k = split(r[16], e, "/"); d = ""
#-		for (i = 1; i < k; i++) { d = i == 1 ? e[1] : d "/" e[i]; if (!(d in out) && d in pending) { out[d] = 1; printf "%s", pending[d] > (work "/listed") } }
#-	}
#-	if (r[16] in out) return
#-	out[r[16]] = 1
#-	for (i = 6; i <= 17; i++) print r[i] > (work "/listed")
#-}
#-function remember(   i, s) { s = ""; for (i = 6; i <= 17; i++) s = s r[i] "\n"; pending[r[16]] = s }
#-function want(p, why) { print p "\t" why > (work "/take") }
#-function content(p, c, why,   w, k) {
#-	if (stands(p) || c == "secret") return
#-	if (r[15] + 0 > 1) { k = r[13] ":" r[14]; if (k in first && !(p in force)) return }
#-	if (p in force) w = force[p]
#-	else if (c == "made") w = why == "" ? "in no package" : why
#-	else if (c != "owned") return
#-	else if (sum[p] == "") w = "its package gives no sum for it"
#-	else if ((owner[p] "\t*") in whole) w = whole[owner[p] "\t*"]
#-	else if ((owner[p] "\t" archof[p]) in whole) w = whole[owner[p] "\t" archof[p]]
#-	else if (p in shared) w = "several packages bring it, or it was diverted"
#-	else { print sum[p] "\t" p > (work "/compare"); return }
#-	if (k != "") first[k] = 1
#-	want(p, w)
#-}
#-# settle decides on each candidate, as the listing names it.
#-function settle(   p, type, c, why, owned, isdir, kept) {
#-	printf "" > (work "/take"); printf "" > (work "/compare"); printf "" > (work "/settled-withheld"); printf "" > (work "/owners"); printf "" > (work "/sizes")
#-	file = work "/candidates"
#-	while (row()) if (r[6] == "d" && r[16] != "") remember()
#-	close(file)
#-	while (row()) {
#-		p = r[16]; type = r[6]; isdir = type == "d"; pclass = r[1]; preason = r[2]
#-		owned = p == "" || p in owner || isdir && pclass != "secret" && p in reached
#-		c = pclass; why = preason; kept = 1
#-		if (type == "f" && r[15] + 0 > 1 && (r[13] ":" r[14]) in hidden && c != "secret" && !stands(p)) { c = "secret"; why = "a hard link to a file that may not leave" }
#-		if (owned && isdir && why != "kernel") { c = "owned"; why = "" }
#-		else if (c == "noise" || c == "secret") { kept = owned || c == "secret" && type == "f" && stands(p) }
#-		else if (owned) { c = "owned"; why = "" }
#-		else { c = r[3]; why = r[4]; kept = c == "made" || r[5] == 1 || r[5] == 2 && ((up(p) in owner) || (up(p) in reached)) }
#-		if (p in force && c != "secret" && why !~ /^dropped by /) { emit(); if (type == "f") { print r[10] "\t" p > (work "/sizes"); content(p, c, why) }; continue }
#-		if (!kept && !(p in used)) { leave(p, type, r[10], c, why); continue }
#-		emit()
#-		if (kept && c != "secret" && c != "noise") { print "u" r[8] > (work "/owners"); print "g" r[9] > (work "/owners") }
#-		if (type != "f") continue
#-		print r[10] "\t" p > (work "/sizes")
#-		if (c == "secret" && why ~ /^a hard link to/) print p "\t" why > (work "/settled-withheld")
#-		if (kept) content(p, c, why)
#-	}
#-	sums(work "/left")
#-}
#%settleend

#%assign: whether a line sets a password, or an address holds one.
#-function words(s, to,   w, n, i) { n = split(s, w, " "); for (i = 1; i <= n; i++) to[w[i]] = 1 }
#-function distinct(s,   i, n, seen) { n = 0; split("", seen); for (i = 1; i <= length(s); i++) if (!(substr(s, i, 1) in seen)) { seen[substr(s, i, 1)] = 1; n++ }; return n }
#-function count(s, c) { return gsub(c, c, s) }
#-function trim(s) { gsub(/^[ \t\r\f\v]+|[ \t\r\f\v]+$/, "", s); return s }
#-function begins(s, list,   k) { for (k in list) if (index(s, k) == 1) return 1; return 0 }
#-function holds(s, list,   k) { for (k in list) if (index(s, k)) return 1; return 0 }
#-# a value that isn't a variable, a mark for none, a word of a manual
#-function realvalue(v,   quoted, q, low, bare) {
#-	v = trim(v); q = substr(v, 1, 1); quoted = length(v) > 1 && (q == "\"" || q == "'")
#-	if (quoted) { gsub(q == "\"" ? "^\"+|\"+$" : "^'+|'+$", "", v) } else sub(/[],;)}>]+$/, "", v)
#-	low = tolower(v); bare = low; gsub(/^[][<>{}()*_.!-]+|[][<>{}()*_.!-]+$/, "", bare)
#-	if (length(v) < 4 || low in placeholder || bare in placeholder) return 0
#-	if (index("$%<{@/~`(&|*[=\\:", substr(v, 1, 1)) || v ~ /[<>]/ || index(v, "${") || index(v, "{{") || index(v, "$(")) return 0
#-	if (distinct(v) < 3 || low ~ /^(your|file:|env:|https?:\/\/|\.\/)/ || low ~ /([_ ]here|\.so|\(\))$/ || v ~ except["identifier"]) return 0
#-	return count(v, " ") < 3 && (quoted || v !~ /[][(){}]/)
#-}
#-# a value that a machine made, or somebody who was told to use digits
#-function generated(v,   low, w) {
#-	v = trim(v); gsub(/^["']+|["']+$/, "", v); sub(/[],;)}>]+$/, "", v)
#-	if (length(v) < 8 || distinct(v) < 6 || v ~ /[ \t]/ || v ~ except["ordinary"]) return 0
#-	low = tolower(v)
#-	for (w in example) if (index(low, w) && (length(v) < 20 || w !~ /^[0-9]/)) return 0
#-	return v ~ /[0-9]/ && gsub(/[A-Za-z]/, "", v) > 1
#-}
#-function real(v) { return realvalue(v) && (kind == "setting" || generated(v)) }
#-function secretpass(v) {
#-	if (distinct(v) < 3 || tolower(v) in placeholder || v ~ except["someword"]) return 0
#-	return v !~ /[][$%{}<>*()\\|`]/ || v ~ /^[^$%{}<>]*(%[0-9A-Fa-f][0-9A-Fa-f][^$%{}<>]*)+$/
#-}
#-# settings, the administrator's own programs, or neither
#-function kindof(p,   name, e) {
#-	if (!begins(p, documented) && !holds(p, translated)) {
#-		if (begins(p, administered)) return "setting"
#-		name = p; sub(/.*\//, "", name); e = tolower(name); sub(/.*\./, "", e)
#-		if (index(name, ".") ? !(e in source) : p !~ /^usr\// || p ~ /^usr\/local\//) return "setting"
#-	}
#-	return begins(p, distributed) || holds(p, brought) ? "" : "program"
#-}
#-function comment(l) {
#-	if (length(l) > 2 && substr(l, 1, 1) == "*" && substr(l, 3, 1) ~ /[*0-9]/) return 0
#-	return l ~ /^(#|;|\/\/|\/\*|\* |--|<!--|%|"""|dnl |REM |')/
#-}
#-function found(why) { print why; exit }
#-function may(low, i,   w, n, k) {
#-	if (need[i] == "") return 1
#-	n = split(need[i], w, "|")
#-	for (k = 1; k <= n; k++) if (index(low, w[k])) return 1
#-	return 0
#-}
#-function anchored(re) { return re ~ /^\^/ ? re : "^" re }
#-# the value in what look i finds of a line; at and len say where all of it is
#-function value(line, i,   m) {
#-	len = 0
#-	if (!match(line, before[i] "(" val[i] ")" after[i])) return ""
#-	at = RSTART; len = RLENGTH; m = substr(line, at, len)
#-	if (!match(m, anchored(before[i]))) return m
#-	prefix = RLENGTH; m = substr(m, prefix + 1)
#-	return match(m, "^(" val[i] ")") ? substr(m, 1, RLENGTH) : m
#-}
#-function any(what, low, line,   i, v) {
#-	for (i = 1; i <= looks; i++) {
#-		if (kindoflook[i] != what || !may(low, i)) continue
#-		v = value(line, i)
#-		if (len && (what == "table" ? realvalue(v) && generated(v) : what == "header" ? distinct(v) > 6 : what == "registry" ? 1 : real(v))) return 1
#-	}
#-	return 0
#-}
#-function assigned(line,   rest, base, i, v, head, prior, tail, colon, name) {
#-	for (i = 1; i <= looks && kindoflook[i] != "assigns"; i++) ;
#-	rest = line; base = 0
#-	while ((v = value(rest, i)) != "" && len) {
#-		head = substr(rest, at, prefix); tail = substr(rest, at + len)
#-		prior = base + at > 1 ? substr(line, base + at - 1, 1) : ""
#-		whole = base + at == 1 && tail == ""
#-		base += at + len - 1; rest = tail
#-		if (prior ~ /[0-9A-Za-z_]/ || prior == "$" && substr(line, 1, 1) != "$") continue
#-		if (index(head, ",") && !index(line, "define(")) continue
#-		name = tolower(head); sub(/["'\] \t=:>,]+$/, "", name)
#-		if (name ~ /(by|com|mini|sur|tres|over|under|encom|multi|one|two|single|fast|low|high|band)pass$/) continue
#-		if (kind == "program" && v !~ /^["']/ && !whole) continue
#-		colon = head; sub(/[ \t]+$/, "", colon)
#-		if (colon ~ /:$/ && v !~ /^["']/ && tail ~ /[ \t]/ && v !~ /,$/) continue
#-		if (real(v)) return 1
#-	}
#-	return 0
#-}
#-function secretin(line, note,   low) {
#-	if (length(line) < 5) return
#-	low = tolower(line)
#-	if (any("table", low, line)) found("a list of passwords" note)
#-	if (any("given", low, line)) found("a password is given to a program" note)
#-	if (assigned(line) || any("form", low, line) || kind == "setting" && any("setting", low, line)) found("a password is set" note)
#-	if (any("header", low, line)) found("an authorization header" note)
#-	if (any("registry", low, line)) found("a registry's password" note)
#-}
#-function lookat(line, k, note,   i) {
#-	if (!hinted(tolower(line))) return
#-	line = trim(substr(line, 1, 65536)); kind = k
#-	if (comment(line)) { kind = "commented"; sub(/^[#;\/*!%"'<> \t-]+/, "", line); secretin(line, ", in a comment" note); return }
#-	if ((i = index(line, " #")) && count(substr(line, 1, i - 1), "\"") % 2 == 0 && !index(substr(line, 1, i - 1), "'")) {
#-		kind = "commented"; secretin(substr(line, i + 2), ", in a comment" note)
#-		line = substr(line, 1, i - 1); kind = k
#-	}
#-	secretin(line, note)
#-}
#-function hinted(low) {
#-	return holds(low, hint) || low ~ /:.*:.*:.*:/ || low ~ /^[^ \t]*\.[^ \t]*[ \t].*:/
#-}
#-BEGIN {
#-	while ((getline line < rules) > 0) {
#-		n = split(line, f, "\t")
#-		if (f[1] == "words" && f[2] == "placeholders") words(f[3], placeholder)
#-		if (f[1] == "words" && f[2] == "source") words(f[3], source)
#-		if (f[1] == "words" && f[2] == "examples") words(f[3], example)
#-		if (f[1] == "words" && f[2] == "hints") words(f[3], hint)
#-		if (f[1] == "words" && f[2] == "documented") words(f[3], documented)
#-		if (f[1] == "words" && f[2] == "translated") words(f[3], translated)
#-		if (f[1] == "words" && f[2] == "administered") words(f[3], administered)
#-		if (f[1] == "words" && f[2] == "distributed") words(f[3], distributed)
#-		if (f[1] == "words" && f[2] == "brought") words(f[3], brought)
#-		if (f[1] == "except") except[f[2]] = f[3]
#-		if (f[1] == "look") { kindoflook[++looks] = f[2]; need[looks] = f[3]; before[looks] = f[4]; val[looks] = f[5]; after[looks] = f[6] }
#-	}
#-	if (mode == "assign" && (own = kindof(path)) == "") exit
#-}
#-mode == "address" {
#-	v = $0; sub(/^.*:\/\/[^:]*:/, "", v); sub(/@.$/, "", v)
#-	if (secretpass(v)) found("an address with a password")
#-	next
#-}
#-{
#-	line = $0; plain = ""
#-	while (line != "") { # comments of XML
#-		if (hiding) {
#-			i = index(line, "-->")
#-			lookat(i ? substr(line, 1, i - 1) : line, "commented", ", in a comment")
#-			if (!i) { line = ""; break }
#-			line = substr(line, i + 3); hiding = 0
#-		}
#-		if (!(i = index(line, "<!--"))) break
#-		plain = plain substr(line, 1, i - 1); line = substr(line, i + 4); hiding = 1
#-	}
#-	plain = plain line
#-	lookat(plain, own, "")
#-}
#%assignend

#%rules
