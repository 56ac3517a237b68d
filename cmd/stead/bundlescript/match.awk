# Which rule a path falls under; the rules, and what belongs to people.
function add(list, key, i) { list[key] = list[key] " " i }
function last(p) { sub(/.*\//, "", p); return p }
function glob(p,   re, i, c, e) {
	sub(/^\//, "", p); sub(/\/$/, "", p); sub(/\/\*\*$/, "", p); re = ""
	for (i = 1; i <= length(p); i++) {
		c = substr(p, i, 1)
		if (substr(p, i, 3) == "**/") { re = re "(.*/)?"; i += 2 }
		else if (substr(p, i, 2) == "**") { re = re ".*"; i++ }
		else if (c == "*") re = re "[^/]*"
		else if (c == "?") re = re "[^/]"
		else if (c == "[" && (e = index(substr(p, i), "]")) > 2) { re = re (substr(p, i + 1, 1) == "!" ? "[^/" substr(p, i + 2, e - 2) : substr(p, i, e)); i += e - 1 }
		else if (c ~ /[A-Za-z0-9\/_ -]/) re = re c
		else re = re "\\" c
	}
	return "^" re "(/.*)?$"
}
function literal(p) { sub(/^\//, "", p); sub(/[*?[+!].*/, "", p); sub(/\/$/, "", p); return p }
function load(   line, f, n, i, t, end) {
	while ((getline line < (work "/rules")) > 0) {
		n = split(line, f, "\t")
		if (f[1] == "keep") { keep[++keeps] = glob(f[2]); keeptext[keeps] = f[2] }
		if (f[1] == "drop") { drop[++drops] = glob(f[2]); droptext[drops] = f[2] }
		if (f[1] != "secret" && f[1] != "noise" && f[1] != "made") continue
		t = f[1] == "made" ? "m" : "s"; i = ++rules
		class[i] = f[1]; nodirs[i] = f[2] + 0; reason[i] = f[n]; body[i] = f[4]
		if (f[3] == "P" && !((t f[4]) in path)) path[t f[4]] = i
		if (f[3] == "B" && !((t f[4]) in below)) below[t f[4]] = i
		if (f[3] == "A") add(name, t last(f[4]), i)
		if (f[3] == "W") add(within, t last(f[4]), i)
		if (f[3] == "E") { end = f[4]; sub(/.*\./, ".", end); add(ext, t end, i) }
		if (f[3] == "G") { add(globs, t f[4], i); body[i] = f[5] }
		given[i] = f[3] == "P" || f[3] == "B" ? f[4] : f[3] == "G" ? literal(substr(f[5], 2)) : ""
	}
}
function ends(p, e,   at) { at = length(p) - length(e); return at >= 0 && substr(p, at + 1) == e && (at == 0 || substr(p, at, 1) == "/") }
function better(i, isdir) { if (i && (!best || i < best) && !(isdir && nodirs[i])) best = i }
function find(t, p, isdir,   n, e, i, k, m, list, prefix, x) {
	best = 0
	if ((t p) in path) better(path[t p], isdir)
	n = split(p, e, "/"); prefix = ""
	for (i = 1; i <= n; i++) {
		prefix = i == 1 ? e[1] : prefix "/" e[i]
		if (i < n && (t prefix) in below) better(below[t prefix], isdir)
		if ((t e[i]) in within) { m = split(within[t e[i]], list, " "); for (k = 1; k <= m; k++) if (ends(prefix, body[list[k]])) better(list[k] + 0, isdir) }
	}
	if ((t e[n]) in name) { m = split(name[t e[n]], list, " "); for (k = 1; k <= m; k++) if (ends(p, body[list[k]])) better(list[k] + 0, isdir) }
	if (index(e[n], ".")) {
		x = e[n]; sub(/.*\./, ".", x)
		if ((t x) in ext) { m = split(ext[t x], list, " "); for (k = 1; k <= m; k++) if (substr(e[n], length(e[n]) - length(body[list[k]]) + 1) == body[list[k]]) better(list[k] + 0, isdir) }
	}
	if ((t e[1]) in globs) { m = split(globs[t e[1]], list, " "); for (k = 1; k <= m; k++) if (p ~ body[list[k]]) better(list[k] + 0, isdir) }
	return best
}
# secret or noise by a path alone: pclass and preason
function bypath(p, isdir,   i, k, l) {
	pclass = preason = ""
	for (k = 1; k <= drops; k++) if (p ~ drop[k]) { pclass = "noise"; preason = "dropped by " droptext[k]; return }
	i = find("s", p, isdir)
	if (!i) return
	for (k = 1; k <= keeps; k++)
		if (p ~ keep[k]) {
			l = literal(keeptext[k])
			if (class[i] != "secret" || keeptext[k] == "/" p || given[i] != "" && index(l, given[i]) == 1) return
		}
	pclass = class[i]; preason = reason[i]
}
# made or state where no package owns a path: qclass, qreason, and whether its folder is
# kept (1), or is where a package owns the one around it (2)
function place(p, type,   e, n, i, k) {
	qclass = "state"; qkeep = 0
	if (type == "s") { qreason = "a socket lives as long as its program"; return }
	if (type == "c" || type == "b") { qreason = "a device node belongs to the machine"; return }
	for (k = 1; k <= keeps; k++) if (p ~ keep[k]) { qclass = "made"; qreason = "kept by " keeptext[k]; return }
	n = split(p, e, "/")
	if (n == 1 && type == "l") { qclass = "made"; qreason = "a link of the root"; return }
	if ((e[1] == "opt" || e[1] == "usr") && n > 2 && e[2] == "home" || e[1] == "opt" && n > 3 && e[3] == "home") { qreason = "a home"; return }
	if (e[1] ~ /^(usr|bin|sbin|etc|opt)$/ || e[1] ~ /^lib/) { qclass = "made"; qreason = ""; return }
	if (i = find("m", p, type == "d")) { qclass = "made"; qreason = reason[i]; return }
	if (e[1] == "home" || e[1] == "root") qreason = "people's files"
	else if (e[1] == "tmp" || e[1] == "run") qreason = "temporary"
	else if (e[1] ~ /^(srv|var|mnt|media)$/) qreason = "data"
	else qreason = "outside of where software lives"
	if (type == "d" && n == 1 && e[1] ~ /^(boot|dev|home|media|mnt|proc|root|run|srv|sys|tmp|var)$/) qkeep = 1
	if (type == "d" && e[1] == "var" && n > 1 && p !~ /^var\/(cache\/man|tmp|lib\/private|lib\/apt|cache\/apt|mail)\//) qkeep = 2
}
function stands(p) { return p ~ /^etc\/(machine-id|hostname|passwd|shadow|group|gshadow|subuid|subgid)$/ || p == "var/lib/dbus/machine-id" }
function people(   line, f, low, high, w) {
	low = 1000; high = 60000
	while ((getline line < "etc/login.defs") > 0) { split(line, w, /[ \t]+/); if (w[1] == "UID_MIN" && w[2] + 0 > 0) low = w[2] + 0; if (w[1] == "UID_MAX" && w[2] + 0 > 0) high = w[2] + 0 }
	while ((getline line < "etc/passwd") > 0) if (split(line, f, ":") == 7 && (f[3] + 0 >= low && f[3] + 0 <= high || f[3] + 0 > 65535)) who[f[1]] = 1
}
function shown(p,   e, n, i, s) {
	n = split(p, e, "/"); s = ""
	for (i = 1; i <= n; i++) {
		if (i > 1 && i <= 4 && e[i - 1] == "home" && (i == 2 || e[1] == "opt" || e[1] == "usr")) return s
		s = s (i > 1 ? "/" : "") (e[i] in who ? "…" : e[i])
	}
	return s
}
function up(p) { return sub(/\/[^\/]*$/, "", p) ? p : "." }
function leave(p, type, size, c, r,   e, n, at) {
	if (type == "d") return
	if (c == "secret" || c == "state" && type ~ /[scb]/) at = p
	else { at = up(p); n = split(at, e, "/"); if (n > 3) at = e[1] "/" e[2] "/" e[3] }
	at = c "\t" r "\t" shown(at); files[at]++; bytes[at] += type == "f" ? size : 0
}
function sums(file,   k) { for (k in files) printf "%s\t%d\t%.0f\n", k, files[k], bytes[k] >> file }
