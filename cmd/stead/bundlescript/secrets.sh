# What a secret is. Fast searches of everything find what is looked at closely, one
# file at a time.

awk -F"$tab" '$1 == "shape" { gsub(/[].$*+?(){}|\\^[]/, "\\\\&", $2); print ($2 ~ /\// ? "" : "(^|[^0-9A-Za-z_])") $2 $3 }' "$work/rules" >"$work/shapes"
awk -F"$tab" '$1 == "words" && $2 == "hints" { gsub(/ /, "\n", $3); print $3 }' "$work/rules" >"$work/hints"
awk -F"$tab" '$1 == "words" && $2 == "encoded" { gsub(/ /, "\n", $3); print $3 }' "$work/rules" >"$work/encoded"
address='[0-9A-Za-z_]://[^/[:space:]:@"'"'"'<>]*:[^/[:space:]@"'"'"'<>]+@[][A-Za-z0-9._-]'
user='https?://[A-Za-z0-9_-]{16,}(:|:x-oauth-basic)?@[][A-Za-z0-9._-]'
bytes=$(printf '\037\213\010|BZh|\3757zXZ|[(]\265\057\375|PK\003\004|\005[\001\002]|\376\355\376\355|\316\316\316\316|\377\376|\376\377')

# suspects reads names, and writes those of files in which there may be something.
suspects() {
	sed 's/^/.\//' | unlines >"$work/suspects0"
	among() { xargs -0 grep -alZ "$@" 2>/dev/null <"$work/suspects0" | lines || :; }
	{
		among -E -e 'BEGIN .*(PRIVATE KEY|OpenVPN Static key)' -e 'PuTTY-User-Key-File-'
		among -E -f "$work/shapes"
		among -E -e "$address" -e "$user"
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
	[ -n "$why" ] || why=$(grep -aoE "$user" "$work/text$depth" | awk -v rules="$work/rules" -v mode=user -f "$work/assign.awk")
	# PRIVATE KEY in base64, by how many bytes are before it.
	if [ -z "$why" ] && grep -aqF -f "$work/encoded" "$work/text$depth" &&
		sed 's/\\n//g' "$work/text$depth" | tr -d ' \t\r\n' | grep -aqE 'UFJJVkFURSBLRV|QUklWQVRFIEtFW|BSSVZBVEUgS0VZ|T3BlblZQTiBTdGF0a|9wZW5WUE4gU3RhdGlj|PcGVuVlBOIFN0YXRpY'; then
		why="a private key in base64"
	fi
	[ -n "$why" ] || why=$(awk -v rules="$work/rules" -v path="$2" -v mode=assign -f "$work/assign.awk" "$work/text$depth")
	[ -z "$why" ] || printf '%s\n' "$why"
}
