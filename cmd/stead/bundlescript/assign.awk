# Whether a line sets a password, or an address holds one.
function words(s, to,   w, n, i) { n = split(s, w, " "); for (i = 1; i <= n; i++) to[w[i]] = 1 }
function distinct(s,   i, n, seen) { n = 0; split("", seen); for (i = 1; i <= length(s); i++) if (!(substr(s, i, 1) in seen)) { seen[substr(s, i, 1)] = 1; n++ }; return n }
function count(s, c) { return gsub(c, c, s) }
function trim(s) { gsub(/^[ \t\r\f\v]+|[ \t\r\f\v]+$/, "", s); return s }
function begins(s, list,   k) { for (k in list) if (index(s, k) == 1) return 1; return 0 }
function holds(s, list,   k) { for (k in list) if (index(s, k)) return 1; return 0 }
# a value that isn't a variable, a mark for none, a word of a manual
function realvalue(v,   quoted, q, low, bare) {
	v = trim(v); q = substr(v, 1, 1); quoted = length(v) > 1 && (q == "\"" || q == "'")
	if (quoted) { gsub(q == "\"" ? "^\"+|\"+$" : "^'+|'+$", "", v) } else sub(/[],;)}>]+$/, "", v)
	low = tolower(v); bare = low; gsub(/^[][<>{}()*_.!-]+|[][<>{}()*_.!-]+$/, "", bare)
	if (length(v) < 4 || low in placeholder || bare in placeholder) return 0
	if (index("$%<{@/~`(&|*[=\\:", substr(v, 1, 1)) || v ~ /[<>]/ || index(v, "${") || index(v, "{{") || index(v, "$(")) return 0
	if (distinct(v) < 3 || low ~ /^(your|file:|env:|https?:\/\/|\.\/)/ || low ~ /([_ ]here|\.so|\(\))$/ || v ~ except["identifier"]) return 0
	return count(v, " ") < 3 && (quoted || v !~ /[][(){}]/)
}
# a value that a machine made, or somebody who was told to use digits
function generated(v,   low, w) {
	v = trim(v); gsub(/^["']+|["']+$/, "", v); sub(/[],;)}>]+$/, "", v)
	if (length(v) < 8 || distinct(v) < 6 || v ~ /[ \t]/ || v ~ except["ordinary"]) return 0
	low = tolower(v)
	for (w in example) if (index(low, w) && (length(v) < 20 || w !~ /^[0-9]/)) return 0
	return v ~ /[0-9]/ && gsub(/[A-Za-z]/, "", v) > 1
}
function real(v) { return realvalue(v) && (kind == "setting" || generated(v)) }
function secretpass(v) {
	if (distinct(v) < 3 || tolower(v) in placeholder || v ~ except["someword"]) return 0
	return v !~ /[][$%{}<>*()\\|`]/ || v ~ /^[^$%{}<>]*(%[0-9A-Fa-f][0-9A-Fa-f][^$%{}<>]*)+$/
}
# settings, the administrator's own programs, or neither
function kindof(p,   name, e) {
	if (!begins(p, documented) && !holds(p, translated)) {
		if (begins(p, administered)) return "setting"
		name = p; sub(/.*\//, "", name); e = tolower(name); sub(/.*\./, "", e)
		if (index(name, ".") ? !(e in source) : p !~ /^usr\// || p ~ /^usr\/local\//) return "setting"
	}
	return begins(p, distributed) || holds(p, brought) ? "" : "program"
}
function comment(l) {
	if (length(l) > 2 && substr(l, 1, 1) == "*" && substr(l, 3, 1) ~ /[*0-9]/) return 0
	return l ~ /^(#|;|\/\/|\/\*|\* |--|<!--|%|"""|dnl |REM |')/
}
function found(why) { print why; exit }
function may(low, i,   w, n, k) {
	if (need[i] == "") return 1
	n = split(need[i], w, "|")
	for (k = 1; k <= n; k++) if (index(low, w[k])) return 1
	return 0
}
function anchored(re) { return re ~ /^\^/ ? re : "^" re }
# the value in what look i finds of a line; at and len say where all of it is
function value(line, i,   m) {
	len = 0
	if (!match(line, before[i] "(" val[i] ")" after[i])) return ""
	at = RSTART; len = RLENGTH; m = substr(line, at, len)
	if (!match(m, anchored(before[i]))) return m
	prefix = RLENGTH; m = substr(m, prefix + 1)
	return match(m, "^(" val[i] ")") ? substr(m, 1, RLENGTH) : m
}
function any(what, low, line,   i, v) {
	for (i = 1; i <= looks; i++) {
		if (kindoflook[i] != what || !may(low, i)) continue
		v = value(line, i)
		if (len && (what == "table" ? realvalue(v) && generated(v) : what == "header" ? distinct(v) > 6 : what == "registry" ? 1 : real(v))) return 1
	}
	return 0
}
function assigned(line,   rest, base, i, v, head, prior, tail, colon, name) {
	for (i = 1; i <= looks && kindoflook[i] != "assigns"; i++) ;
	rest = line; base = 0
	while ((v = value(rest, i)) != "" && len) {
		head = substr(rest, at, prefix); tail = substr(rest, at + len)
		prior = base + at > 1 ? substr(line, base + at - 1, 1) : ""
		whole = base + at == 1 && tail == ""
		base += at + len - 1; rest = tail
		if (prior ~ /[0-9A-Za-z_]/ || prior == "$" && substr(line, 1, 1) != "$") continue
		if (index(head, ",") && !index(line, "define(")) continue
		name = tolower(head); sub(/["'\] \t=:>,]+$/, "", name)
		if (name ~ /(by|com|mini|sur|tres|over|under|encom|multi|one|two|single|fast|low|high|band)pass$/) continue
		if (kind == "program" && v !~ /^["']/ && !whole) continue
		colon = head; sub(/[ \t]+$/, "", colon)
		if (colon ~ /:$/ && v !~ /^["']/ && tail ~ /[ \t]/ && v !~ /,$/) continue
		if (real(v)) return 1
	}
	return 0
}
function secretin(line, note,   low) {
	if (length(line) < 5) return
	low = tolower(line)
	if (any("table", low, line)) found("a list of passwords" note)
	if (any("given", low, line)) found("a password is given to a program" note)
	if (assigned(line) || any("form", low, line) || kind == "setting" && any("setting", low, line)) found("a password is set" note)
	if (any("header", low, line)) found("an authorization header" note)
	if (any("registry", low, line)) found("a registry's password" note)
}
function lookat(line, k, note,   i) {
	if (!hinted(tolower(line))) return
	line = trim(substr(line, 1, 65536)); kind = k
	if (comment(line)) { kind = "commented"; sub(/^[#;\/*!%"'<> \t-]+/, "", line); secretin(line, ", in a comment" note); return }
	if ((i = index(line, " #")) && count(substr(line, 1, i - 1), "\"") % 2 == 0 && !index(substr(line, 1, i - 1), "'")) {
		kind = "commented"; secretin(substr(line, i + 2), ", in a comment" note)
		line = substr(line, 1, i - 1); kind = k
	}
	secretin(line, note)
}
# up to four lines that aren't empty, as one
function acrosslines(line,   i, text) {
	if (line == "") return
	kind = own; text = line
	for (i = 0; i < 4; i++) {
		if (i) { if (last[i] == "") break; text = last[i] " " text }
		if (any("across", tolower(text), text)) found("a password is set")
	}
	last[3] = last[2]; last[2] = last[1]; last[1] = substr(line, 1, 4096)
}
function hinted(low) {
	return holds(low, hint) || low ~ /:.*:.*:.*:/ || low ~ /^[^ \t]*\.[^ \t]*[ \t].*:/
}
BEGIN {
	while ((getline line < rules) > 0) {
		n = split(line, f, "\t")
		if (f[1] == "words" && f[2] == "placeholders") words(f[3], placeholder)
		if (f[1] == "words" && f[2] == "source") words(f[3], source)
		if (f[1] == "words" && f[2] == "examples") words(f[3], example)
		if (f[1] == "words" && f[2] == "hints") words(f[3], hint)
		if (f[1] == "words" && f[2] == "documented") words(f[3], documented)
		if (f[1] == "words" && f[2] == "translated") words(f[3], translated)
		if (f[1] == "words" && f[2] == "administered") words(f[3], administered)
		if (f[1] == "words" && f[2] == "distributed") words(f[3], distributed)
		if (f[1] == "words" && f[2] == "brought") words(f[3], brought)
		if (f[1] == "except") except[f[2]] = f[3]
		if (f[1] == "look") { kindoflook[++looks] = f[2]; need[looks] = f[3]; before[looks] = f[4]; val[looks] = f[5]; after[looks] = f[6] }
	}
	if (mode == "assign" && (own = kindof(path)) == "") exit
}
mode == "user" {
	v = $0; sub(/^.*:\/\//, "", v); sub(/(:|:x-oauth-basic)?@.$/, "", v)
	if (generated(v)) found("an address with a password")
	next
}
mode == "address" {
	v = $0; sub(/^.*:\/\/[^:]*:/, "", v); sub(/@.$/, "", v)
	if (secretpass(v)) found("an address with a password")
	next
}
{
	line = $0; plain = ""
	while (line != "") { # comments of XML
		if (hiding) {
			i = index(line, "-->")
			lookat(i ? substr(line, 1, i - 1) : line, "commented", ", in a comment")
			if (!i) { line = ""; break }
			line = substr(line, i + 3); hiding = 0
		}
		if (!(i = index(line, "<!--"))) break
		plain = plain substr(line, 1, i - 1); line = substr(line, i + 4); hiding = 1
	}
	plain = plain line
	lookat(plain, own, "")
	acrosslines(trim(plain))
}
