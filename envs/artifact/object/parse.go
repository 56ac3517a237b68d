package object

import (
	"debug/elf"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// errSpelling is the error of a record that AppendRecord wouldn't write.
var errSpelling = errors.New("it isn't as records are written")

// ParseRecord reads a record, of an object or of an *Error, which then is the error.
func ParseRecord(b []byte) (*Object, error) {
	text := string(b) // names are parts of it
	o, err := parse(text)
	var broken *Error
	if err != nil && !errors.As(err, &broken) {
		return nil, fmt.Errorf("reading the record of an object: %w", err)
	}
	return o, err
}

func parse(text string) (*Object, error) {
	if !visible(text) {
		return nil, errSpelling
	}
	if strings.HasPrefix(text, brokenMark+" ") {
		return nil, parseBroken(text)
	}
	p := &parser{rest: text, o: &Object{names: new(names)}}
	p.header()
	for p.err == nil && (p.next("needed", "filter", "rpath", "runpath", "kernel", "isa", "dlopen", "define", "need", "version", "copy")) {
		p.line()
	}
	if p.err == nil && string(p.o.appendHeader(make([]byte, 0, len(text)-len(p.rest)))) != text[:len(text)-len(p.rest)] {
		p.err = errSpelling
	}
	if p.err == nil && p.next("imports") {
		p.imports()
	}
	if p.err == nil && p.next("exports") {
		p.exports()
	}
	if p.err == nil && p.rest != "" {
		p.err = errSpelling
	}
	if p.err != nil {
		return nil, p.err
	}
	return p.o, nil
}

// visible says that a text is of visible ASCII, spaces and ends of lines: eight bytes at a
// time, for a host's records have millions.
func visible(text string) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; len(text) >= 8; text = text[8:] {
		w := uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
			uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
		if w&highs != 0 {
			return false
		}
		// Without high bits no sum below runs over into the next byte.
		end := ^((w ^ '\n'*ones) + 0x7f*ones)
		low := ^(w + 0x60*ones)
		del := ^((w ^ 0x7f*ones) + 0x7f*ones)
		if (low&^end|del)&highs != 0 {
			return false
		}
	}
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\n' || c > '~' {
			return false
		}
	}
	return true
}

// parser reads a record from its start. Its header is read without much care: whether it
// is spelled well is seen by writing it again.
type parser struct {
	rest string
	err  error
	o    *Object
}

// next says whether the next line's first field is one of those.
func (p *parser) next(words ...string) bool {
	for _, w := range words {
		if len(p.rest) > len(w) && p.rest[len(w)] == ' ' && p.rest[:len(w)] == w {
			return true
		}
	}
	return false
}

// cut takes a line.
func (p *parser) cut() string {
	i := strings.IndexByte(p.rest, '\n')
	if i < 0 {
		p.err = errSpelling
		return ""
	}
	line := p.rest[:i]
	p.rest = p.rest[i+1:]
	return line
}

// fields takes a line, without its first field.
func (p *parser) fields() []string {
	f := strings.Split(p.cut(), " ")
	return f[1:]
}

// field is the i-th, decoded.
func (p *parser) field(f []string, i int) string {
	if i >= len(f) {
		p.err = errSpelling
		return ""
	}
	s, err := plain(f[i])
	if err != nil {
		p.err = err
	}
	return s
}

func (p *parser) number(f []string, i int, most uint64) uint64 {
	n, err := strconv.ParseUint(p.field(f, i), 10, 64)
	if err != nil || n > most {
		p.err = errSpelling
	}
	return n
}

func (p *parser) header() {
	o := p.o
	if !p.next(objectMark) {
		p.err = errSpelling
		return
	}
	f := p.fields()
	o.Class, o.Data = elf.Class(p.number(f, 0, math.MaxUint8)), elf.Data(p.number(f, 1, math.MaxUint8))
	o.OSABI, o.ABIVersion = elf.OSABI(p.number(f, 2, math.MaxUint8)), uint8(p.number(f, 3, math.MaxUint8))
	o.Type, o.Machine = elf.Type(p.number(f, 4, math.MaxUint16)), elf.Machine(p.number(f, 5, math.MaxUint16))
	o.Flags = uint32(p.number(f, 6, math.MaxUint32))
	if p.next("flags") {
		line := p.fields()
		for _, f := range flagWords {
			for _, word := range line {
				if word == f.word {
					*f.is(o) = true
				}
			}
		}
	}
	for _, l := range textLines {
		if p.next(l.word) {
			*l.is(o) = p.field(p.fields(), 0)
		}
	}
}

