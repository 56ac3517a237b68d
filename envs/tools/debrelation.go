package tools

import (
	"errors"
	"fmt"
	"strings"
)

// A relation is one "libc6:any (>= 2.31)" of a field: deb-control(5).
type relation struct {
	name    string
	arch    string // the qualifier: "", "any", "native" or an architecture
	op      string // "", "<<", "<=", "=", ">=" or ">>"
	version string
}

func (r relation) String() string {
	s := r.name
	if r.arch != "" {
		s += ":" + r.arch
	}
	if r.op != "" {
		s += " (" + r.op + " " + r.version + ")"
	}
	return s
}

// spell writes alternatives as the field does.
func spell(alternatives []relation) string {
	parts := make([]string, len(alternatives))
	for i, r := range alternatives {
		parts[i] = r.String()
	}
	return strings.Join(parts, " | ")
}

// allows reports whether a version is one that the relation means.
func (r relation) allows(version string) bool {
	if r.op == "" {
		return true
	}
	c := compareVersions(version, r.version)
	switch r.op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	}
	return c > 0
}

// Bounds of one field; the largest in Debian has about 1,500 relations.
const (
	maxField     = 1 << 20
	maxRelations = 20000
)

// parseRelations reads a field: what must all hold, each with its alternatives. Those that
// are for other architectures or for build profiles, which only source packages have, are
// left out.
func parseRelations(field, arch string) (list [][]relation, err error) {
	if len(field) > maxField {
		return nil, fmt.Errorf("the field has %d bytes", len(field))
	}
	count := 0
	for all := range strings.SplitSeq(field, ",") {
		if blank(all) {
			continue // apt takes a comma at the end
		}
		var alternatives []relation
		for one := range strings.SplitSeq(all, "|") {
			if count++; count > maxRelations {
				return nil, fmt.Errorf("the field has more than %d relations", maxRelations)
			}
			r, applies, err := parseRelation(one, arch)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", strings.TrimSpace(one), err)
			}
			if applies {
				alternatives = append(alternatives, r)
			}
		}
		if len(alternatives) > 0 {
			list = append(list, alternatives)
		}
	}
	return list, nil
}

const space = " \t\r\n"

func blank(s string) bool { return strings.Trim(s, space) == "" }

// parseRelation reads "name[:arch] [(op version)] [[arch …]] [<profile …> …]".
func parseRelation(s, arch string) (r relation, applies bool, err error) {
	s = strings.Trim(s, space)
	end := strings.IndexAny(s, space+"([<")
	if end < 0 {
		end = len(s)
	}
	r.name, r.arch, _ = strings.Cut(s[:end], ":")
	qualified := strings.Contains(s[:end], ":")
	if !isName(r.name) || qualified && !isName(r.arch) {
		return r, false, errors.New("this is no name of a package")
	}
	rest := strings.TrimLeft(s[end:], space)
	if inside, after, ok := bracketed(rest, '(', ')'); ok {
		if r.op, r.version, err = parseVersion(inside); err != nil {
			return r, false, err
		}
		rest = after
	}
	applies = true
	if inside, after, ok := bracketed(rest, '[', ']'); ok {
		applies, rest = forArchitecture(strings.Fields(inside), arch), after
	}
	profiles, met := 0, 0
	for {
		inside, after, ok := bracketed(rest, '<', '>')
		if !ok {
			break
		}
		if profiles++; withoutProfiles(strings.Fields(inside)) {
			met++
		}
		rest = after
	}
	if rest != "" {
		return r, false, fmt.Errorf("%q is none of a relation", rest)
	}
	return r, applies && (profiles == 0 || met > 0), nil
}

func bracketed(s string, left, right byte) (inside, after string, ok bool) {
	if s == "" || s[0] != left {
		return "", s, false
	}
	end := strings.IndexByte(s, right)
	if end < 0 {
		return "", s, false
	}
	return s[1:end], strings.TrimLeft(s[end+1:], space), true
}

func parseVersion(s string) (op, version string, err error) {
	s = strings.Trim(s, space)
	end := 0
	for end < len(s) && strings.IndexByte("<>=", s[end]) >= 0 {
		end++
	}
	switch op = s[:end]; op {
	case "<", ">": // the old spelling of these two
		op += "="
	case "<<", "<=", "=", ">=", ">>":
	default:
		return "", "", fmt.Errorf("%q compares no versions", s)
	}
	version = strings.TrimLeft(s[end:], space)
	if version == "" || strings.ContainsAny(version, space+"()|,<>=[]") {
		return "", "", fmt.Errorf("%q is no version", version)
	}
	return op, version, nil
}

// isName is generous: what dpkg took is no package's fault.
func isName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case isDigit(c), c|0x20 >= 'a' && c|0x20 <= 'z', i > 0 && strings.IndexByte("+-._", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// forArchitecture reports whether a list like "amd64 !i386 linux-any" means arch.
func forArchitecture(list []string, arch string) bool {
	negative := false
	for _, a := range list {
		name, not := strings.CutPrefix(a, "!")
		negative = negative || not
		if name == arch || name == "any" || name == "linux-any" || name == "any-"+arch {
			return !not
		}
	}
	return negative
}

// withoutProfiles reports whether a list of build profiles is met where none is active.
func withoutProfiles(list []string) bool {
	for _, p := range list {
		if !strings.HasPrefix(p, "!") {
			return false
		}
	}
	return true
}
