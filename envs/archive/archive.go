// Package archive finds where an installed package can be fetched, and what else its
// archives offer, with a chain of signatures from the archive's key to the package's
// digest, and fetches files by digest. Each distribution has one file with its chain of places to look. It
// decides nothing about what is installed: a digest is proved by envs.
package archive

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
)

// Want names one installed package whose file is looked for.
type Want struct {
	Name         string
	Version      string // "" asks for every version that an index has
	Architecture string // "amd64", "all"
}

// Candidate is a package file that goes by the wanted name, version and
// architecture. Whether it is what is installed remains to be proved.
type Candidate struct {
	Want
	// Archive proves the file: its signed index names Path, Size and SHA256. Its
	// Name is "" for bytes that only the host's own cache holds, and nothing vouches
	// for: the caller has to keep them itself.
	Archive lock.Archive
	Path    string // below the archive's URI
	Size    int64  // bytes
	SHA256  string // lower-case hex
	// URLs are where it can be fetched, best first. There is none for an archive in
	// the host's own file system: the caller has to keep such a file itself, too.
	URLs []string
	// HostPath is a file of the host that has the name and size of this one and so
	// probably its bytes; "" where there is none. See FromHost.
	HostPath string
	// Offered are addresses in pools, which are tried before URLs and prove nothing.
	Offered []string
	// Snapshot says that URLs are of an archive of snapshots, which drops nothing and
	// was asked already.
	Snapshot bool
}

// Digest is the digest of the package file.
func (c Candidate) Digest() digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, c.SHA256)
}

// File is what Fetch needs to know of it.
func (c Candidate) File() File {
	return File{Name: c.Name + " " + c.Version, Digest: c.Digest(), Size: c.Size, URLs: slices.Concat(c.Offered, c.URLs)}
}

// Problem says why one archive could not be searched.
type Problem struct {
	Place string // "the host's apt lists", "the current index"
	URI   string // without credentials
	Suite string
	Err   error
	// Broken says that the archive answered, with an error of its own or with what
	// isn't what its key signed, and that the host has no index of it either: what the
	// archive has will be known once it is mended. One that is gone, can't be reached
	// or is signed by a key that the host doesn't trust isn't broken.
	Broken bool
	// Past says that it is an index of earlier times, which matters only where today's
	// have nothing that fits.
	Past bool
}

func (p *Problem) Error() string {
	return fmt.Sprintf("searching %s of %s: %v", p.Place, strings.TrimSpace(p.URI+" "+p.Suite), p.Err)
}

func (p *Problem) Unwrap() error { return p.Err }

// Found is the answer of a Locator.
type Found struct {
	Candidates []Candidate
	Problems   []*Problem // archives that could not be searched, and why
}

// Locator looks for package files in one place. What it can't find it leaves
// out; an error means that going on makes no sense.
type Locator interface {
	Locate(ctx context.Context, want []Want) (Found, error)
}

// chain asks one place after the other for what isn't found yet.
type chain []Locator

func (c chain) Locate(ctx context.Context, want []Want) (Found, error) {
	var all Found
	for _, l := range c {
		if len(want) == 0 {
			break
		}
		found, err := l.Locate(ctx, want)
		if err != nil {
			return all, err
		}
		all.Problems = append(all.Problems, found.Problems...)
		all.Candidates = append(all.Candidates, found.Candidates...)
		want = missing(want, found.Candidates)
	}
	return all, nil
}

// missing are those of want that no candidate answers.
func missing(want []Want, found []Candidate) []Want {
	have := make(map[Want]bool, len(found))
	for _, c := range found {
		have[c.Want] = true
	}
	var left []Want
	for _, w := range want {
		if !have[w] {
			left = append(left, w)
		}
	}
	return left
}