// line reads a line of the header that may come more than once.
func (p *parser) line() {
	o := p.o
	word, _, _ := strings.Cut(p.rest, " ")
	f := p.fields()
	switch word {
	case "needed":
		o.Needed = append(o.Needed, p.field(f, 0))
	case "filter":
		o.Filters = append(o.Filters, Filter{Auxiliary: p.field(f, 0) == "a", Name: p.field(f, 1)})
	case "rpath":
		o.RPath = folders(p.field(f, 0))
	case "runpath":
		o.RunPath = folders(p.field(f, 0))
	case "kernel":
		for i := range o.Kernel {
			o.Kernel[i] = uint32(p.number(f, i, math.MaxUint32))
		}
	case "isa":
		o.ISA = uint32(p.number(f, 0, math.MaxUint32))
	case "dlopen":
		n := DlopenNote{Feature: p.field(f, 0), Priority: p.field(f, 1)}
		for i := 2; i < len(f); i++ {
			n.Sonames = append(n.Sonames, p.field(f, i))
		}
		o.Dlopen = append(o.Dlopen, n)
	case "define":
		flags := p.field(f, 1)
		o.Definitions = append(o.Definitions, Definition{Index: uint16(p.number(f, 0, math.MaxUint16)),
			Base: strings.Contains(flags, "b"), Weak: strings.Contains(flags, "w"), Name: p.field(f, 2)})
	case "need":
		o.Requirements = append(o.Requirements, Requirement{File: p.field(f, 0)})
	case "version":
		if len(o.Requirements) == 0 {
			p.err = errSpelling
			return
		}
		r := &o.Requirements[len(o.Requirements)-1]
		r.Versions = append(r.Versions, Required{Weak: p.field(f, 0) == "w", Name: p.field(f, 1)})
	case "copy":
		o.Copies = append(o.Copies, Copy{Size: p.number(f, 0, math.MaxUint64), Weak: p.field(f, 1) == "w",
			Name: p.field(f, 2), Version: p.field(f, 3), File: p.field(f, 4)})
	}
}

// counts reads the line that a table of symbols starts with.
func (p *parser) counts() (symbols, kinds int) {
	line := p.cut()
	_, counts, _ := strings.Cut(line, " ")
	first, second, _ := strings.Cut(counts, " ")
	n, rest1 := decimal(first)
	k, rest2 := decimal(second)
	// A symbol has a line, and so has a kind.
	if rest1 != "" || rest2 != "" || n == 0 || n > maxSymbols || k == 0 || k > n || n+k > uint64(len(p.rest)) {
		p.err = errSpelling
		return 0, 0
	}
	return int(n), int(k)
}

func (p *parser) imports() {
	count, kinds := p.counts()
	table := newKinds[importKind](kinds)
	for range kinds {
		f := strings.Split(p.cut(), " ")
		k := importKind{version: p.field(f, 1), file: p.field(f, 2)}
		k.weak, k.lazy = strings.HasPrefix(f[0], "w"), strings.HasSuffix(f[0], "l")
		if len(f) != 3 || f[0] != letters(letter{'w', k.weak}, letter{'l', k.lazy}) || !table.add(k) || p.err != nil {
			p.err = errSpelling
			return
		}
	}
	o := p.o
	o.Imports = make([]Import, count)
	s := symbols{p: p, kinds: kinds}
	for i := range o.Imports {
		name, kind, size := s.next()
		if p.err != nil {
			return
		}
		k := &table.kinds[kind]
		o.Imports[i] = Import{Name: name, Version: k.version, File: k.file, Weak: k.weak, Lazy: k.lazy}
		if size != 0 || i > 0 && name <= o.Imports[i-1].Name && compareImports(o.Imports[i-1], o.Imports[i]) >= 0 {
			p.err = errSpelling
			return
		}
	}
	s.end()
}

