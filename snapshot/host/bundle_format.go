package host

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// A bundle is a tar, compressed with zstd or gzip or not at all, of these members in
// this order; all but the contents are at most once in it.
//
//	stead-bundle  lines of a key and a value
//	listing       of each path twelve fields, each ended by NUL: what find(1) prints for
//	              %y %m %U %G %s %T@ %C@ %D %i %n %P %l
//	attributes    path, name and value in hex, each ended by NUL, as all below
//	left          class, reason, path, files and bytes of what is not in the listing
//	./PATH        the content of a file
//	unlisted      path and reason: what the walk could not read
//	unreadable    path and reason: what could not be read after it was listed
//	withheld      path and reason: what stayed on the host for what is in it
//	unchanged     paths whose content the host compared with its package database's sums
//	manifest      lines for people: SHA-256, size, reason and path of each content
const (
	memberHeader     = "stead-bundle"
	memberListing    = "listing"
	memberAttributes = "attributes"
	memberLeft       = "left"
	memberUnlisted   = "unlisted"
	memberUnreadable = "unreadable"
	memberWithheld   = "withheld"
	memberUnchanged  = "unchanged"
	memberManifest   = "manifest"

	contentPrefix = "./"
	bundleFormat  = "1"
)

// memberOrder has a place for each member; contents come between left and unlisted.
var memberOrder = map[string]int{memberHeader: 1, memberListing: 2, memberAttributes: 3, memberLeft: 4, contentPrefix: 5,
	memberUnlisted: 6, memberUnreadable: 7, memberWithheld: 8, memberUnchanged: 9, memberManifest: 10}

// Bounds of a bundle.
const (
	maxHeader     = 1 << 20 // bytes
	maxField      = 64 << 10
	maxContents   = 2_000_000
	maxAttributes = 200_000
	maxNotes      = 2_000_000 // rows of a kind
	maxSpooled    = 1 << 40   // bytes
	maxLineGroups = 1_000_000 // groups of hard links
)

var errFields = errors.New("it ends within a record")

// fields reads records of n fields that NUL ends.
func fields(r io.Reader, n int, fn func(f []string) error) error {
	in := bufio.NewReaderSize(r, maxField)
	for {
		record := make([]string, 0, n)
		for len(record) < n {
			b, err := in.ReadSlice(0)
			if err == io.EOF && len(b) == 0 && len(record) == 0 {
				return nil
			}
			if err == io.EOF {
				return errFields
			}
			if err != nil {
				return err // a field that is too long, too
			}
			record = append(record, string(b[:len(b)-1]))
		}
		if err := fn(record); err != nil {
			return err
		}
	}
}

// listedFields is how many fields find prints of a path.
const listedFields = 12

// appendListed adds what find would print of a file; link numbers its group of hard
// links, and is 0 outside of one.
func appendListed(b []byte, f *snapshot.File, link int) []byte {
	names := 1
	if link > 0 {
		names = 2
	}
	p := f.Path
	if p == "." {
		p = ""
	}
	for _, s := range [...]string{string(f.Type), strconv.FormatUint(uint64(f.Mode), 8), strconv.FormatUint(uint64(f.UID), 10),
		strconv.FormatUint(uint64(f.GID), 10), strconv.FormatInt(f.Size, 10), strconv.FormatInt(f.MTime, 10),
		fmt.Sprintf("%x", f.Change[:]), "0", strconv.Itoa(link), strconv.Itoa(names), p, f.Target} {
		b = append(append(b, s...), 0)
	}
	return b
}

// linkGroups names groups of hard links by the first path of each.
type linkGroups map[string]string

