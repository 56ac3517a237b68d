package system

import (
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stead-env/stead/envs/artifact/object"
)

// An index is text: a line for each thing, fields separated by one blank, groups of lines
// in the order of the table below, each group sorted but for the cache's, whose order
// counts. So the same root gives the same bytes on every machine.
//
//	index1
//	chunk DIGEST COUNT                      objects' records lie in chunks, in the order
//	                                        in which objects come first below
//	package NAME VERSION ARCHITECTURE PROVIDED…
//	loader PATH FAMILY VERSION CLASS MACHINE FLAGS LIB PLATFORM DIRS HWCAPS PRELOADED
//	cache FLAGS OLDHWCAP HWCAP NAME PATH
//	nss SERVICE
//	interpreter LANGUAGE PATH VERSION ABI DIRS
//	d PATH                                  a folder that isn't above any other path
//	l PATH TARGET                           a link, and where it leads to in the end
//	o PATH PACKAGE DIGEST                   an object; x for one that may be executed
//	b PATH PACKAGE ERROR SCRIPT             no object; e for one that may be executed
//
// In a field, bytes up to the blank, the backslash and DEL are \xHH, and nothing is "-";
// several values are separated by blanks before that.
const indexHeader = "index1"

const (
	maxIndex = 256 << 20 // bytes
	maxChunk = 64 << 20
)

// escape writes a field.
func escape(b []byte, field string) []byte {
	if field == "" {
		return append(b, '-')
	}
	if field == "-" {
		return append(b, `\x2d`...)
	}
	for i := range len(field) {
		if c := field[i]; c <= ' ' || c == '\\' || c == 0x7f {
			b = append(b, `\x`...)
			b = hex.AppendEncode(b, []byte{c})
		} else {
			b = append(b, c)
		}
	}
	return b
}

var errField = errors.New("a field is spelled wrongly")

// unescape reads one.
func unescape(field string) (string, error) {
	if field == "-" {
		return "", nil
	}
	i := strings.IndexByte(field, '\\')
	if i < 0 {
		return field, nil
	}
	b := append(make([]byte, 0, len(field)), field[:i]...)
	for i < len(field) {
		if field[i] != '\\' {
			b = append(b, field[i])
			i++
			continue
		}
		if i+4 > len(field) || field[i+1] != 'x' {
			return "", errField
		}
		c, err := hex.DecodeString(field[i+2 : i+4])
		if err != nil {
			return "", errField
		}
		b = append(b, c[0])
		i += 4
	}
	return string(b), nil
}

// line writes one.
func line(b []byte, word string, fields ...string) []byte {
	b = append(b, word...)
	for _, f := range fields {
		b = escape(append(b, ' '), f)
	}
	return append(b, '\n')
}

// listed is several values as one field.
func listed(values []string) string {
	var b []byte
	for i, v := range values {
		if i > 0 {
			b = append(b, ' ')
		}
		b = escape(b, v)
	}
	return string(b)
}

func unlisted(field string) ([]string, error) {
	if field == "" {
		return nil, nil
	}
	values := strings.Split(field, " ")
	for i, v := range values {
		var err error
		if values[i], err = unescape(v); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// plainErrors spells in one word what is wrong with most files that are no objects. For
// any other, its record is the word.
var plainErrors = map[string]object.Error{
	"text": {Reason: object.NotELF}, "short": {Reason: object.TooShort},
}

func writeError(e *object.Error) string {
	for word, plain := range plainErrors {
		if *e == plain {
			return word
		}
	}
	return string(e.AppendRecord(nil))
}

func readError(word string) (*object.Error, error) {
	if plain, ok := plainErrors[word]; ok {
		return &plain, nil
	}
	_, err := object.ParseRecord([]byte(word))
	var broken *object.Error
	if errors.As(err, &broken) {
		return broken, nil
	}
	return nil, fmt.Errorf("%q says not why a file is no object", word)
}

func writePackage(b []byte, p Package) []byte {
	return line(b, "package", append([]string{p.Name, p.Version, p.Architecture}, p.Provides...)...)
}

func writeLoader(b []byte, l *Loader) []byte {
	return line(b, "loader", l.Path, string(l.Family), l.Version, strconv.Itoa(int(l.Class)),
		strconv.Itoa(int(l.Machine)), strconv.FormatUint(uint64(l.Flags), 10), l.Lib, l.Platform,
		listed(l.SystemDirs), listed(l.HWCaps), listed(l.Preload))
}

func writeCache(b []byte, name string, e CacheEntry) []byte {
	return line(b, "cache", strconv.FormatUint(uint64(e.Flags), 10), strconv.FormatUint(e.OldHWCap, 16), e.HWCap, name, e.Path)
}

func writeInterpreter(b []byte, in Interpreter) []byte {
	return line(b, "interpreter", in.Language, in.Path, in.Version, listed(in.ABI), listed(in.Dirs))
}

// fields reads the values of a line. The first error stays.
type fields struct {
	rest string
	err  error
}

func (f *fields) next() string {
	if f.err != nil {
		return ""
	}
	if f.rest == "" {
		f.err = errors.New("fields are missing")
		return ""
	}
	field, rest, _ := strings.Cut(f.rest, " ")
	f.rest = rest
	var s string
	s, f.err = unescape(field)
	return s
}

func (f *fields) list() []string {
	values, err := unlisted(f.next())
	if f.err == nil {
		f.err = err
	}
	return values
}

func (f *fields) number(base, bits int) uint64 {
	s := f.next()
	if f.err != nil {
		return 0
	}
	n, err := strconv.ParseUint(s, base, bits)
	if err != nil {
		f.err = fmt.Errorf("%q is no number", s)
	}
	return n
}

func (f *fields) path() string {
	p := f.next()
	if f.err == nil && (!strings.HasPrefix(p, "/") || len(p) > maxPath) {
		f.err = fmt.Errorf("%q is no absolute path", p)
	}
	return p
}

func (f *fields) digest() (d [32]byte) {
	s := f.next()
	if f.err != nil {
		return d
	}
	if n, err := hex.Decode(d[:], []byte(s[:min(len(s), 64)])); err != nil || n != 32 || len(s) != 64 {
		f.err = fmt.Errorf("%q is no digest", s)
	}
	return d
}

func (f *fields) end() error {
	if f.err == nil && f.rest != "" {
		f.err = errors.New("there are too many fields")
	}
	return f.err
}

func readPackage(f *fields) (p Package) {
	p.Name, p.Version, p.Architecture = f.next(), f.next(), f.next()
	for f.err == nil && f.rest != "" {
		p.Provides = append(p.Provides, f.next())
	}
	return p
}

func readLoaderLine(f *fields) *Loader {
	return &Loader{Path: f.path(), Family: Family(f.next()), Version: f.next(), Class: elf.Class(f.number(10, 8)),
		Machine: elf.Machine(f.number(10, 16)), Flags: uint32(f.number(10, 32)), Lib: f.next(), Platform: f.next(),
		SystemDirs: f.list(), HWCaps: f.list(), Preload: f.list()}
}

func readCacheLine(f *fields) (name string, e CacheEntry) {
	e.Flags, e.OldHWCap, e.HWCap = uint32(f.number(10, 32)), f.number(16, 64), f.next()
	name, e.Path = f.next(), f.next()
	return name, e
}

func readInterpreterLine(f *fields) Interpreter {
	return Interpreter{Language: f.next(), Path: f.path(), Version: f.next(), ABI: f.list(), Dirs: f.list()}
}

// sorted is a sorted copy.
func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}
