package archive

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/opencontainers/go-digest"
)

// Shipped says which packages ship files.
type Shipped struct {
	Packages map[string][]string // names, sorted, by the pattern that was asked for
	// Problems are archives whose index of files could not be read: what is in there is
	// missing here.
	Problems []*Problem
}

// The bounds of an index of files; Debian's of main have 650 MB in five million lines.
const (
	maxContentsLine = 1 << 20 // bytes
	maxShippers     = 500     // packages for one pattern
)

// NoPatternError says that nothing can be looked for by a pattern.
type NoPatternError struct{ Pattern string }

func (e *NoPatternError) Error() string {
	return fmt.Sprintf("looking for %q: it is no path of a file", e.Pattern)
}

// Hint says what one looks like.
func (e *NoPatternError) Hint() string {
	return "a path is like /usr/bin/cmake, or */pkgconfig/openssl.pc for one in any folder"
}

// Shipping finds which packages of a host's archives ship files of that path, such as
// "usr/bin/cmake", or of one whose end is known, such as "*/pkgconfig/openssl.pc". Of
// opts, Machine counts.
func (d Debian) Shipping(ctx context.Context, paths []string, opts OfferOptions) (*Shipped, error) {
	d.Fetch.Attempts = cmp.Or(d.Fetch.Attempts, askAttempts)
	a := newApt(d)
	if err := a.load(ctx); err != nil {
		return nil, err
	}
	a.addLocked()
	a.standIn = func(s source) openpgp.EntityList { return a.recordedKeys(ctx, opts.Machine, s) }
	f := &shippers{apt: a, found: make(map[string][]string)}
	for _, p := range paths {
		n, err := a.needles(ctx, p)
		if err != nil {
			return nil, err
		}
		f.needles = append(f.needles, n...)
	}
	all, err := a.today(ctx, a.Architecture, "all")
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.err != nil {
			f.trouble(t.source, t.err)
		}
		if t.rel == nil {
			continue
		}
		if err := f.source(ctx, t.source, t.rel); err != nil {
			return nil, err
		}
	}
	for p, names := range f.found {
		slices.Sort(names)
		f.found[p] = slices.Compact(names)
	}
	return &Shipped{Packages: f.found, Problems: f.problems}, nil
}

// needle is what is looked for: a path from the root, or the end of one that begins
// with a slash.
type needle struct{ pattern, path string }

// needles are the spellings of a pattern in an index: a package may have been made
// before the host's /bin became a link into /usr, or after.
func (a *apt) needles(ctx context.Context, pattern string) ([]needle, error) {
	if end, ok := strings.CutPrefix(pattern, "*/"); ok {
		if !isLocalPath(end) || strings.ContainsAny(end, "*\n") || strings.HasSuffix(end, "/") {
			return nil, &NoPatternError{pattern}
		}
		return []needle{{pattern, "/" + end}}, nil
	}
	p := strings.TrimLeft(pattern, "/")
	if !isLocalPath(p) || strings.ContainsAny(p, "*\n") || strings.HasSuffix(p, "/") {
		return nil, &NoPatternError{pattern}
	}
	all := []needle{{pattern, p}}
	below, inUsr := strings.CutPrefix(p, "usr/")
	top, _, _ := strings.Cut(below, "/")
	if !strings.HasPrefix(top, "lib") && top != "bin" && top != "sbin" {
		return all, nil
	}
	real, err := a.files.resolve(ctx, top)
	switch {
	case err != nil:
		return nil, err
	case real != "usr/"+top:
	case inUsr:
		all = append(all, needle{pattern, below})
	default:
		all = append(all, needle{pattern, "usr/" + p})
	}
	return all, nil
}

// shippers collects who ships what.
type shippers struct {
	*apt
	needles  []needle
	found    map[string][]string
	problems []*Problem
}

func (f *shippers) trouble(s source, err error) {
	f.problems = append(f.problems, &Problem{Place: "the index of files", URI: s.uri, Suite: s.suite, Err: err, Broken: isBroken(err)})
}

// source looks into a source's indexes of files.
func (f *shippers) source(ctx context.Context, s source, rel *release) error {
	var stems []string
	for _, arch := range []string{f.Architecture, "all"} {
		for _, dir := range append([]string{""}, s.components...) {
			stem := strings.TrimPrefix(dir+"/Contents-"+arch, "/")
			if rel.sum(stem) != "" {
				stems = append(stems, stem)
			}
		}
	}
	if len(stems) == 0 {
		f.trouble(s, errors.New("its InRelease lists none"))
	}
	for _, stem := range stems {
		err := f.index(ctx, s, rel, stem)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, new(*sinkError)):
			return err
		case err != nil:
			f.trouble(s, fmt.Errorf("reading %s: %w", stem, err))
		}
	}
	return nil
}

