# Which of them do matter, and of which the content is needed.
function dir(p,   at) {
	if (p == "." || p == "") return "."
	if (p in dirs) return dirs[p]
	at = step(dir(up(p)), last(p)); dirs[p] = at
	return at
}
function step(at, n,   c, e, k, i, t) {
	if (n == "" || n == ".") return at
	if (n == "..") return up(at)
	c = at == "." ? n : at "/" n
	if (!(c in link)) return c
	if (++hops > 40) { hops = 0; return c }
	used[c] = 1; t = link[c]
	if (t ~ /^\//) at = "."
	k = split(t, e, "/")
	for (i = 1; i <= k; i++) at = step(at, e[i])
	return at
}
function located(p,   d) { hops = 0; d = dir(up(p)); return d == "." ? last(p) : d "/" last(p) }
function followed(p) { hops = 0; return dir(p) }
function row(   i) { for (i = 1; i <= 17; i++) if ((getline r[i] < file) <= 0) return 0; return 1 }
function owns(p, pkg, arch, md5, removed,   real, d) {
	real = located(p); d = 0
	if (real in moved) { d = 1; if (by[real] != pkg) real = located(moved[real]) }
	if (real in link) { hops = 0; reached[dir(real)] = 1 }
	if (real in owner) shared[real] = 1
	else { owner[real] = pkg; archof[real] = arch; sum[real] = md5 }
	if (d || removed) shared[real] = 1
}
BEGIN {
	load(); people(); file = work "/candidates"
	while (row()) if (r[6] == "l") link[r[16]] = r[17]
	close(file)
	while ((getline line < (work "/hidden")) > 0) hidden[line] = 1
	while ((getline line < (work "/force")) > 0) { split(line, w, "\t"); force[w[1]] = w[2] }
	while ((getline line < (work "/whole")) > 0) { split(line, w, "\t"); whole[w[1] "\t" w[2]] = w[3] }
	while ((getline a < "var/lib/dpkg/diversions") > 0 && (getline b < "var/lib/dpkg/diversions") > 0 && (getline c < "var/lib/dpkg/diversions") > 0) {
		moved[located(substr(a, 2))] = substr(b, 2); by[located(substr(a, 2))] = c == ":" ? "" : c
	}
	packages()
	n = split("etc/os-release usr/lib/os-release etc/login.defs etc/default/locale etc/locale.conf etc/timezone etc/security/limits.conf", w, " ")
	for (i = 1; i <= n; i++) force[followed(w[i])] = "the package database, and what the host says of itself"
	settle()
}
# packages reads who owns what: the state and conffiles of status, lists and sums.
function packages(   line, name, arch, state, same, conf, k, w, multi) {
	if ((getline line < (info "/format")) > 0) multi = line + 0 == 1
	while ((getline line < "var/lib/dpkg/status") > 0) {
		if (line ~ /^Package: /) { name = substr(line, 10); arch = state = ""; same = 0; k = 0; split("", conf); inconf = 0 }
		else if (line ~ /^Architecture: /) arch = substr(line, 15)
		else if (line ~ /^Status: /) { split(line, w, " "); state = w[4] }
		else if (line ~ /^Multi-Arch: same/) same = 1
		else if (line ~ /^Conffiles:/) { inconf = 1; continue }
		if (inconf && line ~ /^ \//) conf[++k] = line
		else if (line !~ /^ /) inconf = 0
		if (line == "" && name != "") { package(name, arch, state, info "/" name (multi && same ? ":" arch : ""), conf, k); name = "" }
	}
	if (name != "") package(name, arch, state, info "/" name (multi && same ? ":" arch : ""), conf, k)
}
function package(name, arch, state, base, conf, k,   line, md5, i, p, w) {
	if (state == "not-installed" || state == "") return
	split("", md5)
	while ((getline line < (base ".md5sums")) > 0) md5[substr(line, 35)] = substr(line, 1, 32)
	close(base ".md5sums")
	for (i = 1; i <= k; i++) {
		p = conf[i]; sub(/ (obsolete|remove-on-upgrade)$/, "", p); sub(/ (obsolete|remove-on-upgrade)$/, "", p)
		w = p; sub(/.* /, "", w); sub(/ [^ ]*$/, "", p); p = substr(p, 3)
		md5[p] = w ~ /^[0-9a-f]+$/ && length(w) == 32 ? w : ""
		if (state == "config-files") owns(p, name, arch, md5[p], 1)
	}
	if (state == "config-files") return
	while ((getline line < (base ".list")) > 0) if (line != "/.") owns(substr(line, 2), name, arch, (substr(line, 2) in md5) ? md5[substr(line, 2)] : "")
	close(base ".list")
}
function emit(   i, d, k, e, a) {
	if (r[16] != "") {
		k = split(r[16], e, "/"); d = ""
		for (i = 1; i < k; i++) { d = i == 1 ? e[1] : d "/" e[i]; if (!(d in out) && d in pending) { out[d] = 1; printf "%s", pending[d] > (work "/listed") } }
	}
	if (r[16] in out) return
	out[r[16]] = 1
	for (i = 6; i <= 17; i++) print r[i] > (work "/listed")
}
function remember(   i, s) { s = ""; for (i = 6; i <= 17; i++) s = s r[i] "\n"; pending[r[16]] = s }
function want(p, why) { print p "\t" why > (work "/take") }
function content(p, c, why,   w, k) {
	if (stands(p) || c == "secret") return
	if (r[15] + 0 > 1) { k = r[13] ":" r[14]; if (k in first && !(p in force)) return }
	if (p in force) w = force[p]
	else if (c == "made") w = why == "" ? "in no package" : why
	else if (c != "owned") return
	else if (sum[p] == "") w = "its package gives no sum for it"
	else if ((owner[p] "\t*") in whole) w = whole[owner[p] "\t*"]
	else if ((owner[p] "\t" archof[p]) in whole) w = whole[owner[p] "\t" archof[p]]
	else if (p in shared) w = "several packages bring it, it was diverted, or its package was removed"
	else { print sum[p] "\t" p > (work "/compare"); return }
	if (k != "") first[k] = 1
	want(p, w)
}
# settle decides on each candidate, as the listing names it.
function settle(   p, type, c, why, owned, isdir, kept) {
	printf "" > (work "/take"); printf "" > (work "/compare"); printf "" > (work "/settled-withheld"); printf "" > (work "/owners"); printf "" > (work "/sizes")
	file = work "/candidates"
	while (row()) if (r[6] == "d" && r[16] != "") remember()
	close(file)
	while (row()) {
		p = r[16]; type = r[6]; isdir = type == "d"; pclass = r[1]; preason = r[2]
		owned = p == "" || p in owner || isdir && pclass != "secret" && p in reached
		c = pclass; why = preason; kept = 1
		if (type == "f" && r[15] + 0 > 1 && (r[13] ":" r[14]) in hidden && c != "secret" && !stands(p)) { c = "secret"; why = "a hard link to a file that may not leave" }
		if (owned && isdir && why != "kernel") { c = "owned"; why = "" }
		else if (c == "noise" || c == "secret") { kept = owned || c == "secret" && type == "f" && stands(p) }
		else if (owned) { c = "owned"; why = "" }
		else { c = r[3]; why = r[4]; kept = c == "made" || r[5] == 1 || r[5] == 2 && ((up(p) in owner) || (up(p) in reached)) }
		if (p in force && c != "secret" && why !~ /^dropped by /) { emit(); if (type == "f") { print r[10] "\t" p > (work "/sizes"); content(p, c, why) }; continue }
		if (!kept && !(p in used)) { leave(p, type, r[10], c, why); continue }
		emit()
		if (kept && c != "secret" && c != "noise") { print "u" r[8] > (work "/owners"); print "g" r[9] > (work "/owners") }
		if (type != "f") continue
		print r[10] "\t" p > (work "/sizes")
		if (c == "secret" && why ~ /^a hard link to/) print p "\t" why > (work "/settled-withheld")
		if (kept) content(p, c, why)
	}
	sums(work "/left")
}