func (p *parser) exports() {
	count, kinds := p.counts()
	table := newKinds[exportKind](kinds)
	for range kinds {
		f := strings.Split(p.cut(), " ")
		if len(f) != 3 {
			p.err = errSpelling
			return
		}
		n, rest := decimal(f[0])
		k := exportKind{symType: uint8(n), version: p.field(f, 2)}
		k.hidden, k.weak = strings.HasPrefix(f[1], "h"), strings.HasSuffix(f[1], "w")
		if rest != "" || n > 15 || f[1] != letters(letter{'h', k.hidden}, letter{'w', k.weak}) || !table.add(k) || p.err != nil {
			p.err = errSpelling
			return
		}
	}
	o := p.o
	o.Exports = make([]Export, count)
	s := symbols{p: p, kinds: kinds}
	for i := range o.Exports {
		name, kind, size := s.next()
		if p.err != nil {
			return
		}
		k := &table.kinds[kind]
		o.Exports[i] = Export{Name: name, Version: k.version, Hidden: k.hidden, Weak: k.weak, Type: elf.SymType(k.symType), Size: size}
		if i > 0 && name <= o.Exports[i-1].Name && compareExports(o.Exports[i-1], o.Exports[i]) >= 0 {
			p.err = errSpelling
			return
		}
	}
	s.end()
}

// newKinds makes an empty table for so many kinds.
func newKinds[K comparable](count int) *kindTable[K] {
	return &kindTable[K]{numbers: make(map[K]int, min(count, 64))}
}

// add says whether a kind is a new one.
func (t *kindTable[K]) add(k K) bool {
	had := len(t.kinds)
	return t.number(k) == had
}

// symbols reads lines of symbols.
type symbols struct {
	p                 *parser
	kinds, last, seen int
}

func (s *symbols) next() (name string, kind int, size uint64) {
	p := s.p
	line := p.cut()
	i := strings.IndexByte(line, ' ')
	if i < 0 {
		s.seen = max(s.seen, 1)
		return s.name(line), s.last, 0
	}
	rest := line[i+1:]
	name = s.name(line[:i])
	kind = s.last
	if strings.HasPrefix(rest, "= ") {
		rest = rest[1:]
	} else {
		var n uint64
		if n, rest = decimal(rest); n == uint64(s.last) || n > uint64(s.seen) || n >= uint64(s.kinds) {
			p.err = errSpelling
			return
		}
		kind = int(n)
	}
	if rest != "" {
		if rest[0] != ' ' {
			p.err = errSpelling
			return
		}
		if size, rest = decimal(rest[1:]); size == 0 || rest != "" {
			p.err = errSpelling
		}
	}
	s.last, s.seen = kind, max(s.seen, kind+1)
	return name, kind, size
}

func (s *symbols) name(text string) string {
	name, err := plain(text)
	if err != nil {
		s.p.err = err
	}
	return name
}

// end says that all kinds have been used.
func (s *symbols) end() {
	if s.seen != s.kinds {
		s.p.err = errSpelling
	}
}

// decimal splits a number off s, as it is written: without zeros before it. Where there
// is none, all of s is left, and not empty.
func decimal(s string) (n uint64, rest string) {
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			if i == 0 {
				return 0, s
			}
			return n, s[i:]
		}
		if i > 0 && n == 0 || n > (math.MaxUint64-uint64(c))/10 {
			return 0, "0" + s
		}
		n = 10*n + uint64(c)
	}
	if s == "" {
		return 0, " "
	}
	return n, ""
}

// plain decodes a field.
func plain(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' {
			n, err := strconv.ParseUint(s[min(len(s), i+1):min(len(s), i+3)], 16, 8)
			if err != nil || i+3 > len(s) {
				return "", errSpelling
			}
			c = byte(n)
			i += 2
		}
		b = append(b, c)
	}
	if string(text(nil, string(b))) != s {
		return "", errSpelling
	}
	return string(b), nil
}

// parseBroken reads the record of an *Error.
func parseBroken(text string) error {
	p := &parser{rest: text}
	f := p.fields()
	e := &Error{Class: elf.Class(p.number(f, 0, math.MaxUint8)), Data: elf.Data(p.number(f, 1, math.MaxUint8)),
		OSABI: elf.OSABI(p.number(f, 2, math.MaxUint8)), ABIVersion: uint8(p.number(f, 3, math.MaxUint8)),
		Machine: elf.Machine(p.number(f, 4, math.MaxUint16)), Flags: uint32(p.number(f, 5, math.MaxUint32)),
		Reason: Reason(p.field(f, 6)), Detail: p.field(f, 7)}
	if p.err != nil || string(e.AppendRecord(nil)) != text {
		return errSpelling
	}
	return e
}
