package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// maxSources bounds the archives that one host can name.
const maxSources = 2000

// source is one suite of one archive, as a host's sources.list(5) names it.
type source struct {
	uri        string   // without userinfo, query and a slash at the end
	suite      string   // "bookworm", or an exact path that ends in "/"
	components []string // none for an exact path
	archs      []string // none: all that are asked for
	signedBy   []string // keyring files, fingerprints, or one armored block
	trusted    bool     // "trusted=yes": no signature is asked for
	siblings   []string // other URIs that the host says hold the same
	// past says that the index is an old one: its files have their plain names in
	// archives of snapshots alone.
	past   bool
	locked bool // only a lock names it, which knows nothing of components
}

// base is the folder of the suite's Release below the URI, as apt spells it.
func (s source) base() string {
	switch {
	case s.suite == "/":
		return ""
	case s.flat():
		return s.suite
	default:
		return "dists/" + s.suite + "/"
	}
}

// dir is base as one asks a server for it.
func (s source) dir() string { return strings.TrimPrefix(s.base(), "./") }

func (s source) flat() bool { return strings.HasSuffix(s.suite, "/") }

// local is the path of a file: or copy: archive in the host's own root.
func (s source) local() (path string, ok bool) {
	u, err := url.Parse(s.uri)
	if err != nil || u.Scheme != "file" && u.Scheme != "copy" {
		return "", false
	}
	return strings.Trim(u.Path, "/"), true
}

// entry is what one line or one paragraph says, before URIs and suites are
// spread out.
type entry struct {
	uris, suites, components []string
	archs, signedBy          []string
	trusted                  bool
}

// skipped says why one entry is of no use; it never quotes an address, which may
// hold a password.
type skipped struct {
	where, why string
}

func (s skipped) String() string { return s.where + ": " + s.why }

// spread makes sources of an entry. arch is what $(ARCH) stands for.
func (e entry) spread(where, arch string) (out []source, skip []skipped) {
	uris := make([]string, 0, len(e.uris))
	for _, raw := range e.uris {
		uri, err := cleanURI(strings.ReplaceAll(raw, "$(ARCH)", arch))
		if err != nil {
			skip = append(skip, skipped{where, err.Error()})
			continue
		}
		uris = append(uris, uri)
	}
	for _, suite := range e.suites {
		suite = strings.ReplaceAll(suite, "$(ARCH)", arch)
		if err := checkSuite(suite, e.components); err != nil {
			skip = append(skip, skipped{where, err.Error()})
			continue
		}
		for i, uri := range uris {
			if len(out) == maxSources {
				return out, append(skip, skipped{where, "too many archives"})
			}
			out = append(out, source{uri: uri, suite: suite, components: e.components, archs: e.archs,
				signedBy: e.signedBy, trusted: e.trusted,
				siblings: slices.Concat(uris[:i], uris[i+1:])})
		}
	}
	return out, skip
}

