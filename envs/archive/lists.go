package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/snapshot"
)

// lists looks into the indexes that the host's own apt keeps: what was current at
// its last update, which is what most of its packages came from.
type lists struct{ *apt }

const (
	listsDir   = "var/lib/apt/lists"
	listsPlace = "the host's apt lists"
)

// sourcesAtOnce bounds how many Release files are held at a time.
const sourcesAtOnce = 8

func (l lists) Locate(ctx context.Context, want []Want) (found Found, err error) {
	if err := l.load(ctx); err != nil {
		return found, err
	}
	files, err := l.files.list(ctx, listsDir)
	if err != nil || len(files) == 0 {
		return found, err
	}
	for some := range slices.Chunk(l.sources, sourcesAtOnce) {
		f, err := l.search(ctx, some, files, want)
		if err != nil {
			return found, err
		}
		found.Candidates = append(found.Candidates, f.Candidates...)
		found.Problems = append(found.Problems, f.Problems...)
	}
	return found, nil
}

// onHost is an index in the host's lists.
type onHost struct {
	source       source
	rel          *release
	stem, ending string
}

func (l lists) search(ctx context.Context, sources []source, files map[string]snapshot.File, want []Want) (
	found Found, err error) {
	blobs, failed, err := l.releases(ctx, sources, files)
	if err != nil {
		return found, err
	}
	indexes := make(map[string]onHost) // by real path
	for i, s := range sources {
		if failed[i] != nil {
			found.Problems = append(found.Problems, l.problem(listsPlace, s, failed[i]))
		}
		if blobs[i] == nil {
			continue
		}
		rel, err := l.verify(s, blobs[i])
		if err != nil {
			found.Problems = append(found.Problems, l.problem(listsPlace, s, err))
			continue
		}
		for _, stem := range l.stems(s, rel, want) {
			for _, e := range endings {
				if f, ok := files[listName(s, stem)+e]; ok {
					indexes[f.Path] = onHost{s, rel, stem, e}
					break
				}
			}
		}
	}
	f, err := l.read(ctx, indexes, set(want))
	found.Candidates = f.Candidates
	found.Problems = append(found.Problems, f.Problems...)
	return found, err
}

// releases reads the signed file of each source, nil where the host has none.
func (l lists) releases(ctx context.Context, sources []source, files map[string]snapshot.File) (
	blobs [][]byte, failed []error, err error) {
	var names []string
	for _, s := range sources {
		for _, name := range []string{"InRelease", "Release", "Release.gpg"} {
			if _, ok := files[listName(s, name)]; ok {
				names = append(names, listName(s, name))
			}
		}
	}
	slices.Sort(names)
	content, unread, err := l.files.slurp(ctx, slices.Compact(names), maxRelease)
	if err != nil {
		return nil, nil, err
	}
	blobs, failed = make([][]byte, len(sources)), make([]error, len(sources))
	for i, s := range sources {
		in, text, sig := listName(s, "InRelease"), listName(s, "Release"), listName(s, "Release.gpg")
		switch {
		case content[in] != nil:
			blobs[i] = content[in]
		case content[text] != nil && content[sig] != nil:
			blobs[i], failed[i] = joinDetached(content[text], content[sig])
		case content[text] != nil:
			failed[i] = errors.New("it is not signed")
		default:
			failed[i] = errors.Join(unread[in], unread[text], unread[sig])
		}
	}
	return blobs, failed, nil
}

// read searches the indexes, in one reading of the host.
func (l lists) read(ctx context.Context, indexes map[string]onHost, want map[Want]bool) (found Found, err error) {
	paths := make([]string, 0, len(indexes))
	for p := range indexes {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	hits := make(map[string][]hit)
	err = l.Host.Read(ctx, paths, func(p string, r io.Reader, err error) error {
		x := indexes[p]
		if err == nil {
			hits[p], err = searchIndex(ctx, x.rel, x.stem, x.ending, r, want)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			found.Problems = append(found.Problems, l.problem(listsPlace, x.source, fmt.Errorf("reading /%s: %w", p, err)))
		default:
			l.searched[searchKey(x.rel, x.stem)] = true
			l.listed[x.source.uri+" "+x.source.suite] = true
		}
		return nil
	})
	if err != nil {
		return found, err
	}
	for _, p := range paths {
		c, err := l.candidates(ctx, indexes[p].source, indexes[p].rel, hits[p])
		if err != nil {
			return found, err
		}
		found.Candidates = append(found.Candidates, c...)
	}
	return found, nil
}

func searchKey(rel *release, stem string) string {
	return digest.FromBytes(rel.blob).Encoded() + " " + stem
}

// listName is the name below the host's root that apt gives a file of a source: its
// address without the scheme, some characters quoted, and "_" for "/".
func listName(s source, name string) string {
	_, rest, _ := strings.Cut(s.uri, ":")
	rest = strings.TrimPrefix(rest, "//") + "/" + s.base() + name
	var b strings.Builder
	for i := range len(rest) {
		switch c := rest[i]; {
		case c == '/':
			b.WriteByte('_')
		case c <= 0x20 || c >= 0x7F || strings.IndexByte(`\|{}[]<>"^~_=!@#$%&*`, c) >= 0:
			fmt.Fprintf(&b, "%%%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	return listsDir + "/" + b.String()
}