// index looks into one index of files, for what wasn't asked of it before.
func (f *shippers) index(ctx context.Context, s source, rel *release, stem string) error {
	if rel.isEmpty(stem) {
		return nil
	}
	key := func(n needle) string {
		return "shipping-" + digest.FromString(rel.sum(stem)+"\x00"+n.path).Encoded()
	}
	var ask []needle
	for _, n := range f.needles {
		if known, err := f.Store.Recall(key(n)); err == nil {
			f.found[n.pattern] = append(f.found[n.pattern], strings.Fields(known)...)
		} else {
			ask = append(ask, n)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	var found [][]string
	err := current{f.apt}.index(ctx, s, rel, stem, func(r io.Reader) (err error) {
		found, err = scanContents(ctx, r, ask)
		return err
	})
	if err != nil {
		return err
	}
	for i, n := range ask {
		if len(found[i]) == maxShippers {
			f.note("more than %d packages of %s %s ship %s", maxShippers, s.uri, s.suite, n.pattern)
		}
		f.found[n.pattern] = append(f.found[n.pattern], found[i]...)
		if err := f.Store.Remember(key(n), strings.Join(found[i], "\n")); err != nil {
			return &sinkError{err}
		}
	}
	return nil
}

// isEmpty reports whether an index is listed as having nothing in it: it isn't even
// served then.
func (r *release) isEmpty(stem string) bool {
	l, ok := r.files[stem]
	return ok && l.size == 0
}

// scanContents finds the packages for each needle in an index of files: lines of a path
// and, behind blanks, the packages that ship it. There are millions of lines, so whole
// blocks of them are searched for the paths before any is looked at.
func scanContents(ctx context.Context, r io.Reader, needles []needle) ([][]string, error) {
	found := make([][]string, len(needles))
	buf := make([]byte, 1+maxContentsLine)
	buf[0] = '\n' // so that every line has one before it
	have, skip := 1, false
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(r, buf[have:])
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return nil, err
		}
		have += n
		whole := bytes.LastIndexByte(buf[1:have], '\n') + 1 // of the lines that are complete
		if end {
			whole = have
		}
		block := buf[:whole]
		if skip { // the rest of a line that is too long
			i := bytes.IndexByte(buf[1:have], '\n')
			if block = nil; i >= 0 {
				block, skip = buf[i+1:max(whole, i+1)], false
			}
		}
		for i, n := range needles {
			found[i] = searchBlock(block, n.path, found[i])
		}
		if end {
			return found, nil
		}
		if whole == 0 {
			skip, have = true, 1
			continue
		}
		have = 1 + copy(buf[1:], buf[whole+1:have])
	}
}

// searchBlock searches whole lines, each with a line break before it.
func searchBlock(block []byte, path string, found []string) []string {
	key := []byte(path)
	if path[0] != '/' {
		key = []byte("\n" + path)
	}
	for len(found) < maxShippers {
		i := bytes.Index(block, key)
		if i < 0 {
			break
		}
		begin := bytes.LastIndexByte(block[:i+1], '\n') + 1
		line := block[begin:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line, block = line[:end], line[end:]
		} else {
			block = nil
		}
		line = bytes.TrimRight(line, " \t\r")
		gap := bytes.LastIndexAny(line, " \t")
		if gap < 0 {
			continue
		}
		name := bytes.TrimRight(line[:gap], " \t")
		if path[0] != '/' && string(name) == path || path[0] == '/' && bytes.HasSuffix(name, key) {
			found = addShippers(found, string(line[gap+1:]))
		}
	}
	return found
}

// addShippers takes the names of packages out of a line: "devel/cmake,contrib/utils/x".
func addShippers(found []string, places string) []string {
	for place := range strings.SplitSeq(places, ",") {
		name := place[strings.LastIndexByte(place, '/')+1:]
		if isPackageName(name) && !slices.Contains(found, name) && len(found) < maxShippers {
			found = append(found, name)
		}
	}
	return found
}

// isPackageName is deb-control(5)'s rule.
func isPackageName(s string) bool {
	return len(s) > 1 && len(s) < 256 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == "" && s[0] != '+' && s[0] != '-' && s[0] != '.'
}