// parseListed makes a file of what find printed.
func parseListed(f []string, groups linkGroups) (snapshot.File, error) {
	file := snapshot.File{Path: f[10], Target: f[11]}
	if file.Path == "" {
		file.Path = "."
	}
	wrong := func(what string) (snapshot.File, error) {
		return file, fmt.Errorf("%s of %q makes no sense", what, "/"+file.Path)
	}
	if len(f[0]) != 1 || !strings.Contains("fdlpscb", f[0]) {
		return wrong("the type")
	}
	file.Type = snapshot.Type(f[0][0])
	for i, to := range []*uint32{&file.Mode, &file.UID, &file.GID} {
		base := 10
		if i == 0 {
			base = 8
		}
		n, err := strconv.ParseUint(f[1+i], base, 32)
		if err != nil {
			return wrong("a number")
		}
		*to = uint32(n)
	}
	if file.Mode&^0o7777 != 0 {
		return wrong("the mode")
	}
	size, err := strconv.ParseInt(f[4], 10, 64)
	if err != nil || size < 0 {
		return wrong("the size")
	}
	mtime, err := parseTime(f[5])
	if err != nil {
		return wrong("the time")
	}
	file.MTime = mtime[0]
	sum := sha256.Sum256([]byte(strings.Join(f[4:9], "\x00")))
	file.Change = snapshot.Stamp(sum[:len(snapshot.Stamp{})])
	names, err := strconv.ParseUint(f[9], 10, 32)
	if err != nil {
		return wrong("the number of links")
	}
	if file.Type != snapshot.Symlink {
		file.Target = ""
	}
	if file.Type != snapshot.Regular {
		return file, nil
	}
	file.Size = size
	if names > 1 {
		key := f[7] + ":" + f[8]
		if groups[key] == "" {
			if len(groups) >= maxLineGroups || len(key) > 64 {
				return wrong("the group of links")
			}
			groups[key] = file.Path
		}
		file.Link = groups[key]
	}
	return file, nil
}

// BundleHeader is what a bundle says of itself and of the running system.
type BundleHeader struct {
	Maker       string // "stead-bundle 1.2", "script"
	Kernel, CPU string
	// KernelVersion and SystemCalls are snapshot.Live's.
	KernelVersion string
	SystemCalls   []string
	Architecture  string
	Rules         string // the version of the rules that it was made under
	Keep, Drop    []string
	With          []string // packages all files of which are in it
}

func (h *BundleHeader) write() []byte {
	var b strings.Builder
	line := func(key string, values ...string) {
		for _, v := range values {
			if v != "" && !strings.ContainsAny(v, "\n\x00") {
				fmt.Fprintf(&b, "%s %s\n", key, v)
			}
		}
	}
	line("format", bundleFormat)
	line("maker", h.Maker)
	line("kernel", h.Kernel)
	line("version", h.KernelVersion)
	line("calls", strings.Join(h.SystemCalls, " "))
	line("cpu", h.CPU)
	line("architecture", h.Architecture)
	line("rules", h.Rules)
	line("keep", h.Keep...)
	line("drop", h.Drop...)
	line("with", h.With...)
	return []byte(b.String())
}

// parseHeader reads the lines of a header. The script can't tell the level of a CPU nor
// the calls of a kernel, and gives flags and symbols.
func parseHeader(text string) (*BundleHeader, error) {
	h := &BundleHeader{}
	var symbols snapshot.KernelSymbols
	format := ""
	for line := range strings.SplitSeq(text, "\n") {
		key, v, _ := strings.Cut(line, " ")
		switch key {
		case "format":
			format = v
		case "maker":
			h.Maker = v
		case "kernel":
			h.Kernel = v
		case "version":
			h.KernelVersion = version(v)
		case "call":
			symbols.Add(v)
		case "calls":
			h.SystemCalls = snapshot.SystemCalls(strings.Fields(v))
		case "cpu":
			h.CPU = v
		case "flags":
			h.CPU = cpuLevel(bufio.NewScanner(strings.NewReader("flags: " + v)))
		case "architecture":
			h.Architecture = v
		case "rules":
			h.Rules = v
		case "keep":
			h.Keep = append(h.Keep, v)
		case "drop":
			h.Drop = append(h.Drop, v)
		case "with":
			h.With = append(h.With, v)
		}
	}
	if calls := symbols.Calls(); calls != nil {
		h.SystemCalls = calls
	}
	if format != bundleFormat {
		return nil, fmt.Errorf("its format is %q, and this stead reads %s", format, bundleFormat)
	}
	return h, nil
}

// In the manifest a path has no line break.
var escapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`, "\r", `\r`)
var unescapes = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t", `\r`, "\r")

// sentFile is a line of the manifest.
type sentFile struct {
	Path, SHA256, Reason string
	Size                 int64
}

func (s *sentFile) append(b []byte) []byte {
	return fmt.Appendf(b, "%s\t%d\t%s\t%s\n", s.SHA256, s.Size, s.Reason, escapes.Replace(s.Path))
}

func parseSent(line string) (s sentFile, ok bool) {
	f := strings.SplitN(line, "\t", 4)
	if len(f) != 4 || len(f[0]) != 64 || strings.Trim(f[0], "0123456789abcdef") != "" {
		return s, false
	}
	n, err := strconv.ParseInt(f[1], 10, 64)
	s = sentFile{unescapes.Replace(f[3]), f[0], f[2], n}
	return s, err == nil && n >= 0
}
