# Of each path of the walk, whether it can matter.
BEGIN {
	FS = "\n"; load(); people()
	while ((getline line < (work "/force")) > 0) { sub(/\t.*/, "", line); force[line] = 1; while ((line = up(line)) != ".") around[line] = 1 }
	cmd = "cat var/lib/dpkg/info/*.list var/lib/dpkg/diversions 2>/dev/null"
	while ((cmd | getline line) > 0) { n = split(line, e, "/"); for (i = n; i > 1; i--) { if (e[i] in names) break; names[e[i]] = 1 } }
	close(cmd)
}
{ f[NR % 12] = $0 }
NR % 12 == 0 {
	p = f[11]; type = f[1]; isdir = type == "d"
	if (skip != "" && p == skip) next
	base = p; sub(/.*\//, "", base)
	pclass = preason = qclass = qreason = ""; qkeep = 0
	if (p != "") { bypath(p, isdir); if (pclass == "") place(p, type) }
	if (f[10] + 0 > 1 && type == "f" && f[5] + 0 > 0 && (pclass == "secret" || stands(p))) print f[8] ":" f[9] > (work "/hidden")
	ok = p == "" || base in names || p in force || isdir && p in around
	if (!ok && pclass == "secret") ok = type == "f" && stands(p)
	else if (!ok && pclass == "") ok = qclass == "made" || qkeep == 1 || qkeep == 2 && up(p) != "." && (last(up(p)) in names)
	if (!ok) { leave(p, type, f[5], pclass == "" ? qclass : pclass, pclass == "" ? qreason : preason); next }
	print pclass; print preason; print qclass; print qreason; print qkeep
	for (i = 1; i <= 11; i++) print f[i]
	print f[0]
}
END { sums(work "/left") }
