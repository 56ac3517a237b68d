package pkgdb

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// maxList bounds a list of packages, in bytes; 3,000 packages take 500 kB.
const maxList = 64 << 20

// TruncatedError says that a list doesn't hold whole names and versions: dpkg cuts
// them to the width of the terminal.
type TruncatedError struct {
	Line int
	What string
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("line %d: %s: the list was cut to the width of a terminal", e.Line, e.What)
}

// Hint says how to make a list that is whole.
func (e *TruncatedError) Hint() string {
	return `make it again on the host: COLUMNS=500 dpkg -l | cat, ` +
		`or dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\t${Status}\n'`
}

// ListError names the line of a list that makes no sense.
type ListError struct {
	Line int
	What string
}

func (e *ListError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.What) }

// Hint says what a list is.
func (e *ListError) Hint() string {
	return "a list is the output of dpkg -l or of dpkg-query -W, whole and as it was written"
}

// DpkgList parses the output of dpkg -l, or of dpkg-query -W: name and version in
// columns, then architecture and status in any order where they were asked for. What
// the list doesn't tell of a package (its architecture) is "". Packages that are only
// known to dpkg are left out; of all others State and Want are as in a database.
func DpkgList(r io.Reader) (*snapshot.Database, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxList+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxList {
		return nil, fmt.Errorf("it is larger than %d bytes", maxList)
	}
	l := &dpkgList{seen: map[key]int{}}
	text := strings.TrimPrefix(string(content), "\ufeff")
	table, begins := isTable(text)
	for n, line := range numbered(text) {
		line = strings.TrimRight(line, " \r\n")
		switch {
		case line == "" || table && n <= begins:
			if strings.HasPrefix(line, "+++-") {
				err = l.header(n, line)
			}
		case strings.IndexByte(line, 0) >= 0 || len(line) > maxLine:
			return nil, &ListError{n, "it is no text"}
		case table:
			err = l.row(n, line)
		default:
			err = l.query(n, line)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(l.packages) == 0 {
		return nil, &ListError{1, "there is no package in the list"}
	}
	if err := l.whole(); err != nil {
		return nil, err
	}
	return l.database(), nil
}

// numbered yields the lines of a text, counted from one.
func numbered(text string) func(func(int, string) bool) {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.Lines(text) {
			if n++; !yield(n, line) {
				return
			}
		}
	}
}

// isTable tells dpkg -l from dpkg-query -W, and after which line its rows begin: the
// words of its header are in the language of whoever ran it.
func isTable(text string) (table bool, begins int) {
	first := true
	for n, line := range numbered(text) {
		if strings.HasPrefix(line, "+++-") {
			return true, n
		}
		if strings.TrimSpace(line) != "" {
			if _, ok := rowState(line); ok && first {
				table = true
			}
			first = false
		}
	}
	return table, 0
}

// dpkgList is a list while it is read.
type dpkgList struct {
	packages []snapshot.Package
	lines    []int       // of packages
	seen     map[key]int // line by name and architecture

	widths  []int // of the columns, as the header has them
	offsets []int // where the columns begin, as the rows have them; nil where they differ
	apart   bool  // they differ
}

// header reads the widths of the columns. The description's is never less than 33, or
// 44 where there are three.
func (l *dpkgList) header(n int, line string) error {
	for part := range strings.SplitSeq(strings.TrimPrefix(line, "+++-"), "-") {
		if strings.Trim(part, "=") != "" {
			return &ListError{n, "it is no header of dpkg -l"}
		}
		l.widths = append(l.widths, len(part))
	}
	if k := len(l.widths); k < 3 || k == 3 && l.widths[2] < 44 || k == 4 && l.widths[3] < 33 {
		return &TruncatedError{n, "the header isn't whole"}
	}
	return nil
}

// rowStates are the letters of dpkg -l's second column.
var rowStates = map[byte]string{'n': "not-installed", 'c': "config-files", 'H': "half-installed", 'U': "unpacked",
	'F': "half-configured", 'W': "triggers-awaited", 't': "triggers-pending", 'i': "installed"}

var rowWants = map[byte]string{'u': "unknown", 'i': "install", 'h': "hold", 'r': "deinstall", 'p': "purge"}

// rowState reads the three letters that a row begins with.
func rowState(line string) (p snapshot.Package, ok bool) {
	if len(line) < 5 || line[3] != ' ' || strings.IndexByte(" RHX", line[2]) < 0 {
		return p, false
	}
	p = snapshot.Package{Want: rowWants[line[0]], State: rowStates[line[1]], Broken: line[2] == 'R' || line[2] == 'X'}
	return p, p.Want != "" && p.State != ""
}

// row reads a line of dpkg -l.
func (l *dpkgList) row(n int, line string) error {
	p, ok := rowState(line)
	if !ok {
		return &ListError{n, fmt.Sprintf("%.40q is no row of dpkg -l", line)}
	}
	if p.State == "not-installed" {
		return nil
	}
	words, at := columns(line[4:])
	hasArch := len(l.widths) == 4 || len(l.widths) != 3 && len(words) > 2 && knownArchitecture(words[2])
	switch {
	case len(words) < 2 || len(l.widths) == 4 && (len(words) < 3 || len(words) == 3 && !knownArchitecture(words[2])):
		return &TruncatedError{n, fmt.Sprintf("%.60q has no version or no architecture", line)}
	case hasArch:
		p.Architecture = words[2]
	}
	p.Name, p.Version = words[0], words[1]
	if at = at[:min(len(at), 4)]; !hasArch {
		at = at[:min(len(at), 3)]
	}
	if l.offsets == nil {
		l.offsets = at
	}
	common := min(len(at), len(l.offsets))
	l.apart = l.apart || !slices.Equal(l.offsets[:common], at[:common])
	if len(at) > len(l.offsets) { // a row without a description came first
		l.offsets = at
	}
	return l.add(n, p)
}

// columns are the words of a line and where they begin.
func columns(line string) (words []string, at []int) {
	for i := 0; i < len(line) && len(words) < 4; {
		if line[i] == ' ' || line[i] == '\t' {
			i++
			continue
		}
		end := strings.IndexAny(line[i:], " \t")
		if end < 0 {
			end = len(line) - i
		}
		words, at = append(words, line[i:i+end]), append(at, i)
		i += end
	}
	return words, at
}

// query reads a line of dpkg-query -W.
func (l *dpkgList) query(n int, line string) error {
	var fields []string
	if strings.Contains(line, "\t") {
		fields = strings.Split(line, "\t")
	} else {
		fields = strings.SplitN(line, " ", 4)
	}
	p := snapshot.Package{Name: strings.TrimSpace(fields[0]), Want: "install", State: "installed"}
	if len(fields) < 2 || strings.TrimSpace(fields[1]) == "" {
		if strings.Contains(line, "\t") || len(fields) > 1 {
			return nil // dpkg knows the name alone
		}
		return &ListError{n, fmt.Sprintf("%.40q has no version", line)}
	}
	p.Version = strings.TrimSpace(fields[1])
	for _, f := range fields[2:] {
		f = strings.TrimRight(f, " ")
		words := strings.Fields(f)
		switch {
		case len(words) == 0:
		case len(words) == 3 && wants[words[0]]:
			if _, ok := states[words[2]]; !ok {
				return &ListError{n, fmt.Sprintf("unknown state %.40q", words[2])}
			}
			p.Want, p.State, p.Broken = words[0], words[2], words[1] != "ok"
		case abbreviation(f, &p):
		case len(words) == 1 && architectureName(f) && p.Architecture == "":
			p.Architecture = f
		default:
			return &ListError{n, fmt.Sprintf("%.40q is neither an architecture nor a status", f)}
		}
	}
	if p.State == "not-installed" {
		return nil
	}
	return l.add(n, p)
}

// abbreviation reads dpkg-query's ${db:Status-Abbrev}.
func abbreviation(f string, p *snapshot.Package) bool {
	s, ok := rowState(fmt.Sprintf("%-3s  ", f))
	if ok && len(f) <= 3 {
		p.Want, p.State, p.Broken = s.Want, s.State, s.Broken
	}
	return ok && len(f) <= 3
}

// add checks a package and keeps it.
func (l *dpkgList) add(n int, p snapshot.Package) error {
	name, arch, qualified := strings.Cut(p.Name, ":")
	switch {
	case cutOff(name, "-.") || qualified && (arch == "" || p.Architecture != "" && arch != p.Architecture):
		return &TruncatedError{n, fmt.Sprintf("the name %.60q isn't whole", p.Name)}
	case cutOff(p.Version, "-~:."):
		return &TruncatedError{n, fmt.Sprintf("the version %.60q isn't whole", p.Version)}
	case !packageName(name) || name[0] == '-' || strings.ContainsFunc(name, notIn("+-._")):
		return &ListError{n, fmt.Sprintf("%.60q is no name of a package", p.Name)}
	case strings.ContainsFunc(p.Version, notIn("+-.:~")) || len(p.Version) > 200:
		return &ListError{n, fmt.Sprintf("%.60q is no version", p.Version)}
	case qualified && !architectureName(arch) || p.Architecture != "" && !architectureName(p.Architecture):
		return &ListError{n, fmt.Sprintf("%.60q has no proper architecture", p.Name)}
	case len(l.packages) >= maxPackages:
		return &ListError{n, "too many packages"}
	}
	if qualified {
		p.Architecture, p.MultiArch = arch, true
	}
	k := key{name, p.Architecture}
	if first, twice := l.seen[k]; twice {
		return &TruncatedError{n, fmt.Sprintf("%s is in line %d, too", p.Name, first)}
	}
	l.seen[k] = n
	p.Name = name
	l.packages, l.lines = append(l.packages, p), append(l.lines, n)
	return nil
}

// cutOff reports whether a word ends where no name or version does.
func cutOff(word, ends string) bool {
	return word == "" || strings.IndexByte(ends, word[len(word)-1]) >= 0
}

func notIn(more string) func(rune) bool {
	return func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(more, r)
	}
}

