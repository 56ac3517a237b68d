package archive

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"strconv"
	"strings"
)

// The bounds of one stanza of a Packages index. The longest field seen, what a Rust
// package provides, has 40 kB.
const (
	maxValue    = 4 << 10   // bytes of a field that names something
	maxRelation = 256 << 10 // bytes of a field that speaks of other packages
)

// The fields of a stanza that matter. Looking for a file takes those before
// fieldsOfFile.
const (
	fieldName = iota
	fieldVersion
	fieldArch
	fieldSum
	fieldPath
	fieldSize
	fieldsOfFile
	fieldSource = iota - 1
	fieldMultiArch
	fieldPreDepends
	fieldDepends
	fieldConflicts
	fieldBreaks
	fieldReplaces
	fieldProvides
	fieldRecommends
	allFields
)

var fieldNames = [allFields]string{"Package", "Version", "Architecture", "SHA256", "Filename", "Size", "Source",
	"Multi-Arch", "Pre-Depends", "Depends", "Conflicts", "Breaks", "Replaces", "Provides", "Recommends"}

// record collects the fields of one stanza; its buffers are used again.
type record struct {
	field [allFields][]byte
	want  int  // how many of the fields
	last  int  // the field that a folded line belongs to, or -1
	long  bool // a field is too long, and so the stanza isn't known
}

func (r *record) clear() {
	for i := range r.want {
		r.field[i] = r.field[i][:0]
	}
	r.last, r.long = -1, false
}

// find is the field that a line begins, or -1. Names are alike in any case.
func (r *record) find(line []byte) (field, colon int) {
	colon = bytes.IndexByte(line, ':')
	if colon < 0 {
		return -1, colon
	}
	for i, name := range fieldNames[:r.want] {
		if len(name) == colon && line[0]|0x20 == name[0]|0x20 && bytes.EqualFold(line[:colon], []byte(name)) {
			return i, colon
		}
	}
	return -1, colon
}

// line takes one line without its end; whole says that it isn't just the beginning.
func (r *record) line(line []byte, whole bool) {
	if line[0] == ' ' || line[0] == '\t' {
		if r.last >= fieldsOfFile {
			r.add(r.last, append([]byte{' '}, bytes.TrimSpace(line)...), whole)
		}
		return
	}
	var colon int
	if r.last, colon = r.find(line); r.last >= 0 {
		r.field[r.last] = r.field[r.last][:0]
		r.add(r.last, bytes.TrimSpace(line[colon+1:]), whole)
	}
}

func (r *record) add(field int, value []byte, whole bool) {
	limit := maxValue
	if field >= fieldsOfFile {
		limit = maxRelation
	}
	if !whole || len(r.field[field])+len(value) > limit {
		r.long = true
		return
	}
	r.field[field] = append(r.field[field], value...)
}

// scanPackages reads the stanzas of a Packages index, the first so many fields of
// each. Lines may have any length, and those that don't matter are not kept.
func scanPackages(ctx context.Context, r io.Reader, fields int, fn func(*record) error) error {
	in := bufio.NewReaderSize(r, maxRelation)
	rec := record{want: fields, last: -1}
	flush := func() (err error) {
		if len(rec.field[fieldName]) > 0 {
			err = fn(&rec)
		}
		rec.clear()
		return err
	}
	for n := 0; ; n++ {
		if n%65536 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line, err := in.ReadSlice('\n')
		cut := errors.Is(err, bufio.ErrBufferFull)
		if cut {
			rec.line(line, false)
		}
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of a long line
			_, err = in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !cut {
			line = bytes.TrimRight(line, "\r\n")
			if len(line) > 0 {
				rec.line(line, true)
			} else if failed := flush(); failed != nil {
				return failed
			}
		}
		if err != nil {
			return flush()
		}
	}
}

// hit is a stanza of an index that goes by a wanted key.
type hit struct {
	Want
	path   string
	size   int64
	sha256 string
}

// searchIndex returns the stanzas of an index that are wanted. Nothing of it is
// believed unless the signed Release lists it: see readIndex.
func searchIndex(ctx context.Context, rel *release, stem, ending string, r io.Reader, want map[Want]bool) (hits []hit, err error) {
	err = readIndex(rel, stem, ending, r, searching(ctx, want, &hits))
	if err != nil {
		return nil, err
	}
	return hits, nil
}

// searching is a scan that keeps what is wanted.
func searching(ctx context.Context, want map[Want]bool, hits *[]hit) scan {
	names := make(map[string]bool, len(want))
	for w := range want {
		names[w.Name] = true
	}
	return func(r io.Reader) error {
		*hits = nil
		count := make(map[Want]int)
		return scanPackages(ctx, r, fieldsOfFile, func(rec *record) error {
			if !names[string(rec.field[fieldName])] {
				return nil
			}
			if h, ok := rec.hit(); ok && (want[h.Want] || want[Want{h.Name, "", h.Architecture}]) && count[h.Want] < maxHits {
				count[h.Want]++
				*hits = append(*hits, h)
			}
			return nil
		})
	}
}

// hit makes sense of a stanza; ok is false where it is malformed.
func (r *record) hit() (h hit, ok bool) {
	size, ok := r.file()
	if !ok {
		return h, false
	}
	h.Want = Want{string(r.field[fieldName]), string(r.field[fieldVersion]), string(r.field[fieldArch])}
	h.path, h.size, h.sha256 = string(r.field[fieldPath]), size, string(r.field[fieldSum])
	return h, true
}

// file checks and cleans what a stanza says of its file.
func (r *record) file() (size int64, ok bool) {
	size, err := strconv.ParseInt(string(r.field[fieldSize]), 10, 64)
	if err != nil || size <= 0 || r.long || !isSHA256(string(r.field[fieldSum])) ||
		len(r.field[fieldVersion]) == 0 || len(r.field[fieldArch]) == 0 {
		return 0, false
	}
	r.field[fieldSum] = bytes.ToLower(r.field[fieldSum])
	clean := path.Clean(string(r.field[fieldPath]))
	if !isLocalPath(clean) {
		return 0, false
	}
	r.field[fieldPath] = append(r.field[fieldPath][:0], clean...)
	return size, true
}

// isLocalPath reports whether a path stays in its folder.
func isLocalPath(p string) bool {
	return p != "" && p != "." && p[0] != '/' && p != ".." && !strings.HasPrefix(p, "../") &&
		!strings.ContainsFunc(p, isControl)
}
