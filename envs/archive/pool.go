package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Pool is a place that offers package files before any archive is asked: a folder, or
// an address below which they lie as in an archive or all in one place. It proves
// nothing: digests come from signed indexes, and what only a pool has is compared with
// the host.
type Pool struct {
	base  string              // of an address, without a slash at the end
	files map[string][]string // of a folder: absolute paths by name
}

// maxPool bounds the package files of a folder.
const maxPool = 500_000

// OpenPool looks into a folder and all below it for package files, or takes a web
// address.
func OpenPool(place string) (Pool, error) {
	if scheme, _, ok := strings.Cut(place, "://"); ok && (scheme == "http" || scheme == "https") {
		if _, err := url.Parse(place); err != nil {
			return Pool{}, fmt.Errorf("opening pool %s: %w", place, err)
		}
		return Pool{base: strings.TrimRight(place, "/")}, nil
	}
	dir, err := filepath.Abs(place)
	if err != nil {
		return Pool{}, fmt.Errorf("opening pool %s: %w", place, err)
	}
	p := Pool{files: map[string][]string{}}
	count := 0
	err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !d.Type().IsRegular() || !strings.HasSuffix(file, ".deb"):
			return nil
		case count == maxPool:
			return fmt.Errorf("more than %d package files", maxPool)
		}
		count++
		p.files[d.Name()] = append(p.files[d.Name()], file)
		return nil
	})
	if err == nil && count == 0 {
		err = errors.New("no package file (*.deb) is in it")
	}
	if err != nil {
		return Pool{}, fmt.Errorf("opening pool %s: %w", place, err)
	}
	return p, nil
}

// names are how the file of a package is called: by apt, and in an archive, where the
// version has no epoch.
func (w Want) names() []string {
	byApt := path.Base(cacheName(w))
	_, version, epoch := strings.Cut(w.Version, ":")
	if !epoch {
		version = w.Version
	}
	return slices.Compact([]string{w.Name + "_" + version + "_" + w.Architecture + ".deb", byApt})
}

// offers are the addresses at which a pool may have a candidate's file.
func (p Pool) offers(c Candidate) (urls []string) {
	if p.base != "" {
		if c.Path != "" {
			urls = append(urls, p.base+"/"+escapePath(c.Path))
		}
		for _, name := range c.names() {
			urls = append(urls, p.base+"/"+escapePath(name))
		}
		return urls
	}
	for _, name := range append(c.names(), path.Base(c.Path)) {
		for _, file := range p.files[name] {
			if fi, err := os.Stat(file); err == nil && fi.Size() == c.Size {
				urls = append(urls, (&url.URL{Scheme: "file", Path: file}).String())
			}
		}
	}
	return urls
}

// pools takes from folders what no index names into the store.
type pools struct{ *apt }

func (p pools) Locate(ctx context.Context, want []Want) (found Found, err error) {
	for _, w := range want {
		for _, pool := range p.Pools {
			for _, name := range w.names() {
				for _, file := range pool.files[name] {
					c, err := p.take(ctx, w, file)
					if errors.As(err, new(*sinkError)) || ctx.Err() != nil {
						return found, fmt.Errorf("storing %s: %w", file, err)
					}
					if err != nil {
						p.note("reading %s: %v", file, err)
						continue
					}
					found.Candidates = append(found.Candidates, c)
				}
			}
		}
	}
	return found, nil
}

func (p pools) take(ctx context.Context, w Want, file string) (Candidate, error) {
	f, err := os.Open(file)
	if err != nil {
		return Candidate{}, err
	}
	defer f.Close()
	d, size, err := keep(ctx, p.Store, f)
	return Candidate{Want: w, Size: size, SHA256: d.Encoded()}, err
}