func architectureName(s string) bool {
	return s != "" && len(s) <= 40 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && s[0] != '-'
}

// knownArchitecture tells an architecture from the first word of a description,
// where there is no header.
func knownArchitecture(s string) bool {
	return slices.Contains([]string{"all", "amd64", "i386", "x32", "arm64", "armhf", "armel", "ppc64el", "ppc64", "powerpc",
		"s390x", "riscv64", "loong64", "mips", "mipsel", "mips64el", "alpha", "hppa", "ia64", "m68k", "sparc64", "sh4"}, s)
}

// whole refuses a table whose columns are those of a terminal and full.
func (l *dpkgList) whole() error {
	w := l.widths
	if w == nil && !l.apart { // the header was cut away
		for i := 1; i < len(l.offsets); i++ {
			w = append(w, l.offsets[i]-l.offsets[i-1]-1)
		}
		w = append(w, -1)
	}
	if !ofTerminal(w) {
		return nil
	}
	for i, p := range l.packages {
		name := p.Name
		if p.MultiArch {
			name += ":" + p.Architecture
		}
		if len(name) >= w[0] {
			return &TruncatedError{l.lines[i], fmt.Sprintf("the name %.60q fills its column", name)}
		}
		if len(p.Version) >= w[1] {
			return &TruncatedError{l.lines[i], fmt.Sprintf("the version %.60q of %s fills its column", p.Version, p.Name)}
		}
	}
	return nil
}

