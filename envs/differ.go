package envs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// BuildDifference is where two builds' files of one name differ first: of what can be told
// the cause of, if there is any of that.
type BuildDifference struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"`             // in the first one; -1 where it isn't the content
	Where  string `json:"where,omitempty"`    // the section of a program or library
	Kind   string `json:"kind"`               // one of those below
	First  string `json:"first,omitempty"`    // what is there
	Second string `json:"second,omitempty"`   // and there
	Others int    `json:"sections,omitempty"` // further sections that differ
}

// The kinds of differences.
const (
	DiffersInPath    = "path"       // a name of the folder that it was built in
	DiffersInTime    = "time stamp" // when it was built
	DiffersInBuildID = "build-id"   // a hash of the rest, and of what was stripped from it
	DiffersInContent = "content"
	DiffersInMode    = "mode"
	OnlyFirst        = "only the first build has it"
	OnlySecond       = "only the second build has it"
)

func (d BuildDifference) String() string {
	switch {
	case d.Kind == OnlyFirst || d.Kind == OnlySecond:
		return d.Path + ": " + d.Kind
	case d.Offset < 0:
		return fmt.Sprintf("%s: its %s is %s, and then %s", d.Path, d.Kind, d.First, d.Second)
	}
	where, more := "", ""
	if d.Where != "" {
		where = " (" + d.Where + ")"
	}
	if d.Others > 0 {
		more = fmt.Sprintf("; %d more sections differ", d.Others)
	}
	kind := d.Kind
	if kind != DiffersInContent {
		kind = "a " + kind
	}
	return fmt.Sprintf("%s: byte %d%s: %s: %s, and then %s%s", d.Path, d.Offset, where, kind, d.First, d.Second, more)
}

// sample is one of two files, of which the builds' folders and times are known.
type sample struct {
	io.ReaderAt
	size  int64
	dir   string    // the project's, as the build saw it
	begun time.Time // the build
}

// compare finds where two files differ; nil for nowhere.
func compare(a, b sample) (*BuildDifference, error) {
	at, err := firstDifference(io.NewSectionReader(a, 0, a.size), io.NewSectionReader(b, 0, b.size))
	if err != nil || at < 0 {
		return nil, err
	}
	whole := explain(a, b, at, at)
	x, y := elfSections(a), elfSections(b)
	if x == nil || y == nil || whole.Kind != DiffersInContent {
		return &whole, nil
	}
	return inSections(a, b, x, y, whole)
}

// inSections looks for a section whose difference explains itself: that of the headers
// and of addresses in code only follow.
func inSections(a, b sample, x, y []*elf.Section, whole BuildDifference) (*BuildDifference, error) {
	var found []BuildDifference
	for _, s := range x {
		other := sectionNamed(y, s.Name)
		if other == nil || s.Type == elf.SHT_NOBITS || other.Type == elf.SHT_NOBITS {
			continue
		}
		at, err := firstDifference(io.NewSectionReader(a, int64(s.Offset), int64(s.FileSize)),
			io.NewSectionReader(b, int64(other.Offset), int64(other.FileSize)))
		if err != nil {
			return nil, err
		}
		if at < 0 {
			continue
		}
		d := explain(a, b, int64(s.Offset)+at, int64(other.Offset)+at)
		d.Where = s.Name
		if strings.Contains(s.Name, "build-id") || strings.Contains(s.Name, "buildid") {
			d.Kind = DiffersInBuildID
		}
		found = append(found, d)
	}
	if len(found) == 0 {
		return &whole, nil
	}
	for _, kind := range []string{DiffersInPath, DiffersInTime, DiffersInContent, DiffersInBuildID} {
		for _, d := range found {
			if d.Kind == kind {
				d.Others = len(found) - 1
				return &d, nil
			}
		}
	}
	return &whole, nil
}

func sectionNamed(list []*elf.Section, name string) *elf.Section {
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// maxSections bounds what is compared one by one.
const maxSections = 1000

func elfSections(s sample) []*elf.Section {
	f, err := elf.NewFile(io.NewSectionReader(s, 0, s.size))
	if err != nil || len(f.Sections) > maxSections {
		return nil
	}
	return f.Sections
}

// firstDifference is where two streams differ, or -1. One that ends differs there.
func firstDifference(a, b io.Reader) (int64, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err1 := io.ReadFull(a, x)
		m, err2 := io.ReadFull(b, y)
		for i := range min(n, m) {
			if x[i] != y[i] {
				return at + int64(i), nil
			}
		}
		end1, end2 := err1 == io.EOF || err1 == io.ErrUnexpectedEOF, err2 == io.EOF || err2 == io.ErrUnexpectedEOF
		switch {
		case n != m:
			return at + int64(min(n, m)), nil
		case err1 != nil && !end1 || err2 != nil && !end2:
			return -1, errors.Join(err1, err2)
		case end1:
			return -1, nil
		}
		at += int64(n)
	}
}

