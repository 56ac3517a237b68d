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
	sed -n '6,13s/^# \{0,3\}//p' "$0" >&2
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

for part in rules secrets.sh match.awk classify.awk settle.awk assign.awk; do
	sed -n "/^#% $part\$/,/^#% end\$/s/^#-//p" "$self" >"$work/$part"
done
printf '%s' "$keep" | sed 's/^/keep	/' >>"$work/rules"
printf '%s' "$drop" | sed 's/^/drop	/' >>"$work/rules"
printf '%s' "$with" | sed 's/^/with	/' >>"$work/rules"
. "$work/secrets.sh"
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
mine=
case $work in "${root%/}"/*) mine=./${work#"${root%/}"/} ;; esac
{ find . -path "$mine" -prune -o -name "*$one*" -prune -o \( "$@" \) -prune -printf "$fields" -o -printf "$fields" 2>"$work/errors" || :; } | lines >"$work/walk"
find . \( "$@" \) -prune -o -name "*$one*" -prune -printf '%P\0' 2>/dev/null | lines | tr '\001' '?' |
	sed "s/\$/${tab}a byte in its name is more than this script can tell/" >"$work/unlisted"
sed -n "s/^find: [^.]*\.\/\(.*\)[^a-zA-Z0-9]*: \([A-Z].*\)\$/\1${tab}\2/p" "$work/errors" |
	sed "s/['\`\"]${tab}/${tab}/" | awk -F"$tab" '{ print $1 "\t" tolower(substr($2, 1, 1)) substr($2, 2) }' >>"$work/unlisted"
skip=
case $out in "${root%/}"/*) skip=${out#"${root%/}"/} ;; esac

awk -v work="$work" -v skip="$skip" -f "$work/match.awk" -f "$work/classify.awk" "$work/walk" >"$work/candidates"
rm "$work/walk"
touch "$work/left"
awk -v work="$work" -v info="$info" -f "$work/match.awk" -f "$work/settle.awk"

# 4. Names and targets of links may hold secrets too: such a path is listed as a file that
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
	{ sum = $0; esc = sub(/^\\/, "", sum); path = substr(sum, 37); sum = substr(sum, 1, 32); if (esc) { gsub(/\\\\/, "\002", path); gsub(/\\n/, "\001", path); gsub(/\002/, "\\", path) }
	  if (path in want) { if (want[path] == sum) print path > (work "/unchanged"); else print path "\tanother content than the package'"'"'s" > (work "/more"); delete want[path] } }
	END { for (p in want) print p "\tit could not be read" > (work "/unreadable") }'
touch "$work/unchanged" "$work/more" "$work/unreadable"
sort -o "$work/unchanged" "$work/unchanged"
cat "$work/take" "$work/more" | sort -t"$tab" -k1,1 -s | awk -F"$tab" '$1 != last { print; last = $1 }' >"$work/planned"

if [ -n "$list" ]; then
	for f in etc/passwd etc/group; do
		[ ! -f "$f" ] || printf '%s\tpeople stay on the host\n' "$f" >>"$work/planned"
	done
	awk -F"$tab" 'FILENAME ~ /sizes$/ { size[$2] = $1; next } { printf "%12d  /%s  %s\n", size[$1], $1, $2; n[$2]++; sum[$2] += size[$1] }
	END { for (r in n) printf "%12d bytes in %5d files: %s\n", sum[r], n[r], r }' "$work/sizes" "$work/planned" | tr '\001\033' '??'
	exit 0
fi

# 6. Accounts go in without people, addresses of archives without passwords.

instead() { # PATH REASON, content from standard input
	mkdir -p "$work/instead/$(dirname "$1")"
	cat >"$work/instead/$1"
	printf '%s\t%s\n' "$1" "$2" >>"$work/replaced"
	printf '%s\t%s\n' "$1" "$(wc -c <"$work/instead/$1")" >>"$work/resized"
}
: >"$work/replaced"
: >"$work/resized"
accounts='
function person(id, low, high) { return id + 0 >= low && id + 0 <= high || id + 0 > 65535 }
function mark(s) { return s ~ /^(\*|!|!!|x)$/ ? s : "x" }
function comment(s, id, shell) {
	sub(/.*\//, "", shell); sub(/[ \t\r]+$/, "", shell)
	if (id + 0 >= 100 && shell !~ /^(nologin|false|sync|halt|shutdown)?$/) return ""
	sub(/,.*/, "", s)
	return s
}
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
	!person($3, limit["UID_MIN"], limit["UID_MAX"]) { print $1 ":" mark($2) ":" $3 ":" $4 ":" comment($5, $3, $7) ":" $6 ":" $7; next }
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
	while ((getline < (work "/replaced")) > 0) why[$1] = $2
	while ((getline < (work "/resized")) > 0) size[$1] = $2
}
{ line = $0; esc = sub(/^\\/, "", line); path = substr(line, 69)
  if (esc) { gsub(/\\\\/, "\002", path); gsub(/\\n/, "\001", path); gsub(/\002/, "\\", path) }
  if (!(path in why)) next
  shown = path; gsub(/\\/, "&&", shown); gsub(/\001/, "\\n", shown); gsub(/\t/, "\\t", shown); gsub(/\r/, "\\r", shown)
  print substr(line, 1, 64) "\t" size[path] "\t" why[path] "\t" shown; had[path] = 1; sum += size[path]; files++ }
END {
	for (p in why) if (!(p in had)) print p > (work "/lost")
	print files + 0 " files of " sum + 0 " bytes" > (work "/total")
}' >"$work/manifest"
touch "$work/lost"
awk -F"$tab" 'FILENAME ~ /withheld$/ { w[$1] = 1; next } !($1 in w) { print $1 "\tit could not be read" }' "$work/withheld" "$work/lost" >>"$work/unreadable"
awk -F"$tab" 'FILENAME ~ /lost$/ { w[$1] = 1; next } !($1 in w) { print $1 }' "$work/lost" "$work/sent" | sed 's/^/.\//' | unlines >"$work/sent0"
cut -f1 "$work/replaced" | sed 's/^/.\//' | unlines >"$work/replaced0"
mkdir -p "$work/instead" "$work/b"
{
	echo "format 1"
	echo "maker stead-bundle.sh"
	if [ "$root" = / ]; then
		echo "kernel $(uname -r)"
		echo "version $(cat /proc/version)"
		for symbols in /proc/kallsyms "/boot/System.map-$(uname -r)" "/lib/modules/$(uname -r)/System.map"; do
			calls=$(sed -n 's/^[^ ]* [Tt] \(_*[aimrx]*[0-9]*_*[acmopt_]*[sS]y[sS][0-9]*_[a-z0-9_]*\)$/call \1/p' "$symbols" 2>/dev/null) || continue
			case $calls in *_read*) printf '%s\n' "$calls" && break ;; esac
		done
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