// ofTerminal reports whether dpkg made columns for a width, and not for what is in
// them: it deals out what is above 80 in fixed shares (list_format_init in dpkg's
// querycmd.c), of which the first form is that of dpkg before 1.16.2. The width of
// the last column is -1 where it isn't known.
func ofTerminal(w []int) bool {
	switch len(w) {
	case 3:
		return w[0] == w[1] && w[0] >= 14 && (w[2] < 0 || w[2] == 44+2*(w[0]-14))
	case 4:
		for spare := 2 * (w[0] - 14); spare >= 0 && spare <= 2*(w[0]-14)+1; spare++ {
			if w[1] == 12+spare/4 && w[2] == w[1] && (w[3] < 0 || w[3] == 33+spare) {
				return true
			}
		}
	}
	return false
}

func (l *dpkgList) database() *snapshot.Database {
	d := &dpkg{packages: map[key]*installed{}}
	for _, p := range l.packages {
		d.packages[key{p.Name, p.Architecture}] = &installed{Package: p}
	}
	return &snapshot.Database{System: "dpkg", Packages: l.sorted(d), Architecture: l.native(d)}
}

func (l *dpkgList) sorted(d *dpkg) []snapshot.Package {
	list := make([]snapshot.Package, 0, len(l.packages))
	for _, k := range d.keys() {
		list = append(list, d.packages[k].Package)
	}
	return list
}

// native is the architecture of dpkg itself, else the most frequent one; "" where the
// list tells none.
func (l *dpkgList) native(d *dpkg) string {
	for _, k := range d.keys() {
		if k.name == "dpkg" && k.arch != "" && k.arch != "all" {
			return k.arch
		}
	}
	count := map[string]int{}
	best := ""
	for _, k := range d.keys() {
		if k.arch == "" || k.arch == "all" {
			continue
		}
		if count[k.arch]++; count[k.arch] > count[best] {
			best = k.arch
		}
	}
	return best
}