// around is how much of a file is looked at on each side of a difference.
const around = 512

// window is what stands around a place.
func window(s sample, at int64) (text []byte, i int) {
	from := max(at-around, 0)
	text = make([]byte, 2*around)
	n, _ := s.ReadAt(text, from) // what can't be read isn't there
	return text[:n], int(min(at-from, int64(n)))
}

// explain tells what kind of thing differs at a place of each.
func explain(a, b sample, atA, atB int64) BuildDifference {
	x, i := window(a, atA)
	y, j := window(b, atB)
	d := BuildDifference{Offset: atA, Kind: DiffersInContent, First: excerpt(x, i), Second: excerpt(y, j)}
	s, t := run(x, i), run(y, j)
	// A longer text may be aligned otherwise: then it stands a little further on.
	here, there := x[i-len(run(x[:i], i)):min(i+len(s)+64, len(x))], y[j-len(run(y[:j], j)):min(j+len(t)+64, len(y))]
	switch {
	case a.dir != b.dir && bytes.Contains(here, []byte(a.dir)) && bytes.Contains(there, []byte(b.dir)):
		d.Kind, d.First, d.Second = DiffersInPath, quote(here, a.dir), quote(there, b.dir)
	case bytes.Contains(s, []byte("Go build ID")) || bytes.Contains(t, []byte("Go build ID")):
		d.Kind = DiffersInBuildID
	case telling(s) && telling(t), clockTime(x, i, a.begun) && clockTime(y, j, b.begun), headerTime(x, i, atA):
		d.Kind = DiffersInTime
	}
	return d
}

// run is the text around a place, between bytes that aren't text.
func run(text []byte, at int) []byte {
	is := func(c byte) bool { return c >= ' ' && c < 0x7f }
	from, to := at, at
	for from > 0 && is(text[from-1]) {
		from--
	}
	for to < len(text) && is(text[to]) {
		to++
	}
	return text[from:to]
}

// quote shows a text from the folder in it on.
func quote(text []byte, dir string) string {
	text = run(text, bytes.Index(text, []byte(dir)))
	i := bytes.Index(text, []byte(dir))
	return fmt.Sprintf("%q", text[i:min(i+len(dir)+40, len(text))])
}

// excerpt shows what stands at a place: text, or else the bytes.
func excerpt(text []byte, at int) string {
	if at >= len(text) {
		return "its end"
	}
	if s, before := run(text, at), len(run(text[:at], at)); len(s) >= 4 {
		return fmt.Sprintf("%q", s[max(before-20, 0):min(before+20, len(s))])
	}
	return fmt.Sprintf("%x", text[at:min(at+8, len(text))])
}

// stamps are times as programs write them: 12:34:56, 2026-11-21, Nov 21 2026, and
// seconds since 1970 that are of this age.
var stamps = regexp.MustCompile(`\d\d?:\d\d:\d\d|\d{4}-\d\d-\d\d|(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* +\d|(^|\D)[12]\d{9}(\D|$)`)

func telling(text []byte) bool { return stamps.Match(text) }

// clockTime reports whether four bytes around a place are the seconds since 1970 of
// about when the build began.
func clockTime(text []byte, at int, begun time.Time) bool {
	for from := max(at-3, 0); from <= at && from+4 <= len(text); from++ {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			if t := time.Unix(int64(order.Uint32(text[from:])), 0); t.Sub(begun).Abs() < 24*time.Hour {
				return true
			}
		}
	}
	return false
}

// headerTime reports whether a place is where gzip, tar or zip files have a time.
func headerTime(text []byte, i int, at int64) bool {
	start := text[:min(len(text), around)]
	if at < 8 && bytes.HasPrefix(start, []byte{0x1f, 0x8b}) {
		return at >= 4
	}
	if k := bytes.LastIndex(text[:i], []byte("PK\x03\x04")); k >= 0 && i-k >= 10 && i-k < 14 {
		return true
	}
	if k := bytes.LastIndex(text[:i], []byte("PK\x01\x02")); k >= 0 && i-k >= 12 && i-k < 16 {
		return true
	}
	in := at % 512 // as tar's headers have it: mtime and then the sum at 136 to 156, "ustar" at 257
	magic := i - int(in) + 257
	return in >= 136 && in < 156 && magic >= 0 && magic+5 <= len(text) && string(text[magic:magic+5]) == "ustar"
}
