package pkgdb

import (
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// stanza is a paragraph of "Name: value" fields, as of deb-control(5).
type stanza struct {
	file   string
	line   int // where it begins
	fields []field
}

type field struct {
	name  string
	value string // as written after the colon, with the lines that continue it
	line  int
}

// stanzas calls fn with each paragraph of a file.
func stanzas(file string, content []byte, fn func(stanza) error) error {
	s := stanza{file: file}
	var more []string // lines that continue the last field
	endField := func() {
		if len(more) > 0 {
			f := &s.fields[len(s.fields)-1]
			f.value += "\n" + strings.Join(more, "\n")
			more = more[:0]
		}
	}
	done := func() error {
		if len(s.fields) == 0 {
			return nil
		}
		endField()
		err := fn(s)
		s.fields = nil
		return err
	}
	err := lines(file, content, func(n int, line string) error {
		switch {
		case strings.Trim(line, " \t\r") == "":
			return done()
		case line[0] == ' ' || line[0] == '\t':
			if len(s.fields) == 0 {
				return s.wrong(n, "a line continues no field")
			}
			more = append(more, line)
			return nil
		}
		endField()
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return s.wrong(n, "not a field")
		}
		if len(s.fields) == 0 {
			s.line = n
		}
		if s.has(name) {
			return s.wrong(n, "field "+name+" comes twice")
		}
		s.fields = append(s.fields, field{name, value, n})
		return nil
	})
	if err != nil {
		return err
	}
	return done()
}

func (s *stanza) wrong(line int, what string) error {
	if line == 0 {
		line = s.line
	}
	return &ParseError{s.file, line, what}
}

func (s *stanza) find(name string) *field {
	for i := range s.fields {
		if strings.EqualFold(s.fields[i].name, name) {
			return &s.fields[i]
		}
	}
	return nil
}

func (s *stanza) has(name string) bool { return s.find(name) != nil }

func (s *stanza) get(name string) string {
	if f := s.find(name); f != nil {
		return strings.TrimSpace(f.value)
	}
	return ""
}

// states are those of dpkg(1), with whether the package's files are on disk.
var states = map[string]bool{
	"not-installed": false, "config-files": false, "half-installed": true, "unpacked": true,
	"half-configured": true, "triggers-awaited": true, "triggers-pending": true, "installed": true,
}

var wants = map[string]bool{"unknown": true, "install": true, "hold": true, "deinstall": true, "purge": true}

// pkg makes a package of a stanza. Images without a dpkg leave out the status.
func (s *stanza) pkg(image bool) (*snapshot.Package, error) {
	p := &snapshot.Package{Name: s.get("Package"), Version: s.get("Version"), Architecture: s.get("Architecture"),
		MultiArch: s.get("Multi-Arch") == "same"}
	if !packageName(p.Name) || strings.ContainsAny(p.Architecture, "/ \t\n:") {
		return nil, s.wrong(0, "a package has no proper name")
	}
	if p.Version == "" {
		p.Version = s.get("Config-Version")
	}
	p.Source, _, _ = strings.Cut(s.get("Source"), " ")
	if p.Source == p.Name {
		p.Source = ""
	}
	if err := s.status(p, image); err != nil {
		return nil, err
	}
	if states[p.State] && (p.Version == "" || p.Architecture == "") {
		return nil, s.wrong(0, "package "+p.Name+" has no version or architecture")
	}
	var err error
	if p.Conffiles, err = s.conffiles(); err != nil {
		return nil, err
	}
	p.Control = s.control()
	return p, nil
}

// status reads "want flag state". A want of hold, and the flags of older versions
// that say hold, keep the package as it is.
func (s *stanza) status(p *snapshot.Package, image bool) error {
	f := s.find("Status")
	if f == nil && image {
		p.Want, p.State = "install", "installed"
		return nil
	}
	words := strings.Fields(s.get("Status"))
	if len(words) != 3 {
		return s.wrong(0, "package "+p.Name+" has no status of three words")
	}
	p.Want, p.State = words[0], words[2]
	switch words[1] {
	case "ok":
	case "reinstreq":
		p.Broken = true
	case "hold":
		p.Want = "hold"
	case "hold-reinstreq":
		p.Want, p.Broken = "hold", true
	default:
		return s.wrong(f.line, "unknown flag "+words[1])
	}
	if _, ok := states[p.State]; !ok || !wants[p.Want] {
		return s.wrong(f.line, "unknown status "+s.get("Status"))
	}
	return nil
}

// packageName keeps names from leading out of the info folder.
func packageName(name string) bool {
	return name != "" && len(name) < 256 && name[0] != '.' && !strings.ContainsAny(name, "/ \t\n:")
}

// conffiles reads lines of " path hash [obsolete] [remove-on-upgrade]" from the
// right, because a path may hold spaces.
func (s *stanza) conffiles() ([]snapshot.Conffile, error) {
	f := s.find("Conffiles")
	if f == nil {
		return nil, nil
	}
	var all []snapshot.Conffile
	line := f.line - 1
	for l := range strings.SplitSeq(f.value, "\n") {
		line++
		l = strings.TrimSpace(l)
		if l == "" {
			continue
		}
		var c snapshot.Conffile
		for {
			rest, word := lastWord(l)
			if word == "obsolete" {
				c.Obsolete = true
			} else if word == "remove-on-upgrade" {
				c.RemoveOnUpgrade = true
			} else {
				break
			}
			l = rest
		}
		p, hash := lastWord(l)
		// dpkg writes these where it has not installed the file, or found none.
		if hash != "newconffile" && hash != "nonexistent" {
			if !isMD5(hash) {
				return nil, s.wrong(line, "a conffile has no digest")
			}
			c.MD5 = hash
		}
		var ok bool
		if c.Path, ok = cleanPath(p); !ok || c.Path == "" || p[0] != '/' {
			return nil, s.wrong(line, "a conffile has no absolute path")
		}
		all = append(all, c)
	}
	return all, nil
}

func lastWord(s string) (rest, word string) {
	i := strings.LastIndexByte(s, ' ')
	return strings.TrimRight(s[:max(i, 0)], " "), s[i+1:]
}

// ours are the fields that dpkg adds to a package's own.
var ours = map[string]bool{
	"status": true, "conffiles": true, "config-version": true, "triggers-pending": true, "triggers-awaited": true,
}

// control is the stanza as the package file carried it.
func (s *stanza) control() []byte {
	var b []byte
	for _, f := range s.fields {
		if !ours[strings.ToLower(f.name)] {
			b = append(append(append(append(b, f.name...), ':'), f.value...), '\n')
		}
	}
	return b
}