// distinct keeps the first of the candidates that are the same file of the same
// archive, with the addresses of all of them. Archives stay apart: one may have
// dropped a file that another still has, and a lock has to name the latter.
func distinct(cands []Candidate) (out []Candidate) {
	type key struct {
		Want
		sha256, uri, suite string
	}
	at := make(map[key]int)
	for _, c := range cands {
		k := key{c.Want, c.SHA256, c.Archive.URI, c.Archive.Suite}
		i, seen := at[k]
		if !seen {
			at[k] = len(out)
			out = append(out, c)
			continue
		}
		out[i].URLs = union(out[i].URLs, c.URLs)
	}
	return out
}

// previous answers from the lock of the release before.
type previous struct{ Debian }

func (p previous) Locate(_ context.Context, want []Want) (Found, error) {
	if p.Previous == nil {
		return Found{}, nil
	}
	archives := make(map[string]lock.Archive, len(p.Previous.Archives))
	for _, a := range p.Previous.Archives {
		archives[a.Name] = a
	}
	wanted := set(want)
	var found Found
	for _, k := range p.Previous.Packages {
		w := Want{k.Name, k.Version, k.Architecture}
		a, ok := archives[k.Archive]
		if !wanted[w] || !ok || !k.HasFile() || k.Proof == lock.Repacked {
			continue
		}
		c := Candidate{Want: w, Archive: a, Path: k.Path, Size: k.Size, SHA256: k.SHA256,
			URLs: URLs(a, k.Path, slices.Concat(p.Mirrors[a.URI], SnapshotTrees(a, p.Snapshots))), Snapshot: IsSnapshot(a, k.Path)}
		if dir, ok := (source{uri: a.URI}).local(); ok {
			c.HostPath = path.Join(dir, k.Path)
		}
		found.Candidates = append(found.Candidates, c)
	}
	return found, nil
}

func set(want []Want) map[Want]bool {
	m := make(map[Want]bool, len(want))
	for _, w := range want {
		m[w] = true
	}
	return m
}

// URLs are the addresses of the file at path in an archive: at the archive's own
// URI, where other machines can reach that, then at each mirror (http, https or
// file).
func URLs(a lock.Archive, path string, mirrors []string) []string {
	var urls []string
	seen := make(map[string]bool)
	add := func(base string) {
		u := strings.TrimRight(base, "/") + "/" + escapePath(path)
		if !seen[u] {
			seen[u] = true
			urls = append(urls, u)
		}
	}
	if scheme, _, _ := strings.Cut(a.URI, ":"); scheme == "http" || scheme == "https" {
		add(a.URI)
	}
	for _, m := range mirrors {
		add(m)
	}
	return urls
}

// escapePath quotes what would end a URL's path; archives expect the rest as it
// is written, "+" and "~" among it.
func escapePath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23", " ", "%20").Replace(path)
}

// nameArchives gives the archives of the candidates names that are unique and
// lists them in order of their first use. An archive is the same where its signed
// file is.
func nameArchives(cands []Candidate, reserved []lock.Archive) []lock.Archive {
	type key struct {
		digest     digest.Digest
		uri, suite string
	}
	of := func(a lock.Archive) key { return key{a.InRelease, a.URI, a.Suite} }
	names := make(map[key]string)
	taken := make(map[string]bool)
	for _, a := range reserved {
		names[of(a)] = a.Name
		taken[a.Name] = true
	}
	var used []lock.Archive
	listed := make(map[key]bool)
	for i := range cands {
		a := &cands[i].Archive
		if a.InRelease == "" {
			continue
		}
		k := of(*a)
		if names[k] == "" {
			names[k] = unique(a.Name, taken)
			taken[names[k]] = true
		}
		a.Name = names[k]
		if !listed[k] {
			listed[k] = true
			used = append(used, *a)
		}
	}
	return used
}

func unique(name string, taken map[string]bool) string {
	for n, try := 2, name; ; n++ {
		if !taken[try] {
			return try
		}
		try = name + "-" + strconv.Itoa(n)
	}
}