// cleanURI drops what may be secret from an archive's address.
func cleanURI(raw string) (string, error) {
	switch scheme, _, _ := strings.Cut(raw, ":"); scheme {
	case "http", "https", "file", "copy":
	case "cdrom", "ftp", "ssh", "rsh", "tor+http", "tor+https", "mirror", "mirror+http", "mirror+https", "mirror+file":
		return "", fmt.Errorf("archives of the kind %s: are not searched", scheme)
	default:
		return "", errors.New("the archive's address is of no known kind")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", errors.New("the archive's address is no URI")
	}
	switch {
	case u.Opaque != "" && (u.Scheme == "file" || u.Scheme == "copy"):
		return "", errors.New("the archive's address is no absolute path")
	case u.Scheme == "http" || u.Scheme == "https":
		if u.Host == "" {
			return "", errors.New("the archive's address names no host")
		}
	default:
		if strings.Contains(u.Path+"/", "/../") {
			return "", errors.New("the archive's address is no plain path")
		}
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return strings.TrimRight(u.String(), "/"), nil
}

func checkSuite(suite string, components []string) error {
	switch {
	case suite == "" || suite != "/" && strings.HasPrefix(suite, "/"):
		return errors.New("the suite is no relative path")
	case strings.Contains("/"+suite+"/", "/../"):
		return errors.New("the suite leads out of the archive")
	case strings.ContainsFunc(suite, isControl):
		return errors.New("the suite has a control character")
	case strings.HasSuffix(suite, "/") != (len(components) == 0):
		return errors.New("a suite has components, or is a path that ends in a slash")
	}
	for _, c := range components {
		if strings.Contains("/"+c+"/", "/../") || strings.ContainsFunc(c, isControl) {
			return errors.New("a component leads out of the archive")
		}
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// parseList parses the one-line style of sources.list(5).
func parseList(name string, content []byte, arch string) (out []source, skip []skipped) {
	in := bufio.NewScanner(bytes.NewReader(content))
	in.Buffer(nil, len(content)+1)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		if i := strings.IndexByte(line, '#'); i >= 0 {
			line = line[:i]
		}
		words := splitWords(line)
		if len(words) == 0 || words[0] != "deb" {
			continue
		}
		where := fmt.Sprintf("%s line %d", name, n)
		e, ok := parseLine(words[1:])
		if !ok {
			skip = append(skip, skipped{where, "it lacks an address or a suite"})
			continue
		}
		s, k := e.spread(where, arch)
		out, skip = append(out, s...), append(skip, k...)
		if len(out) >= maxSources {
			break
		}
	}
	return out, skip
}

func parseLine(words []string) (e entry, ok bool) {
	if len(words) > 0 && strings.HasPrefix(words[0], "[") {
		for _, option := range strings.Fields(strings.Trim(words[0], "[]")) {
			key, val, _ := strings.Cut(option, "=")
			switch strings.ToLower(key) {
			case "arch":
				e.archs = strings.Split(val, ",")
			case "signed-by":
				e.signedBy = strings.Split(val, ",")
			case "trusted":
				e.trusted = isYes(val)
			}
		}
		words = words[1:]
	}
	if len(words) < 2 {
		return e, false
	}
	e.uris, e.suites, e.components = words[:1], words[1:2], words[2:]
	return e, true
}

// splitWords splits at blanks, but not within brackets or quotes: the options of
// a line are one word, and so is the address of a cdrom.
func splitWords(line string) (words []string) {
	var word strings.Builder
	depth, quoted := 0, false
	for _, r := range line {
		switch {
		case r == '"':
			quoted = !quoted
			continue
		case r == '[':
			depth++
		case r == ']':
			depth--
		case (r == ' ' || r == '\t') && depth <= 0 && !quoted:
			if word.Len() > 0 {
				words = append(words, word.String())
				word.Reset()
			}
			continue
		}
		word.WriteRune(r)
	}
	if word.Len() > 0 {
		words = append(words, word.String())
	}
	return words
}

// parseDeb822 parses the .sources style of sources.list(5).
func parseDeb822(name string, content []byte, arch string) (out []source, skip []skipped) {
	n := 0
	err := stanzas(bytes.NewReader(content), func(s stanza) error {
		n++
		if enabled := s["enabled"]; enabled != "" && !isYes(enabled) || !slices.Contains(s.fields("types"), "deb") {
			return nil
		}
		e := entry{
			uris: s.fields("uris"), suites: s.fields("suites"), components: s.fields("components"),
			archs: s.fields("architectures"), trusted: isYes(s["trusted"]), signedBy: signedBy(s["signed-by"]),
		}
		srcs, k := e.spread(fmt.Sprintf("%s paragraph %d", name, n), arch)
		out, skip = append(out, srcs...), append(skip, k...)
		if len(out) >= maxSources {
			return errors.New("too many archives")
		}
		return nil
	})
	if err != nil {
		skip = append(skip, skipped{name, err.Error()})
	}
	return out, skip
}

// signedBy splits the field into files and fingerprints, or unfolds the key block
// that it holds: "." stands for an empty line there.
func signedBy(value string) []string {
	if !strings.Contains(value, "-----BEGIN PGP") {
		return strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" \t\r\n,", r) })
	}
	lines := strings.Split(strings.TrimSpace(value), "\n")
	for i, l := range lines {
		if lines[i] = strings.TrimSpace(l); lines[i] == "." {
			lines[i] = ""
		}
	}
	return []string{strings.Join(lines, "\n") + "\n"}
}

// isYes are the words that apt.conf(5) takes for true.
func isYes(s string) bool {
	return slices.Contains([]string{"yes", "true", "with", "on", "enable", "1"}, strings.ToLower(s))
}

// parseSources parses one file by the ending of its name.
func parseSources(name string, content []byte, arch string) ([]source, []skipped) {
	if strings.HasSuffix(name, ".sources") {
		return parseDeb822(name, content, arch)
	}
	return parseList(name, content, arch)
}
