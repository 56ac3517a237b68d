package tools

import "strings"

// compareVersions orders versions as deb-version(7) says, like cmp.Compare. It takes any
// text, as dpkg does of what is installed. (go-deb-version, used elsewhere, takes 50 times
// as long and numbers only to 64 bits: BenchmarkVersions.)
func compareVersions(a, b string) int {
	if a == b {
		return 0
	}
	aEpoch, aRest := cutEpoch(a)
	bEpoch, bRest := cutEpoch(b)
	if c := comparePart(aEpoch, bEpoch); c != 0 {
		return c
	}
	aUp, aRevision := cutRevision(aRest)
	bUp, bRevision := cutRevision(bRest)
	if c := comparePart(aUp, bUp); c != 0 {
		return c
	}
	return comparePart(aRevision, bRevision)
}

func cutEpoch(v string) (epoch, rest string) {
	if before, after, ok := strings.Cut(v, ":"); ok {
		return before, after
	}
	return "", v
}

func cutRevision(v string) (upstream, revision string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, ""
}

// comparePart compares piece by piece, what isn't a number and what is in turn.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !isDigit(a[0]) || b != "" && !isDigit(b[0]) {
			if x, y := weight(a), weight(b); x != y {
				return sign(x - y)
			}
			a, b = a[1:], b[1:]
		}
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		x, y := digits(a), digits(b)
		if x != y {
			return sign(x - y)
		}
		if c := strings.Compare(a[:x], b[:y]); c != 0 {
			return c
		}
		a, b = a[x:], b[y:]
	}
	return 0
}

// weight is the rank of the first character: a tilde before the end, which digits stand
// for, too, then letters, then the rest.
func weight(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

func digits(s string) (n int) {
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
